"""Leases and fences: how writers and garbage collection keep out of each other's way.

A *writer's lease* says "objects that no snapshot lists yet may be about to matter".
A *fence* says "unlisted objects are being deleted". The rule that makes it safe, on
any store whose listings show what was written before:

- a writer puts its lease, *then* lists fences; if there is one, it takes its lease
  back, waits, and starts over;
- a collector puts its fence, *then* lists leases, and waits until there is none;
- a reader that takes long puts a lease, *then* looks for its snapshot, and cares for no fence: a
  collection that did not see its lease sees its snapshot, or sees that one vanish and gives up.

Of two that start together, at least one sees the other. Collectors do not exclude each
other: what one deletes, the other would delete as well.

Holders beat regularly, at a key of their own: the key that *is* the right is written once, so
that a holder that was stopped in the middle of a beat cannot bring a revoked right back. One
that is certainly gone (`process.is_gone`), or whose beat did not change for a time to live
*seen by the waiter's own monotonic clock*, is revoked by deleting its key. No wall clock is
compared. A holder checks that it still holds before and after the step that matters.
Format: docs/format.md#leases
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from recollect.clock import Clock
from recollect.errors import ConflictError, IntegrityError, LeaseHeldError, NotFoundError, RecollectError
from recollect.repository import layout
from recollect.repository.process import Process, current_process, is_gone
from recollect.storage.base import ObjectStore
from recollect.values.ulid import RandomBytes, new_ulid

LEASE_TTL_S = 180  # six missed beats; a writer that was revoked notices before anything depends on it
FENCE_TTL_S = (
    900  # longer than one deletion that is under way, with all its retries: it cannot be called back
)
BEAT_INTERVAL_S = 30
POLL_INTERVAL_S = 0.5
WAIT_S = 1200  # longer than both, so that a dead holder on another machine is outlived by default


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a lease or fence key."""

    purpose: str
    process: Process


class Lease:
    """A right that this process holds and others can see. Safe to share between threads."""

    def __init__(self, store: ObjectStore, key: str, record: LeaseRecord) -> None:
        self._store = store
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease-beat", daemon=True)
        self.key = key
        store.put(key, msgspec.json.encode(record))

    def start_beating(self) -> None:
        """Begin to show life, every `BEAT_INTERVAL_S`, from a daemon thread."""
        self._thread.start()

    def assert_held(self) -> None:
        """Make sure that nobody revoked this lease.

        Raises:
            ConflictError: It is gone; what this process was about to do is no longer safe.
        """
        try:
            self._store.size(self.key)
        except NotFoundError as error:
            raise ConflictError(
                f"the lease {self.key} in {self._store.url} was revoked while this process paused",
                "nothing was lost; run the command again",
            ) from error

    def release(self) -> None:
        """Give the right back; the beat goes last, so a crash in between leaves no right behind."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._store.delete(self.key)
        self._store.delete(layout.beat_key(self.key))

    def abandon(self) -> None:
        """Stop showing life and leave the key behind, as a process that died would."""
        self._ended.set()

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT_INTERVAL_S):
            beat += 1
            try:
                self._store.size(self.key)
                self._store.put(layout.beat_key(self.key), b"%d" % beat)
            except NotFoundError:
                return  # revoked; `assert_held` will tell
            except RecollectError:
                continue  # one missed beat; the next may pass


@contextmanager
def hold_writer_lease(
    store: ObjectStore, *, purpose: str, clock: Clock, random_bytes: RandomBytes, wait_s: float = WAIT_S
) -> Iterator[Lease]:
    """Hold the right to write objects and rely on unlisted ones until the context ends.

    Waits while a garbage collection deletes. A crash leaves the lease key; the next
    garbage collection finds its holder gone.

    Raises:
        LeaseHeldError: A garbage collection did not end within `wait_s`.
    """
    waiter = Waiter(store, clock, wait_s)
    while True:
        lease = Lease(store, layout.lease_key(_new_id(clock, random_bytes)), _record(purpose))
        with _given_back(lease):
            fences = waiter.living(layout.FENCES)
        if not fences:
            break
        lease.release()
        waiter.wait(fences, "a garbage collection")
    with _held(lease):
        yield lease


@contextmanager
def hold_reader_lease(
    store: ObjectStore, *, purpose: str, clock: Clock, random_bytes: RandomBytes
) -> Iterator[None]:
    """Keep what snapshots list now, or list later, from being deleted until the context ends.

    Never waits. A snapshot must be looked up inside of the context. Where this process cannot write, there
    is no lease and no protection: to read must be possible from a disk that is full or read-only.
    """
    try:
        lease = Lease(store, layout.lease_key(_new_id(clock, random_bytes)), _record(purpose))
    except RecollectError:
        lease = None
    if lease is None:
        yield
        return
    lease.start_beating()
    with _given_back(lease):
        yield
    _release_quietly(lease.release)


@contextmanager
def hold_fence(
    store: ObjectStore, *, purpose: str, clock: Clock, random_bytes: RandomBytes, wait_s: float = WAIT_S
) -> Iterator[Lease]:
    """Hold the right to delete unlisted objects until the context ends.

    Waits until nobody holds a lease; new writers wait meanwhile.

    Raises:
        LeaseHeldError: A writer or a reader did not end within `wait_s`.
    """
    waiter = Waiter(store, clock, wait_s)
    fence = Lease(store, layout.fence_key(_new_id(clock, random_bytes)), _record(purpose))
    with _held(fence):
        while holders := waiter.living(layout.LEASES):
            waiter.wait(holders, "another process")
        yield fence


class SoleRight:
    """The right of one process at a time, held over many pieces of work. One thread at a time.

    Whoever wants it puts a key below the prefix, *then* lists that prefix; if somebody else's is there, it
    takes its own back. Of two that start together, at least one sees the other; both may give way.
    Garbage collections do not wait for it.
    """

    def __init__(
        self, store: ObjectStore, prefix: str, *, purpose: str, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._purpose = purpose
        self._clock = clock
        self._random_bytes = random_bytes
        self._lease: Lease | None = None
        # Kept from one try to the next: a holder on another machine is dead after a span of being watched.
        self._waiter = Waiter(store, clock, 0)

    def hold(self, wait_s: float) -> None:
        """Take the right unless it is held already.

        Raises:
            LeaseHeldError: Another process did not give it back within `wait_s`.
        """
        deadline = self._clock.monotonic() + wait_s
        while self._lease is None:
            others = self._waiter.living(self._prefix) or self._try()
            if not others:
                return
            if self._clock.monotonic() >= deadline:
                raise _held_by(others, self._store, "another process")
            # Not in step with another one that gave way as well.
            self._clock.sleep(POLL_INTERVAL_S * (0.5 + self._random_bytes(1)[0] / 256))

    def assert_held(self) -> None:
        """Make sure that nobody revoked the right; LeaseHeldError if somebody did: it must be taken again."""
        assert self._lease is not None, "taken"
        try:
            self._lease.assert_held()
        except ConflictError as error:
            self._lease.abandon()
            self._lease = None
            raise LeaseHeldError(error.message, error.next_step) from error

    def release(self) -> None:
        """Give the right back, if it is held."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def _try(self) -> list[Holder]:
        key = f"{self._prefix}/{_new_id(self._clock, self._random_bytes)}.json"
        lease = Lease(self._store, key, _record(self._purpose))
        with _given_back(lease):
            others = [holder for holder in self._waiter.living(self._prefix) if holder[0] != key]
        if others:
            lease.release()
            return others
        lease.start_beating()
        self._lease = lease
        return []


