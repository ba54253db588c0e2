"""`recollect archive`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.session import Session
from recollect.cli.text import count_text, size_text
from recollect.database.archive import Archiver
from recollect.errors import LeaseHeldError, RequestError, UnavailableError

_INTERVAL = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

STOPPED = "everything that was reported as archived is in the repository"


def run(
    session: Session,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A database's data directory; it may be in use.")
    ],
    *,
    interval: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Go on for ever, one pass every TIME (like 5s). Without: one pass."
        ),
    ] = "",
) -> None:
    """Ship the commit log of an embedded database to the repository.

    A lost disk then loses at most the interval: `recollect recover REPOSITORY --to latest --into DIR`
    brings the database back on an empty machine.
    """
    pause_s = interval_seconds(interval) if interval else 0.0
    with Archiver(
        Path(data.removeprefix("recollect://")),
        session.repository(),
        clock=session.context.clock,
        random_bytes=session.context.random_bytes,
        wait_s=session.wait_s,
    ) as archiver:
        _one_pass(session, archiver)
        while pause_s:
            session.context.clock.sleep(pause_s)
            _one_pass_or_note(session, archiver)


def _one_pass_or_note(session: Session, archiver: Archiver) -> None:
    try:
        _one_pass(session, archiver)
    except (UnavailableError, LeaseHeldError) as error:
        session.output.note(f"this pass failed and is made up for by the next: {error.message}")


def interval_seconds(text: str) -> float:
    """Read a span like 5s, 500ms, 2m or 1h."""
    match = _INTERVAL.fullmatch(text)
    if match is None or not float(match[1]):
        raise RequestError(f"{text!r} is no interval", "write it like 5s, 500ms, 2m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def _one_pass(session: Session, archiver: Archiver) -> None:
    done = archiver.run_once()
    for gap in done.gaps:
        session.output.note(
            f"the archive lacks commits {gap.first} to {gap.last}: the log had dropped them; "
            "a checkpoint stands in for them"
        )
    for message in done.damage:
        session.output.note(f"a piece of the archive is damaged and was not joined with others: {message}")
    session.output.say(
        f"archived up to commit {done.last_ts}: {count_text(done.shipped_count, 'commit')}, "
        f"{size_text(done.added_bytes)} added"
    )
    session.output.summary(
        {
            "stream": archiver.stream.name,
            "last_ts": done.last_ts,
            "shipped_count": done.shipped_count,
            "added_bytes": done.added_bytes,
            "gaps": [{"first": gap.first, "last": gap.last} for gap in done.gaps],
            "joined_count": done.joined_count,
            "damage": list(done.damage),
        }
    )
