"""What the snapshot service returns: plain dictionaries, as CodeWeaver documents them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypedDict

_NAME_TIME = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})[-_](\d{2})-?(\d{2})-?(\d{2})(?:\.snapshot)?$")
_NAME_COLLECTION = re.compile(
    r"(?P<server>.+)-\d+-\d{4}(?:-\d\d){5}\.snapshot|snapshot_(?P<ours>.+)_\d{8}_\d{6}", re.DOTALL
)


class CleanupStatsDict(TypedDict):
    """Statistics of one cleanup: how many snapshots were found, kept, deleted, and failed to be deleted."""

    total: int
    kept: int
    deleted: int
    failed: int


class SnapshotMetaDict(TypedDict):
    """Result of `snapshot_and_cleanup`; the name is None where nothing was created."""

    snapshot_created: bool
    snapshot_name: str | None
    cleanup_stats: CleanupStatsDict


Described = dict[str, Any]
"""One snapshot: `name`, `size`, `created_at`, and whatever else a duck-typed client tells."""


def no_cleanup() -> CleanupStatsDict:
    """Return the statistics of a cleanup that did nothing."""
    return CleanupStatsDict(total=0, kept=0, deleted=0, failed=0)


def describe(snapshot: object) -> Described:
    """Turn a client's description into a dictionary; a dictionary keeps all it has."""
    if isinstance(snapshot, Mapping):
        described = dict(snapshot)
        described.setdefault("created_at", snapshot.get("creation_time"))
        return described
    created = getattr(snapshot, "creation_time", None) or getattr(snapshot, "created_at", None)
    return {
        "name": getattr(snapshot, "name", None),
        "size": getattr(snapshot, "size", None),
        "created_at": created,
    }


def is_of(collection: str, name: str) -> bool:
    """Tell whether a snapshot may be of this collection: its name does not say that it is of another one."""
    match = _NAME_COLLECTION.fullmatch(name)
    return match is None or collection in {match["server"], match["ours"]}


def by_age(snapshot: Described) -> tuple[str, str]:
    """Order snapshots by time: the server's, else the one in the name; then by name."""
    name = str(snapshot.get("name") or "")
    created = snapshot.get("created_at")
    if not created:
        match = _NAME_TIME.search(name)
        created = "{}-{}-{}T{}:{}:{}".format(*match.groups()) if match is not None else ""
    return str(created), name
