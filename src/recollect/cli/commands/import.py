"""`recollect import`."""  # noqa: N999 -- named like the command

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect import __version__
from recollect.catalog.tags import check_tag
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, size_text
from recollect.compat.nvecd.repository import import_file
from recollect.operations import backup

STOPPED = "no snapshot was made"


def run(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE.nvec", help="Snapshot file of nvecd.")],
    *,
    name: Annotated[str, typer.Option(metavar="N", help="Name of the snapshot, to select it by.")] = "",
    description: Annotated[str, typer.Option(metavar="D", help="A sentence to keep with the snapshot.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="T", help="Tag; may be repeated.")] = None,
) -> None:
    """Store a snapshot file of nvecd as a snapshot in the repository; it is checked whole before."""
    options = backup.BackupOptions(
        name=name,
        description=description,
        tags=tuple(map(check_tag, tag or ())),
        host=session.settings.host,
        tool_version=__version__,
        wait_s=session.wait_s,
    )
    report = import_file(
        path.absolute(),
        session.repository(),
        options=options,
        clock=session.context.clock,
        random_bytes=session.context.random_bytes,
    )
    snapshot = report.snapshot
    session.output.say(f"snapshot {snapshot.id} of {printable(str(path))}")
    for entry in snapshot.collections:
        session.output.say(printable(f"  {entry.name}: {count_text(entry.record_count, 'record')}"))
    session.output.say(f"{size_text(report.stored_bytes)} added to the repository")
    session.output.summary(
        {
            "snapshot_id": snapshot.id,
            "name": snapshot.name,
            "collections": {entry.name: entry.record_count for entry in snapshot.collections},
            "stored_bytes": report.stored_bytes,
        }
    )
