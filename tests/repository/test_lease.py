"""Leases and fences: writers and collectors keep out of each other's way, and the dead block nobody."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest

from recollect.clock import ManualClock
from recollect.errors import ConflictError, IntegrityError, LeaseHeldError, UnavailableError
from recollect.operations import unlock
from recollect.repository import layout, lease
from recollect.repository.lease import (
    FENCE_TTL_S,
    LEASE_TTL_S,
    WAIT_S,
    Lease,
    LeaseRecord,
    Waiter,
    hold_fence,
    hold_writer_lease,
)
from recollect.repository.process import Process, _started, current_process, is_gone
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import Driver, seeded_bytes
from recollect.testing.faults import Fault, FaultPlan, FaultyStore, SimulatedCrash

RANDOM = seeded_bytes(5)


@contextmanager
def writing(store: ObjectStore, clock: ManualClock, wait_s: float = WAIT_S) -> Iterator[Lease]:
    with hold_writer_lease(store, purpose="backup", clock=clock, random_bytes=RANDOM, wait_s=wait_s) as held:
        yield held


@contextmanager
def collecting(store: ObjectStore, clock: ManualClock, wait_s: float = WAIT_S) -> Iterator[Lease]:
    with hold_fence(store, purpose="prune", clock=clock, random_bytes=RANDOM, wait_s=wait_s) as held:
        yield held


def keys(store: ObjectStore) -> list[str]:
    return [item.key for item in store.list("")]


def test_several_writers_hold_leases_at_once_and_give_them_back() -> None:
    store, clock = MemoryStore(), ManualClock()

    with ExitStack() as stack:
        held = [stack.enter_context(writing(store, clock)) for _ in range(3)]
        assert sorted(each.key for each in held) == keys(store)

    assert keys(store) == []


def test_a_writer_does_not_start_while_a_fence_stands() -> None:
    store, clock = MemoryStore(), ManualClock()

    with (
        collecting(store, clock) as fence,
        pytest.raises(LeaseHeldError, match="a garbage collection holds"),
        writing(store, clock, wait_s=60),
    ):
        pytest.fail("it started")

    assert clock.monotonic() >= 60
    assert keys(store) == []
    assert not fence.key.startswith(layout.LEASES)


def test_a_collector_does_not_start_while_a_writer_works() -> None:
    store, clock = MemoryStore(), ManualClock()

    with writing(store, clock) as held:
        with (
            pytest.raises(LeaseHeldError, match="another process holds"),
            collecting(store, clock, wait_s=60),
        ):
            pytest.fail("it started")

        assert keys(store) == [held.key]


def test_a_writer_that_waits_leaves_no_lease_that_the_collector_would_wait_for() -> None:
    store, clock = MemoryStore(), WatchingClock()
    clock.watched = store

    with collecting(store, clock), pytest.raises(LeaseHeldError), writing(store, clock, wait_s=5):
        pytest.fail("it started")

    assert clock.seen
    assert all(not key.startswith(layout.LEASES) for listing in clock.seen for key in listing)


class WatchingClock(ManualClock):
    """Notes what stands in a store whenever someone waits."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: ObjectStore | None = None
        self.seen: list[list[str]] = []

    def sleep(self, seconds: float) -> None:
        if self.watched is not None:
            self.seen.append(keys(self.watched))
        super().sleep(seconds)


def test_collectors_do_not_exclude_each_other() -> None:
    store, clock = MemoryStore(), ManualClock()

    with collecting(store, clock) as first, collecting(store, clock) as second:
        assert keys(store) == sorted([first.key, second.key])

    assert keys(store) == []


# ---------------------------------------------------------------- the dead


def leave_behind(store: ObjectStore, key: str, process: Process) -> None:
    store.put(key, msgspec.json.encode(LeaseRecord(purpose="backup", process=process)))


