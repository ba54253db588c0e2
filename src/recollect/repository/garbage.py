"""Mark and sweep of unlisted objects, in two phases with a fence.

Phase one lists; phase two deletes under a fence (`lease.hold_fence`), and only what
both phases found unlisted. No reference counts, no ages. Any error of a listing, a
snapshot that cannot be read, or a snapshot that vanished between the phases stops it
before anything is deleted.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from recollect.clock import Clock
from recollect.errors import ConflictError
from recollect.repository import layout
from recollect.repository.lease import WAIT_S, hold_fence
from recollect.repository.repository import Repository
from recollect.storage.base import find_debris, remove_debris
from recollect.values.event import OnEvent, Progress
from recollect.values.ulid import RandomBytes


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """What the snapshots of a repository list at one moment."""

    snapshots: frozenset[str]
    objects: frozenset[str]


class GarbagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep would delete: keys and bytes of objects that no snapshot lists."""

    marks: Marks
    garbage: tuple[tuple[str, int], ...]
    object_count: int
    object_bytes: int

    @property
    def garbage_bytes(self) -> int:
        """Bytes that the sweep frees."""
        return sum(size for _, size in self.garbage)


class SweepReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep deleted."""

    deleted_count: int
    deleted_bytes: int
    debris_count: int


def plan_sweep(repository: Repository, mark: Callable[[], Marks]) -> GarbagePlan:
    """List what no snapshot needs; deletes nothing.

    Objects are listed before snapshots are read: an object put after the listing is not a
    candidate, and one that a new snapshot lists by then is marked.
    """
    objects = list(repository.list_objects())
    marks = mark()
    garbage = tuple(
        (item.key, item.byte_size) for item in objects if layout.object_digest(item.key) not in marks.objects
    )
    total = sum(item.byte_size for item in objects)
    return GarbagePlan(marks=marks, garbage=garbage, object_count=len(objects), object_bytes=total)


def sweep(
    repository: Repository,
    plan: GarbagePlan,
    mark: Callable[[], Marks],
    *,
    clock: Clock,
    random_bytes: RandomBytes,
    on_event: OnEvent,
    wait_s: float = WAIT_S,
) -> SweepReport:
    """Delete what was garbage when planned and still is. A crash leaves some of it for the next run.

    Raises:
        LeaseHeldError: A backup did not end within `wait_s`.
        ConflictError: Snapshots vanished since the plan, or the fence was revoked.
    """
    with hold_fence(
        repository.store, purpose="prune", clock=clock, random_bytes=random_bytes, wait_s=wait_s
    ) as fence:
        marks = mark()
        vanished = sorted(plan.marks.snapshots - marks.snapshots)
        if vanished:
            raise ConflictError(
                f"snapshot {vanished[0]} vanished from {repository.url} between two listings; "
                "nothing was deleted",
                "if it was forgotten on purpose, run `recollect prune` again",
            )
        deleted_bytes, deleted = 0, 0
        for done, (key, size) in enumerate(plan.garbage, start=1):
            if layout.object_digest(key) not in marks.objects:
                # Each time: after a pause a writer may have revoked the fence and rely on the next object.
                fence.assert_held()
                repository.store.delete(key)
                deleted, deleted_bytes = deleted + 1, deleted_bytes + size
            on_event(
                Progress(
                    stage="delete", subject="garbage", done=done, total=len(plan.garbage), unit="objects"
                )
            )
        debris = [item.key for item in find_debris(repository.store)]
        for key in debris:
            remove_debris(repository.store, key)
    return SweepReport(deleted_count=deleted, deleted_bytes=deleted_bytes, debris_count=len(debris))
