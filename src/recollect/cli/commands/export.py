"""`recollect export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recollect.catalog.catalog import Catalog
from recollect.cli import nvec_export
from recollect.cli.options import CollectionOption, SnapshotArgument
from recollect.cli.session import Session, chosen_collection
from recollect.cli.text import count_text, printable, size_text
from recollect.operations import export
from recollect.operations.reading import unless_forgotten

STOPPED = "no file was written"


def run(
    session: Session,
    snapshot: SnapshotArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New file: .parquet or .nvec.")],
    *,
    collection: CollectionOption = "",
) -> None:
    """Write one collection of a snapshot as one Parquet file that DuckDB, Polars and pandas read.

    With a name that ends in .nvec it is a snapshot file of nvecd; of an embedded database with everything.
    """
    with session.reading(f"export of {snapshot}") as repository:
        catalog = Catalog(repository)
        found = catalog.find(snapshot)
        with unless_forgotten(catalog, found):
            if out.suffix == nvec_export.SUFFIX:
                nvec_export.run(session, found, out, collection=collection)
                return
            entry = chosen_collection(found, collection)
            report = export.run(repository, entry, out, on_event=session.output.on_event)
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
