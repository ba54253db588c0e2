"""A store that fails on purpose: at a chosen operation, before it, after it, or half-way.

For whatever writes through the store port. The usual loop enumerates every operation
of a verb and looks at what each crash leaves::

    for plan in fault_plans(count_operations(verb, prepared_store())):
        store = prepared_store()
        attempt(verb, store, plan)
        assert_everything_committed_is_there(store)   # without faults from here on
        verb(store)                                   # and the next run works

where `verb` takes a store. Operations are numbered from 1 in the order in which they
begin; with several threads that order, and so the meaning of a number, can vary between runs.
"""

from __future__ import annotations

import fnmatch
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, NoReturn, TypeAlias, TypeVar

import msgspec

from recollect.errors import RecollectError, StorageFullError, UnavailableError
from recollect.storage.base import ObjectStore, StoredObject, find_debris, remove_debris

Effect: TypeAlias = Literal["fail", "crash"]
Moment: TypeAlias = Literal["before", "during", "after"]

MUTATIONS = frozenset({"put", "put_if_absent", "delete", "remove_debris"})
READS = frozenset({"get", "get_range", "size", "list", "debris"})
OPERATIONS = MUTATIONS | READS
_WITH_MIDDLE = frozenset({"put", "put_if_absent", "list"})
_Result = TypeVar("_Result")


class SimulatedCrash(BaseException):
    """The process is dead: raised at the crash, and again by every operation after it.

    No `Exception`, so that no error handler survives it; what runs in `finally`
    can no longer reach the store, as in a killed process.
    """


class Operation(NamedTuple):
    """One call of the store: its number (0 if its kind is not counted), what it was, on which key."""

    number: int
    name: str
    key: str
    byte_size: int


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What happens at one operation.

    Attributes:
        at: Number of the operation, from 1.
        effect: "fail" raises `error` once; "crash" raises SimulatedCrash, then and ever after.
        moment: "before" it does anything; "after" it was done (a lost response); "during": a put
            leaves the first half of the value under its key, as a store without atomic writes
            would, and a listing ends after half of its keys. Other operations have no middle: "before".
        error: What "fail" raises; None is an UnavailableError.
    """

    at: int
    effect: Effect = "fail"
    moment: Moment = "before"
    error: RecollectError | None = None


class Corruption(msgspec.Struct, frozen=True, kw_only=True):
    """Damage on the way back: readers of matching keys see one byte changed; the store keeps the good one.

    Attributes:
        key_pattern: Shell pattern (`objects/*`); `*` matches `/` as well.
        offset: Which byte; negative from the end. Beyond the value: nothing happens.
        mask: The bits that flip.
    """

    key_pattern: str = "*"
    offset: int = 0
    mask: int = 0xFF


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a `FaultyStore` does wrong. The empty plan does nothing wrong.

    Attributes:
        faults: At most one per operation number.
        counted: Names of the operations that get numbers; the mutating ones, or all with OPERATIONS.
        capacity_bytes: What may be written before the disk is full; None is no limit. Deleting frees nothing.
        corruptions: Damage that readers see.
        stale_operations: A listing does not show keys written in the last so many operations of any kind.
        shrinking_keys: The second listing of a prefix lacks so many of its last keys, the third twice that.
    """

    faults: tuple[Fault, ...] = ()
    counted: frozenset[str] = MUTATIONS
    capacity_bytes: int | None = None
    corruptions: tuple[Corruption, ...] = ()
    stale_operations: int = 0
    shrinking_keys: int = 0


