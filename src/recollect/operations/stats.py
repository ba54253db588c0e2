"""Stats: how much the repository holds and what it saves."""

from __future__ import annotations

import msgspec

from recollect.catalog.catalog import Catalog
from recollect.repository import layout
from recollect.repository.repository import Repository


class StatsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes.

    Attributes:
        full_copies_bytes: What full, uncompressed copies of all snapshots' records would take.
        latest_source_bytes: The same for the newest snapshot alone.
        listed_bytes: Objects that some snapshot lists, each once.
        unlisted_bytes: Objects that none lists; `prune` frees them.
    """

    repository_id: str
    snapshot_count: int
    object_count: int
    listed_bytes: int
    unlisted_count: int
    unlisted_bytes: int
    snapshot_bytes: int
    full_copies_bytes: int
    latest_source_bytes: int
    latest_record_count: int


def run(repository: Repository) -> StatsReport:
    """Add up listings and snapshots. Reads only; no object is opened."""
    catalog = Catalog(repository)
    snapshots = catalog.list()
    listed = {reference.digest for snapshot in snapshots for reference in snapshot.objects()}
    listed_bytes, unlisted_bytes, unlisted_count, object_count = 0, 0, 0, 0
    for item in repository.list_objects():
        object_count += 1
        if layout.object_digest(item.key) in listed:
            listed_bytes += item.byte_size
        else:
            unlisted_bytes += item.byte_size
            unlisted_count += 1
    sizes = [sum(entry.source_bytes for entry in snapshot.collections) for snapshot in snapshots]
    latest = snapshots[-1].collections if snapshots else ()
    return StatsReport(
        repository_id=repository.config.id,
        snapshot_count=len(snapshots),
        object_count=object_count,
        listed_bytes=listed_bytes,
        unlisted_count=unlisted_count,
        unlisted_bytes=unlisted_bytes,
        snapshot_bytes=sum(item.byte_size for item in repository.store.list(layout.SNAPSHOTS)),
        full_copies_bytes=sum(sizes),
        latest_source_bytes=sizes[-1] if sizes else 0,
        latest_record_count=sum(entry.record_count for entry in latest),
    )
