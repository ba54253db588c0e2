"""Unlock: clear leases and fences that dead processes left behind."""

from __future__ import annotations

from typing import Literal

from recollect.clock import Clock
from recollect.repository import layout
from recollect.repository.lease import Waiter
from recollect.repository.repository import Repository

_PREFIXES = (layout.LEASES, layout.FENCES, layout.ARCHIVERS)


def run(
    repository: Repository, *, clock: Clock, which: Literal["dead", "all"] = "dead"
) -> tuple[list[str], list[str]]:
    """Remove holders that are certainly gone, or all of them; returns (removed, remaining) keys.

    Removing a living holder's lease is safe for committed snapshots: the backup notices and
    fails instead of committing. "all" is for holders on machines that are no more.
    """
    found = [item.key for prefix in _PREFIXES for item in repository.store.list(prefix)]
    keys = [key for key in found if not layout.is_beat(key)]
    if which == "all":
        for key in found:
            repository.store.delete(key)
        return keys, []
    waiter = Waiter(repository.store, clock, wait_s=0)
    alive = {key for prefix in _PREFIXES for key, _ in waiter.living(prefix)}
    return [key for key in keys if key not in alive], sorted(alive)