Holder = tuple[str, LeaseRecord]


class Waiter:
    """Looks at the holders below a prefix, revokes the dead, and waits for the living, up to a limit."""

    def __init__(self, store: ObjectStore, clock: Clock, wait_s: float) -> None:
        self._store = store
        self._clock = clock
        self._deadline = clock.monotonic() + wait_s
        self._seen: dict[str, tuple[bytes, float]] = {}

    def living(self, prefix: str) -> list[Holder]:
        """Return the holders that may be alive; keys of those that are gone are deleted."""
        holders = []
        keys = [item.key for item in self._store.list(prefix)]
        for key in keys:
            if layout.is_beat(key):
                continue
            record = self._read(key)
            if record is None:
                continue
            if is_gone(record.process) or self._is_silent(key):
                self._revoke(key)
            else:
                holders.append((key, record))
        for beat in filter(layout.is_beat, keys):
            if not any(layout.beat_key(key) == beat for key in keys):
                self._store.delete(beat)  # of a holder that was revoked, or died while it gave its right back
        return holders

    def wait(self, holders: list[Holder], what: str) -> None:
        """Wait a moment; LeaseHeldError once the limit has passed."""
        if self._clock.monotonic() >= self._deadline:
            raise _held_by(holders, self._store, what)
        self._clock.sleep(POLL_INTERVAL_S)

    def _is_silent(self, key: str) -> bool:
        now = self._clock.monotonic()
        try:
            beat = self._store.get(layout.beat_key(key))
        except NotFoundError:
            beat = b""
        seen_beat, since = self._seen.get(key, (None, now))
        if seen_beat != beat:
            self._seen[key] = (beat, now)
            return False
        return now - since >= (FENCE_TTL_S if key.startswith(layout.FENCES) else LEASE_TTL_S)

    def _revoke(self, key: str) -> None:
        self._store.delete(key)
        self._store.delete(layout.beat_key(key))

    def _read(self, key: str) -> LeaseRecord | None:
        try:
            return msgspec.json.decode(self._store.get(key), type=LeaseRecord)
        except NotFoundError:
            return None  # released between listing and reading
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise IntegrityError(
                f"{key} in {self._store.url} is not a lease: {error}",
                "make sure that no backup or prune is running, then delete that file",
            ) from error


@contextmanager
def _held(lease: Lease) -> Iterator[None]:
    lease.start_beating()
    with _given_back(lease):
        yield
    lease.release()


@contextmanager
def _given_back(lease: Lease) -> Iterator[None]:
    """Give the right back if the block fails, also on Ctrl-C, but never hide what stopped it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, (Exception, KeyboardInterrupt, SystemExit, GeneratorExit)):
            _release_quietly(lease.release)
        else:
            lease.abandon()  # a simulated death: the dead release nothing
        raise


def _release_quietly(release: Callable[[], None]) -> None:
    """Release on the way out of a failure; a key left behind is revoked by the next waiter."""
    try:
        release()
    except RecollectError:
        return


def _record(purpose: str) -> LeaseRecord:
    return LeaseRecord(purpose=purpose, process=current_process())


def _new_id(clock: Clock, random_bytes: RandomBytes) -> str:
    return new_ulid(clock.now(), random_bytes)


def _held_by(holders: list[Holder], store: ObjectStore, what: str) -> LeaseHeldError:
    key, record = holders[0]
    process = record.process
    return LeaseHeldError(
        f"{what} holds {key} in {store.url}: {record.purpose}, process {process.pid} on {process.host}",
        "wait until it has ended and run the command again; `recollect unlock` clears what the dead "
        "of this machine left, `recollect unlock --all` also what machines left that are no more",
    )
