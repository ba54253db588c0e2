"""`recollect show`."""

from __future__ import annotations

import msgspec

from recollect.cli.options import SnapshotArgument
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, seconds_text, size_text, time_text
from recollect.values.schema import VectorSpec
from recollect.values.snapshot import CollectionEntry, ShardEntry, Snapshot

STOPPED = "nothing was changed"


def run(session: Session, snapshot: SnapshotArgument) -> None:
    """Show one snapshot in full: where it comes from, its collections, their fingerprints and schemas."""
    found = session.catalog().find(snapshot)
    session.output.table(["Snapshot", found.id], _rows(found))
    for entry in found.collections:
        session.output.say(f"\ncollection {printable(entry.name)}")
        session.output.table(["  Records", count_text(entry.record_count)], _collection_rows(entry))
        if entry.shards:
            head = ["  Shard", "Key", "From node", "Of nodes", "Consistency", "Transfer", "Transferred"]
            session.output.table([*head, "Files"], [_shard_row(each) for each in entry.shards])
    session.output.emit("snapshot", {"snapshot_id": found.id, **msgspec.to_builtins(found)})
    session.output.summary({"snapshot_id": found.id, "collection_count": len(found.collections)})


def _rows(snapshot: Snapshot) -> list[list[str]]:
    rows = [
        ["Time (UTC)", time_text(snapshot.created_at)],
        ["Name", snapshot.name],
        ["Description", snapshot.description],
        ["Tags", ", ".join(snapshot.tags)],
        ["Source", snapshot.source],
        ["Engine", f"{snapshot.engine} {snapshot.engine_version}".strip()],
        ["Host", snapshot.host],
        ["Written by", f"recollect {snapshot.tool_version}"],
        ["Parent", snapshot.parent or "none: stored in full"],
        ["Stored", f"{size_text(snapshot.stored_bytes)} in {seconds_text(snapshot.duration_seconds)}"],
    ]
    return [row for row in rows if row[1]]


def _collection_rows(entry: CollectionEntry) -> list[list[str]]:
    changes = entry.changes
    stored = sum(reference.byte_size for reference in set(entry.objects()))
    rows = [
        ["  Fingerprint", entry.fingerprint],
        ["  Consistency", entry.consistency],
        ["  Changes", f"{changes.added} added, {changes.changed} changed, {changes.removed} removed"],
        ["  Aliases", ", ".join(entry.aliases)],
        ["  Vectors", ", ".join(map(vector_text, entry.schema.vectors))],
        [
            "  Payload indexes",
            ", ".join(f"{index.field} ({index.type})" for index in entry.schema.payload_indexes),
        ],
        ["  Size", f"{size_text(entry.source_bytes)} of records in {size_text(stored)}"],
        ["  Runs", f"{len(entry.runs)} with {count_text(len(entry.segments()), 'segment')}"],
    ]
    return [row for row in rows if row[1]]


def _shard_row(shard: ShardEntry) -> list[str]:
    stored = {piece.object for file in shard.files for piece in file.pieces}
    return [
        f"  {shard.shard_id}",
        "" if shard.shard_key is None else printable(str(shard.shard_key)),
        shard.replica,
        ", ".join(shard.replicas),
        shard.consistency,
        shard.transfer,
        size_text(shard.transferred_bytes),
        size_text(sum(reference.byte_size for reference in stored)) if shard.files else "",
    ]


def vector_text(spec: VectorSpec) -> str:
    """Render a vector for people: `title float32[384] cosine`; the unnamed one is `(unnamed)`."""
    shape = "sparse" if spec.kind == "sparse" else f"{spec.datatype}[{spec.dimension}]"
    words = [spec.name or "(unnamed)", "multi" if spec.kind == "multi" else "", shape, spec.metric or ""]
    return " ".join(word for word in words if word)
