"""`recollect recover`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.session import Session
from recollect.cli.text import count_text
from recollect.compat.statehouse.json_snapshot import import_snapshot
from recollect.database.archive import archived_source
from recollect.database.log.files import DiskFiles
from recollect.database.recovery import (
    Reach,
    RecoverySource,
    data_directory_source,
    parse_target,
    recover,
    recovery_window,
)
from recollect.errors import RequestError
from recollect.repository.lease import hold_reader_lease
from recollect.wiring import open_repository

STOPPED = "the source is untouched; run the same command again"


def run(
    session: Session,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A database's data directory, or the repository it was archived to."
        ),
    ],
    *,
    to: Annotated[
        str,
        typer.Option(metavar="TARGET", help="commit:N, a time like 2026-11-20T12:00:00Z, or latest."),
    ] = "",
    into: Annotated[
        str, typer.Option(metavar="DIR", help="New data directory; by default one beside the source.")
    ] = "",
    stream: Annotated[
        str, typer.Option(metavar="ID", help="Which database, if the repository has journals of several.")
    ] = "",
    list_window: Annotated[
        bool, typer.Option("--list", help="Show what can be recovered, and do nothing.")
    ] = False,
) -> None:
    """Make a new database as an embedded one was after any commit, or at any time.

    The source is only read. What can be recovered is every checkpoint, and every commit
    after one up to where the log ends or is damaged. A snapshot-N.json of Statehouse is
    imported: its state, without history.
    """
    if source.endswith(".json"):
        _import(session, Path(source), into)
        return
    found = _source(session, source, stream)
    with _kept(session, found):
        if list_window:
            _show(session, recovery_window(found))
            return
        target = parse_target(to or "latest")
        made = recover(
            found,
            target,
            Path(into) if into else _beside(source),
            files=DiskFiles(),
            clock=session.context.clock,
            random_bytes=session.context.random_bytes,
        )
    session.output.say(f"recovered commit {made.commit_ts} of {made.time.isoformat()} into {made.path}")
    session.output.summary({"path": str(made.path), "commit_ts": made.commit_ts, "time": made.time})


def _import(session: Session, path: Path, into: str) -> None:
    """Make a database of one of Statehouse's JSON snapshots."""
    if not into:
        raise RequestError(f"it is not said where to recover {path} to", "give --into DIR")
    made = import_snapshot(
        path, Path(into), clock=session.context.clock, random_bytes=session.context.random_bytes
    )
    session.output.say(f"imported commit {made.commit_ts} of {path.name} into {made.path}")
    session.output.summary({"path": str(made.path), "commit_ts": made.commit_ts, "time": made.time})


def _source(session: Session, text: str, stream: str) -> RecoverySource:
    path = Path(text.removeprefix("recollect://"))
    if (path / "log").is_dir():
        return data_directory_source(DiskFiles(), path)
    return archived_source(open_repository(text, session.context), stream)


def _kept(session: Session, source: RecoverySource) -> AbstractContextManager[None]:
    """Keep what a repository holds from being pruned meanwhile; nothing is written to a data directory."""
    if isinstance(source.log.files, DiskFiles):
        return nullcontext()
    return hold_reader_lease(
        source.checkpoints,
        purpose="recover",
        clock=session.context.clock,
        random_bytes=session.context.random_bytes,
    )


def _beside(source: str) -> Path:
    path = Path(source.removeprefix("recollect://"))
    if not path.is_dir():
        raise RequestError(f"it is not said where to recover {source} to", "give --into DIR")
    return path.with_name(f"{path.name}-recovered")


def _show(session: Session, window: list[Reach]) -> None:
    rows = [
        [str(reach.first_ts), _time(reach.first_time), str(reach.last_ts), _time(reach.last_time)]
        for reach in window
    ]
    session.output.table(
        ["From commit", "Time", "To commit", "Time "], rows, right=["From commit", "To commit"]
    )
    session.output.detail(f"{count_text(len(window), 'range')} without gaps")
    for reach in window:
        session.output.emit(
            "range",
            {
                "first_ts": reach.first_ts,
                "last_ts": reach.last_ts,
                "first_time": reach.first_time,
                "last_time": reach.last_time,
            },
        )
    session.output.summary({"range_count": len(window)})


def _time(moment: object) -> str:
    return "" if moment is None else str(moment).replace("+00:00", "Z").replace(" ", "T")
