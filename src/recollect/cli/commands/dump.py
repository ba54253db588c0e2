"""`recollect dump`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from recollect import __version__
from recollect.cli.options import CollectionsOption
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, seconds_text, size_text
from recollect.compat.arcaneum import dump
from recollect.compat.arcaneum.server import open_server
from recollect.errors import EXIT_PARTIAL
from recollect.settings import load_dump_settings

STOPPED = "no dump was written; run the same command again"


def run(
    session: Session,
    qdrant: Annotated[
        str, typer.Argument(metavar="[QDRANT]", help="Server [QDRANT_HOST].", show_default=False)
    ] = "",
    *,
    collection: CollectionsOption = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Backup directory, in which the dump gets its own [BACKUP_DIR].",
        ),
    ] = "",
    keep: Annotated[
        int | None, typer.Option(metavar="N", help="Remove all but the newest N dumps of that directory.")
    ] = None,
    container: Annotated[
        str, typer.Option(metavar="NAME", help="Copy files through this container [CONTAINER_NAME].")
    ] = "",
) -> int:
    """Write native Qdrant snapshots of all collections into a directory, checked, with a manifest.

    Exit code 3 means that some collections could not be dumped; they are named.
    """
    settings = load_dump_settings()
    options = dump.DumpOptions(
        directory=Path(output) if output else settings.directory,
        collections=tuple(collection or ()),
        keep=keep,
        container=container or settings.container,
        tool_version=__version__,
    )
    with closing(open_server(qdrant or settings.server, session.context)) as server:
        report = dump.run(
            server, options=options, clock=session.context.clock, on_event=session.output.on_event
        )
    _tell(session, report)
    return 0 if report.is_complete else EXIT_PARTIAL


def _tell(session: Session, report: dump.DumpReport) -> None:
    output, manifest = session.output, report.manifest
    output.table(
        ["Collection", "Records", "Size", "Checksum", "File"],
        [
            [
                one.name,
                count_text(one.record_count_max),
                size_text(one.byte_size),
                "equal" if one.is_proven else "server tells none",
                one.file,
            ]
            for one in manifest.collections
        ],
        right=["Records", "Size"],
    )
    for failed in manifest.failed:
        output.say(printable(f"NOT dumped: {failed.name}: {failed.message}"))
    for path in report.removed:
        output.say(printable(f"removed {path}"))
    output.say(
        printable(f"dumped {count_text(len(manifest.collections), 'collection')} into {report.path}, ")
        + seconds_text(report.duration_seconds)
    )
    output.summary(
        {
            "path": str(report.path),
            "source": manifest.source,
            "is_complete": report.is_complete,
            "collections": list(manifest.collections),
            "failed": list(manifest.failed),
            "removed": [str(path) for path in report.removed],
            "duration_seconds": round(report.duration_seconds, 3),
        }
    )
