"""Verifying a snapshot: every byte of its whole chain, and that the records add up to its fingerprint."""

from __future__ import annotations

import hashlib

import msgspec

from recollect.compat.ruvector import layout
from recollect.compat.ruvector.catalog import SnapshotCatalog
from recollect.compat.ruvector.layout import SnapshotDocument
from recollect.compat.ruvector.reading import ReadOptions, merge, read_graph
from recollect.compat.ruvector.rows import digest_rows
from recollect.errors import IntegrityError, NotFoundError
from recollect.values.event import OnEvent, Progress
from recollect.values.fingerprint import Fingerprint
from recollect.values.schema import VectorSpec


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found.

    Attributes:
        chain: The snapshots that were looked at: the one asked for, its base, that one's base, …
        record_count: Records read.
        problem: What is wrong, naming the file; empty if nothing is.
    """

    snapshot_id: str
    chain: tuple[str, ...] = ()
    record_count: int = 0
    problem: str = ""

    @property
    def is_intact(self) -> bool:
        """Whether the snapshot restores exactly."""
        return not self.problem


def verify(
    catalog: SnapshotCatalog, snapshot_id: str, options: ReadOptions, on_event: OnEvent
) -> SnapshotReport:
    """Check a snapshot and all its bases; damage is reported, everything else raised.

    Checked: SHA-256 of all files, CRC-32 of all members, layout, counts, and that the merged
    records have the fingerprint of the database that was held still.
    """
    names: tuple[str, ...] = ()
    count = 0
    try:
        chain = catalog.chain(snapshot_id)
        names = tuple(one.snapshot.id for one in chain)
        for document in chain:
            _check_document(catalog, document)
            read_graph(catalog, document, options)
        spec = VectorSpec(name="") if chain[0].schema is None else chain[0].schema.vectors[0]
        total = chain[0].snapshot.vector_count
        found = Fingerprint()
        for merged in merge(catalog, chain, options):
            if merged.batch.keys:
                found += digest_rows(merged.batch, spec).fingerprint
            count = found.record_count
            on_event(Progress(stage="verify", subject=snapshot_id, done=count, total=total))
        expected = chain[0].snapshot.metadata.get("fingerprint")
        problem = "" if str(found) == expected else f"the records have fingerprint {found}, not {expected}"
    except IntegrityError as error:
        return SnapshotReport(snapshot_id=snapshot_id, chain=names, record_count=count, problem=error.message)
    return SnapshotReport(snapshot_id=snapshot_id, chain=names, record_count=count, problem=problem)


def _check_document(catalog: SnapshotCatalog, document: SnapshotDocument) -> None:
    key = layout.file_key(document.snapshot.id, layout.DOCUMENT)
    try:
        data = catalog.store.get(key)
    except NotFoundError as error:
        raise IntegrityError(f"{catalog.store.url}: {key} is missing") from error
    if hashlib.sha256(data).hexdigest() != catalog.digests(document)[layout.DOCUMENT]:
        raise IntegrityError(f"{catalog.store.url}: {key} has another SHA-256 than when it was written")
