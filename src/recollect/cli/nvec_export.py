"""`recollect export SNAP OUT.nvec`: a snapshot as a snapshot file of nvecd."""

from __future__ import annotations

from pathlib import Path

from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, size_text
from recollect.compat.nvecd.repository import export_snapshot
from recollect.compat.nvecd.snapshot.layout import NVECD_LIMITS
from recollect.values.snapshot import Snapshot

SUFFIX = ".nvec"


def run(session: Session, found: Snapshot, out: Path, *, collection: str) -> None:
    """Write the file, and say so if nvecd itself could not read it."""
    catalog = session.catalog()
    exported = export_snapshot(
        found, catalog.repository, out, clock=session.context.clock, collection=collection
    )
    counts, size = exported.counts, exported.written.file_size
    session.output.say(
        f"wrote {count_text(counts.vector_count, 'vector')} and {count_text(counts.event_count, 'event')} "
        f"to {printable(str(exported.path))}, {size_text(size)}"
    )
    if size > NVECD_LIMITS.store_bytes_max:
        session.output.say("nvecd reads stores of up to 512 MiB; one of this file may be larger")
    session.output.summary(
        {
            "snapshot_id": found.id,
            "collection": collection,
            "path": str(exported.path),
            "vector_count": counts.vector_count,
            "event_count": counts.event_count,
            "byte_size": size,
        }
    )
