"""`recollect unlock`."""

from __future__ import annotations

from typing import Annotated

import typer

from recollect.cli.session import Session
from recollect.cli.text import count_text
from recollect.operations import unlock

STOPPED = "run the same command again"


def run(
    session: Session,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of living processes, and of machines that are no more.")
    ] = False,
) -> None:
    """Clear leases that dead processes left behind.

    Safe for committed snapshots: a backup whose lease is taken away fails instead of committing.
    """
    removed, remaining = unlock.run(
        session.repository(), clock=session.context.clock, which="all" if everything else "dead"
    )
    session.output.say(f"{count_text(len(removed), 'lease')} removed, {len(remaining)} in use")
    session.output.summary({"removed": removed, "remaining": remaining})
