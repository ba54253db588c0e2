"""Reading of snapshots beside `forget` and `prune` (docs/decisions/0013-readers-hold-leases.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recollect.catalog.catalog import Catalog
from recollect.errors import ConflictError, IntegrityError
from recollect.values.snapshot import Snapshot


@contextmanager
def unless_forgotten(catalog: Catalog, *snapshots: Snapshot) -> Iterator[None]:
    """Tell objects that went with their snapshot, while it was being read, from damage.

    Raises:
        ConflictError: Instead of an IntegrityError, if one of the snapshots is no more.
    """
    try:
        yield
    except IntegrityError as error:
        gone = [snapshot.id for snapshot in snapshots if not catalog.has(snapshot.id)]
        if not gone:
            raise
        raise vanished(catalog, gone[0]) from error


def vanished(catalog: Catalog, snapshot_id: str) -> ConflictError:
    """Return the error that reports a snapshot that went while it was being read."""
    url = catalog.repository.url
    return ConflictError(
        f"snapshot {snapshot_id} was forgotten in {url} while it was being read, and its data was deleted",
        f"choose another one: recollect snapshots -r {url}",
    )
