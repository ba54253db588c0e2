"""`recollect export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.options import CollectionOption, SnapshotArgument
from recollect.cli.session import Session, chosen_collection
from recollect.cli.text import count_text, printable, size_text
from recollect.operations import export

STOPPED = "no file was written"


def run(
    session: Session,
    snapshot: SnapshotArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write; it must not exist.")],
    *,
    collection: CollectionOption = "",
) -> None:
    """Write one collection of a snapshot as one Parquet file that DuckDB, Polars and pandas read."""
    catalog = session.catalog()
    found = catalog.find(snapshot)
    entry = chosen_collection(found, collection)
    report = export.run(catalog.repository, entry, out, on_event=session.output.on_event)
    session.output.say(
        f"wrote {count_text(report.record_count, 'record')} to {printable(report.path)}, "
        f"{size_text(report.byte_size)}"
    )
    session.output.say(printable(f"columns: {', '.join(report.columns)}"))
    session.output.summary(
        {
            "snapshot_id": found.id,
            "collection": entry.name,
            "path": report.path,
            "record_count": report.record_count,
            "byte_size": report.byte_size,
            "columns": report.columns,
        }
    )
