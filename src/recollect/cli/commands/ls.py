"""`recollect ls`."""

from __future__ import annotations

from recollect.cli.commands.show import vector_text
from recollect.cli.options import CollectionOption, SnapshotArgument
from recollect.cli.session import Session, chosen_collection
from recollect.cli.text import count_text, printable, size_text
from recollect.repository.repository import Repository
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.key import decode_keys
from recollect.values.snapshot import CollectionEntry, Snapshot

STOPPED = "nothing was changed"


def run(session: Session, snapshot: SnapshotArgument, *, collection: CollectionOption = "") -> None:
    """List the collections of a snapshot; with --collection, the ids of its records."""
    catalog = session.catalog()
    found = catalog.find(snapshot)
    if collection:
        _list_records(session, catalog.repository, chosen_collection(found, collection))
    else:
        _list_collections(session, found)


def _list_collections(session: Session, snapshot: Snapshot) -> None:
    session.output.table(
        ["Collection", "Records", "Size", "Vectors", "Aliases"],
        [
            [
                entry.name,
                count_text(entry.record_count),
                size_text(entry.source_bytes),
                ", ".join(map(vector_text, entry.schema.vectors)),
                ", ".join(entry.aliases),
            ]
            for entry in snapshot.collections
        ],
        right=["Records", "Size"],
    )
    for entry in snapshot.collections:
        facts = {"name": entry.name, "record_count": entry.record_count, "fingerprint": entry.fingerprint}
        facts |= {"source_bytes": entry.source_bytes, "aliases": entry.aliases}
        facts |= {
            "vectors": [
                {"name": v.name, "kind": v.kind, "dimension": v.dimension} for v in entry.schema.vectors
            ]
        }
        session.output.emit("collection", facts)
    session.output.summary({"snapshot_id": snapshot.id, "collection_count": len(snapshot.collections)})


def _list_records(session: Session, repository: Repository, entry: CollectionEntry) -> None:
    count = 0
    for batch in RunsReader(repository, entry.schema, entry.runs).index():
        for record_id in decode_keys(batch.column(columns.KEY)):
            session.output.say(printable(str(record_id)))
            session.output.emit("record", {"collection": entry.name, "record_id": record_id})
            count += 1
    session.output.summary({"collection": entry.name, "record_count": count})