def ended_process() -> Process:
    """Return the identity of a process of this machine that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = Process(
        host="here",
        pid=child.pid,
        realm=current_process().realm,
        started=_started(child.pid),
    )
    assert not is_gone(started)
    child.communicate(b"\n")
    return started


FOREIGN = Process(host="elsewhere", pid=1, realm="another boot", started="1")
KEY = layout.lease_key("0" * 26)
FENCE = layout.fence_key("0" * 26)


def test_what_an_ended_process_left_is_cleared_at_once() -> None:
    store, clock = MemoryStore(), ManualClock()
    gone = ended_process()
    for key in (KEY, FENCE):
        leave_behind(store, key, gone)
        store.put(layout.beat_key(key), b"7")

    with writing(store, clock):
        pass
    with collecting(store, clock):
        pass

    assert keys(store) == []
    assert clock.monotonic() == 0


@pytest.mark.parametrize("holder", [FOREIGN, current_process()])
def test_a_silent_holder_is_outlived(holder: Process) -> None:
    """One on another machine, or one in this process that crashed without a trace."""
    store, clock = MemoryStore(), ManualClock()
    leave_behind(store, KEY, holder)
    leave_behind(store, FENCE, holder)
    store.put(layout.beat_key(KEY), b"3")

    with collecting(store, clock):
        assert LEASE_TTL_S <= clock.monotonic() < LEASE_TTL_S + 2
    begun = clock.monotonic()
    with writing(store, clock):
        assert FENCE_TTL_S <= clock.monotonic() - begun < FENCE_TTL_S + 2

    assert keys(store) == []


def test_a_collector_is_not_blocked_by_the_fence_of_a_dead_collector_elsewhere() -> None:
    store, clock = MemoryStore(), ManualClock()
    leave_behind(store, FENCE, FOREIGN)

    with collecting(store, clock, wait_s=0):
        pass


def test_a_holder_that_beats_is_not_outlived_however_long_it_takes() -> None:
    store, clock = MemoryStore(), ManualClock()
    leave_behind(store, KEY, FOREIGN)
    waiter = Waiter(store, clock, wait_s=10_000)

    for beat in range(50):
        store.put(layout.beat_key(KEY), b"%d" % beat)
        assert [key for key, _ in waiter.living(layout.LEASES)] == [KEY]
        clock.advance(LEASE_TTL_S - 1)


def test_a_beat_without_a_holder_is_cleared() -> None:
    store, clock = MemoryStore(), ManualClock()
    store.put(layout.beat_key(KEY), b"9")

    with collecting(store, clock):
        pass

    assert keys(store) == []


def test_unlock_clears_the_dead_and_keeps_the_living() -> None:
    driver = Driver()
    repository = driver.init()
    leave_behind(driver.store, KEY, ended_process())
    leave_behind(driver.store, FENCE, FOREIGN)
    driver.store.put(layout.beat_key(FENCE), b"1")

    assert unlock.run(repository, clock=driver.clock) == ([KEY], [FENCE])
    assert unlock.run(repository, clock=driver.clock, which="all") == ([FENCE], [])
    assert driver.stored_keys() == [layout.CONFIG]


def test_a_damaged_lease_stops_a_collector_and_is_named() -> None:
    store = MemoryStore()
    store.put(KEY, b'{"purpose": ')

    with pytest.raises(IntegrityError, match=KEY), collecting(store, ManualClock()):
        pytest.fail("it started")


# ---------------------------------------------------------------- revoked while paused


class PausingStore(MemoryStore):
    """A store in which one put waits: the process was stopped in the middle of a beat."""

    def __init__(self) -> None:
        super().__init__()
        self.pause_at = ""
        self.reached = threading.Event()
        self.resume = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        if key == self.pause_at:
            self.reached.set()
            assert self.resume.wait(30)
        super().put(key, data)


def test_a_holder_that_is_stopped_in_the_middle_of_a_beat_does_not_bring_its_right_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "BEAT_INTERVAL_S", 0.001)
    store, clock = PausingStore(), ManualClock()
    held = Lease(store, KEY, LeaseRecord(purpose="backup", process=FOREIGN))
    store.pause_at = layout.beat_key(KEY)
    held.start_beating()
    assert store.reached.wait(30)

    with collecting(store, clock):
        store.resume.set()
        held.abandon()
        held._thread.join()

        with pytest.raises(ConflictError, match="revoked"):
            held.assert_held()


def test_beats_show_life_and_stop_with_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_INTERVAL_S", 0.001)
    store, others = MemoryStore(), set(threading.enumerate())
    held = Lease(store, KEY, LeaseRecord(purpose="backup", process=FOREIGN))
    held.start_beating()
    for _ in range(10_000):
        if layout.beat_key(KEY) in keys(store):
            break
        threading.Event().wait(0.001)

    held.release()

    assert keys(store) == []
    beating = {thread for thread in threading.enumerate() if thread.name == "lease-beat"}
    assert not beating - others


def test_a_revoked_lease_is_noticed_and_not_beaten_back_to_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_INTERVAL_S", 0.001)
    store = MemoryStore()
    held = Lease(store, KEY, LeaseRecord(purpose="backup", process=FOREIGN))
    held.start_beating()
    store.delete(KEY)

    with pytest.raises(ConflictError, match="revoked"):
        held.assert_held()
    held.release()
    assert keys(store) == []


# ---------------------------------------------------------------- failures of the store


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("hold", [writing, collecting])
def test_a_store_that_fails_while_a_right_is_taken_leaves_nothing_that_blocks(at: int, hold: object) -> None:
    """All operations are counted: the put of the key, the listings, the release."""
    assert callable(hold)
    inner, clock = MemoryStore(), ManualClock()
    plan = FaultPlan(faults=(Fault(at=at),), counted=frozenset({"put", "list", "delete"}))
    try:
        with hold(FaultyStore(inner, plan), clock):
            pass
    except UnavailableError:
        pass

    with collecting(inner, clock), collecting(inner, clock):
        pass
    with writing(inner, clock):
        pass
    assert keys(inner) == []


def test_a_failing_listing_gives_the_lease_back_at_once() -> None:
    inner, clock = MemoryStore(), ManualClock()
    plan = FaultPlan(faults=(Fault(at=1),), counted=frozenset({"list"}))

    with pytest.raises(UnavailableError), writing(FaultyStore(inner, plan), clock):
        pytest.fail("it started")

    assert keys(inner) == []


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), SystemExit()])
def test_whatever_ends_the_work_gives_the_right_back(error: BaseException) -> None:
    store, clock = MemoryStore(), ManualClock()
    for hold in (writing, collecting):
        with pytest.raises(type(error)), hold(store, clock):
            raise error

    assert keys(store) == []


def test_a_simulated_death_leaves_the_key_behind() -> None:
    store = FaultyStore(MemoryStore())

    with pytest.raises(SimulatedCrash), writing(store, ManualClock()) as held:
        raise SimulatedCrash

    assert keys(store) == [held.key]


def test_a_process_is_gone_only_when_that_is_certain() -> None:
    own = current_process()

    assert not is_gone(own)
    assert is_gone(msgspec.structs.replace(own, started="0"))
    assert is_gone(msgspec.structs.replace(own, pid=2**22 + 1))
    assert not is_gone(msgspec.structs.replace(own, realm="elsewhere", pid=2**22 + 1))
    assert not is_gone(msgspec.structs.replace(own, realm="", pid=2**22 + 1))
