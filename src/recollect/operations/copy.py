"""Copy: snapshots of one repository into another, under the same ids, so that a second place has them too.

Objects go first and are checked against their names on the way; a snapshot follows once all of its
objects are there. So an interrupted copy leaves whole snapshots and objects that the next run uses.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from recollect.catalog.catalog import Catalog
from recollect.clock import Clock
from recollect.errors import RequestError
from recollect.pipeline import map_ordered
from recollect.repository.lease import WAIT_S, Lease, hold_writer_lease
from recollect.repository.repository import Repository
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.snapshot import ObjectRef, Snapshot
from recollect.values.ulid import RandomBytes

COPY_WORKERS = 4
"""Objects under way at once: as many are in memory, some 20 MB each at the most."""


class CopyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy would do.

    Attributes:
        snapshots: Those that the destination lacks, oldest first, with their present tags.
        present: Ids of those that were chosen and are there already.
        objects: What no snapshot of the destination lists, each once.
    """

    snapshots: tuple[Snapshot, ...]
    present: tuple[str, ...]
    objects: tuple[ObjectRef, ...]

    @property
    def byte_size(self) -> int:
        """Bytes of objects to copy, at the most: an interrupted copy may have left some there."""
        return sum(reference.byte_size for reference in self.objects)


class CopyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy did.

    Attributes:
        snapshots: Those that the destination has now and had not, oldest first.
        object_count: Objects that were sent.
        added_bytes: Bytes that the destination grew by: objects and snapshots.
        duration_seconds: By the monotonic clock.
    """

    snapshots: tuple[Snapshot, ...]
    object_count: int
    added_bytes: int
    duration_seconds: float


def plan(origin: Repository, destination: Repository, selectors: tuple[str, ...] = ()) -> CopyPlan:
    """Find out what the destination lacks of the chosen snapshots, or of all. Reads only.

    Raises:
        RequestError: Both are the same repository.
        NotFoundError: A selector fits no snapshot.
    """
    if origin.config.id == destination.config.id:
        raise RequestError(
            f"{origin.url} and {destination.url} are one repository, {origin.config.id}",
            f"create another with `recollect init`, and name it with --to; copied files of {origin.url} "
            "are that repository already",
        )
    catalog = Catalog(origin)
    chosen = {each.id: each for each in map(catalog.find, selectors)} if selectors else None
    wanted = catalog.list() if chosen is None else sorted(chosen.values(), key=_by_age)
    marks = Catalog(destination).mark()
    lacking = tuple(each for each in wanted if each.id not in marks.snapshots)
    needed = {reference.digest: reference for each in lacking for reference in each.objects()}
    return CopyPlan(
        snapshots=lacking,
        present=tuple(each.id for each in wanted if each.id in marks.snapshots),
        objects=tuple(each for digest, each in needed.items() if digest not in marks.objects),
    )


def apply(
    made: CopyPlan,
    origin: Repository,
    destination: Repository,
    *,
    clock: Clock,
    random_bytes: RandomBytes,
    on_event: OnEvent = ignore_events,
    wait_s: float = WAIT_S,
) -> CopyReport:
    """Copy the plan's snapshots, oldest first.

    A crash leaves the older ones, all restorable, and the next run goes on.

    Raises:
        IntegrityError: An object of the origin is missing or damaged; its snapshot is not copied.
        LeaseHeldError: A garbage collection of the destination did not end within `wait_s`.
    """
    started = clock.monotonic()
    with hold_writer_lease(
        destination.store,
        purpose=f"copy from {origin.url}",
        clock=clock,
        random_bytes=random_bytes,
        wait_s=wait_s,
    ) as lease:
        job = _Copy(origin, destination, lease, on_event, object_total=len(made.objects))
        copied = tuple(each for each in made.snapshots if job.snapshot(each))
    return CopyReport(
        snapshots=copied,
        object_count=job.object_count,
        added_bytes=job.added_bytes,
        duration_seconds=clock.monotonic() - started,
    )


class _Copy:
    """One run. What the destination lists is asked for under the lease: until it ends, nobody deletes it."""

    def __init__(
        self,
        origin: Repository,
        destination: Repository,
        lease: Lease,
        on_event: OnEvent,
        *,
        object_total: int,
    ) -> None:
        self._origin = origin
        self._destination = destination
        self._catalog = Catalog(destination)
        self._lease = lease
        self._on_event = on_event
        self._object_total = object_total
        marks = self._catalog.mark()
        self._present = marks.snapshots
        self._listed = set(marks.objects)
        self.object_count = 0
        self.added_bytes = 0

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Copy one snapshot; False if it came in another way since the plan."""
        if snapshot.id in self._present:
            return False
        needed = {each.digest: each for each in snapshot.objects() if each.digest not in self._listed}
        with ThreadPoolExecutor(COPY_WORKERS) as executor:
            for added in map_ordered(self._object, needed.values(), executor=executor, window=COPY_WORKERS):
                self.object_count += 1
                self.added_bytes += added
                self._on_event(
                    Progress(
                        stage="copy",
                        subject=snapshot.id,
                        done=self.object_count,
                        total=max(self._object_total, self.object_count),
                        unit="objects",
                    )
                )
        self.added_bytes += self._catalog.commit(snapshot, self._lease)
        self._listed.update(needed)
        return True

    def _object(self, reference: ObjectRef) -> int:
        """Copy one object and return the bytes that it added."""
        return self._destination.put_object(self._origin.get_object(reference)).added_bytes


def _by_age(snapshot: Snapshot) -> tuple[object, str]:
    return snapshot.created_at, snapshot.id