class FaultyStore:
    """Any store, with faults. Safe to share between threads.

    `operations` records every call in order, whether or not it is counted; `is_crashed` tells
    whether the crash has come.
    """

    def __init__(self, inner: ObjectStore, plan: FaultPlan | None = None) -> None:
        self._inner = inner
        self._plan = plan or FaultPlan()
        self._faults = {fault.at: fault for fault in self._plan.faults}
        self._lock = threading.Lock()
        self._count = 0
        self._written_bytes = 0
        self._last_write: dict[str, int] = {}
        self._listing_count: dict[str, int] = {}
        self.operations: list[Operation] = []
        self.is_crashed = False

    @property
    def url(self) -> str:
        """Return where the inner store is."""
        return self._inner.url

    @property
    def operation_count(self) -> int:
        """Return how many operations were numbered so far."""
        return self._count

    def put(self, key: str, data: bytes) -> None:
        """Write, or whatever the plan says instead."""
        self._store("put", self._inner.put, key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create, or whatever the plan says instead."""
        self._store("put_if_absent", self._inner.put_if_absent, key, data)

    def get(self, key: str) -> bytes:
        """Read, or whatever the plan says instead."""
        data = self._run(self._begin("get", key), lambda: self._inner.get(key))
        return self._corrupt(key, data, 0)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part, or whatever the plan says instead."""
        fault = self._begin("get_range", key, length)
        data = self._run(fault, lambda: self._inner.get_range(key, start, length))
        return self._corrupt(key, data, start)

    def size(self, key: str) -> int:
        """Return the size, or whatever the plan says instead."""
        return self._run(self._begin("size", key), lambda: self._inner.size(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List, or whatever the plan says instead; counted at the call, not at the first key."""
        fault = self._begin("list", prefix)
        found = self._run(fault, lambda: self._visible(prefix))
        if fault is not None and fault.moment == "during":
            return self._torn_listing(fault, found)
        return iter(found)

    def delete(self, key: str) -> None:
        """Delete, or whatever the plan says instead."""
        self._run(self._begin("delete", key), lambda: self._inner.delete(key))

    def debris(self) -> Iterator[StoredObject]:
        """List the inner store's debris, or whatever the plan says instead."""
        return iter(self._run(self._begin("debris", ""), lambda: [*find_debris(self._inner)]))

    def remove_debris(self, key: str) -> None:
        """Remove debris of the inner store, or whatever the plan says instead."""
        self._run(self._begin("remove_debris", key), lambda: remove_debris(self._inner, key))

    def _begin(self, name: str, key: str, byte_size: int = 0) -> Fault | None:
        """Number and record an operation; return the fault that it is to have."""
        with self._lock:
            self._refuse_if_crashed()
            number = 0
            if name in self._plan.counted:
                self._count = number = self._count + 1
            self.operations.append(Operation(number, name, key, byte_size))
            fault = self._faults.get(number)
        if fault is not None and fault.moment == "during" and name not in _WITH_MIDDLE:
            return msgspec.structs.replace(fault, moment="before")
        return fault

    def _run(self, fault: Fault | None, action: Callable[[], _Result]) -> _Result:
        if fault is not None and fault.moment == "before":
            self._strike(fault)
        result = action()
        if fault is not None and fault.moment == "after":
            self._strike(fault)
        # Another thread may have crashed meanwhile: a dead process does not see results.
        self._refuse_if_crashed()
        return result

    def _store(self, name: str, write: Callable[[str, bytes], None], key: str, data: bytes) -> None:
        fault = self._begin(name, key, len(data))
        if fault is not None and fault.moment == "during":
            write(key, data[: len(data) // 2])
            self._strike(fault)
        self._run(fault, lambda: self._spend(write, key, data))

    def _spend(self, write: Callable[[str, bytes], None], key: str, data: bytes) -> None:
        with self._lock:
            capacity = self._plan.capacity_bytes
            if capacity is not None and self._written_bytes + len(data) > capacity:
                message = f"cannot write {key} ({len(data)} bytes) in {self.url}: the disk is full (injected)"
                raise StorageFullError(message, "free space, then run this again")
            self._written_bytes += len(data)
        write(key, data)
        with self._lock:
            self._last_write[key] = len(self.operations)

    def _strike(self, fault: Fault) -> NoReturn:
        if fault.effect == "crash":
            self.is_crashed = True
            raise self._death()
        message = f"operation {fault.at} on {self.url} failed (injected, {fault.moment} it)"
        raise fault.error or UnavailableError(message)

    def _refuse_if_crashed(self) -> None:
        if self.is_crashed:
            raise self._death()

    def _death(self) -> SimulatedCrash:
        return SimulatedCrash(f"the process that used {self.url} is dead")

    def _corrupt(self, key: str, data: bytes, start: int) -> bytes:
        for corruption in self._plan.corruptions:
            if fnmatch.fnmatchcase(key, corruption.key_pattern):
                offset = corruption.offset
                position = (offset if offset >= 0 else self._inner.size(key) + offset) - start
                if 0 <= position < len(data):
                    changed = bytes([data[position] ^ corruption.mask])
                    data = data[:position] + changed + data[position + 1 :]
        return data

    def _visible(self, prefix: str) -> Sequence[StoredObject]:
        found = [*self._inner.list(prefix)]
        with self._lock:
            newest = len(self.operations) - 1 - self._plan.stale_operations
            earlier_count = self._listing_count.get(prefix, 0)
            self._listing_count[prefix] = earlier_count + 1
            if self._plan.stale_operations:
                found = [entry for entry in found if self._last_write.get(entry.key, -1) <= newest]
        return found[: max(0, len(found) - earlier_count * self._plan.shrinking_keys)]

    def _torn_listing(self, fault: Fault, found: Sequence[StoredObject]) -> Iterator[StoredObject]:
        yield from found[: len(found) // 2]
        self._strike(fault)


def count_operations(
    run: Callable[[FaultyStore], object], store: ObjectStore, *, counted: frozenset[str] = MUTATIONS
) -> int:
    """Run something once without faults, on this store, and return how many operations got a number."""
    watched = FaultyStore(store, FaultPlan(counted=counted))
    run(watched)
    return watched.operation_count


def fault_plans(
    operation_count: int,
    *,
    effects: tuple[Effect, ...] = ("crash", "fail"),
    moments: tuple[Moment, ...] = ("before", "after"),
    counted: frozenset[str] = MUTATIONS,
) -> Iterator[FaultPlan]:
    """Return one plan for every operation, moment and effect; operations vary slowest."""
    for at, moment, effect in itertools.product(range(1, operation_count + 1), moments, effects):
        yield FaultPlan(faults=(Fault(at=at, effect=effect, moment=moment),), counted=counted)


def attempt(
    run: Callable[[FaultyStore], object], store: ObjectStore, plan: FaultPlan
) -> SimulatedCrash | RecollectError | None:
    """Run something under a plan; return what it died of, None if it came through.

    Only SimulatedCrash and Recollect's own errors are caught: anything else is a bug of what ran.
    """
    try:
        run(FaultyStore(store, plan))
    except (SimulatedCrash, RecollectError) as error:
        return error
    return None
