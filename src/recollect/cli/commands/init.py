"""`recollect init`."""

from __future__ import annotations

from recollect.cli.session import Session

STOPPED = "run the same command again; a repository that was begun is completed or named as such"


def run(session: Session) -> None:
    """Create a repository at REPO.

    The place must be empty or absent. For a cloud store, what it really guarantees is tried out first.
    """
    repository = session.create_repository()
    session.output.say(f"created repository {repository.config.id} at {repository.url}")
    session.output.say(f"next: recollect backup SOURCE -r {repository.url}")
    session.output.summary(
        {
            "repository_id": repository.config.id,
            "url": repository.url,
            "format": repository.config.format,
            "created_at": repository.config.created_at,
        }
    )
