"""Failover: writes go on while the primary is away, and come back to it when it is.

The maintenance loop brings the backup up to date, repairs it, and snapshots the primary; the monitor
looks at the primary's health. Writes that go through `upsert` and `delete` are acknowledged by one store,
and none of them is lost: what the backup took during an outage is brought to the primary before writes
return there. Of writes that go straight to `active_store` those come back that leave a difference in the
backup: not the deletion of a record that the backup never had.

What it does not do: reads during an outage see the backup, which is as old as its last sync.
A process that ends during an outage finds the outage again when it starts: `outage_file`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import xxhash

from recollect.clock import Clock, SystemClock
from recollect.compat.codeweaver.circuit_breaker import CircuitBreaker, CircuitState
from recollect.compat.codeweaver.client_calls import is_refusal, rest_address
from recollect.compat.codeweaver.failover_settings import FailoverSettings
from recollect.compat.codeweaver.mirror import Mirror, ReconciliationReport, SyncReport
from recollect.compat.codeweaver.outage_file import OutageFile
from recollect.compat.codeweaver.records import PointId, StoreRecords, id_of, normal_id
from recollect.compat.codeweaver.snapshot_service import QdrantSnapshotBackupService
from recollect.compat.codeweaver.snapshot_values import SnapshotMetaDict
from recollect.errors import RequestError
from recollect.settings import state_directory

logger = logging.getLogger(__name__)
DEFAULTS = FailoverSettings()
BREAKER_OPEN_S = 30.0


class CycleReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one maintenance cycle did.

    Attributes:
        is_skipped: Nothing was done: failover is active or disabled.
        errors: By phase ("sync", "reconciliation", "snapshot"), what went wrong.
    """

    is_skipped: bool = False
    sync: SyncReport | None = None
    reconciliation: ReconciliationReport | None = None
    snapshot: SnapshotMetaDict | None = None
    errors: dict[str, str] = {}


class FailoverService:
    """Two stores of one collection, one of which takes the writes. For one event loop.

    Args:
        primary_store: Has `client` and `collection_name`.
        backup_store: The same; None means snapshots only.
        settings: See `FailoverSettings`.
        clock: Measures windows and pauses.
        sleep: Waits between cycles; `asyncio.sleep`, or a test's own.
        state_path: Directory of the file that remembers an outage; by default the user's state directory.

    Raises:
        IntegrityError: That file is there and damaged.
    """

    def __init__(
        self,
        primary_store: Any,
        backup_store: Any = None,
        settings: FailoverSettings = DEFAULTS,
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        state_path: Path | None = None,
    ) -> None:
        self.primary_store = primary_store
        self.backup_store = backup_store
        self.settings = settings
        self._clock: Clock = clock or SystemClock()
        self._sleep = sleep
        self._breaker = CircuitBreaker(
            self._clock, failure_threshold=settings.failure_threshold, open_s=BREAKER_OPEN_S
        )
        self._primary = self._records(primary_store)
        self._backup = None if backup_store is None else self._records(backup_store)
        self._mirror = None if self._backup is None else self._make_mirror(self._backup)
        directory = state_path or state_directory("codeweaver") / "failover"
        self._outage = OutageFile(directory / f"{self._pair_name()}.outage")
        self._is_active = self._resume_outage()
        self._healthy_since: float | None = None
        self._cycles_to_reconciliation = settings.reconciliation_interval_cycles
        self._cycles_to_snapshot = settings.snapshot_interval_cycles
        self._phase = asyncio.Lock()  # a sync, a switch and a repair never run at once
        self._gate = _WriteGate()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failover_active(self) -> bool:
        """Whether writes go to the backup."""
        return self._is_active

    @property
    def active_store(self) -> Any:
        """The store that takes the writes now."""
        return self.backup_store if self._is_active else self.primary_store

    @property
    def circuit_state(self) -> CircuitState:
        """What the health checks say about the primary."""
        return self._breaker.state

    async def upsert(self, points: Sequence[Any]) -> None:
        """Write records to the active store; acknowledged when this returns, whatever it raises is not."""
        async with self._gate.write():
            ids = [id_of(point) for point in points] if self._is_active else []
            await self._watched(self._active().write(points))
            await self._note(ids)

    async def delete(self, ids: Sequence[PointId]) -> None:
        """Delete records from the active store; as `upsert`."""
        async with self._gate.write():
            await self._watched(self._active().delete(ids))
            await self._note([normal_id(identity) for identity in ids] if self._is_active else [])

    def start(self) -> None:
        """Begin the monitor and the maintenance loop; they end with `stop`."""
        if self._tasks:
            raise RequestError("the failover service has been started already", "call stop first")
        if not self.settings.is_disabled:
            self._tasks = [
                asyncio.create_task(self._forever(self.check_health, self.settings.health_check_interval)),
                asyncio.create_task(self._forever(self.run_cycle, self.settings.backup_sync)),
            ]

    async def stop(self) -> None:
        """End both and wait for them. A sync that is under way is interrupted, which is harmless."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def run_cycle(self) -> CycleReport:
        """Run one maintenance cycle: sync, then reconciliation and snapshot when they are due.

        A phase that fails is told and tried again in the next cycle; the others run all the same.
        """
        if self._is_active or self.settings.is_disabled:
            return CycleReport(is_skipped=True)
        self._cycles_to_reconciliation -= 1
        self._cycles_to_snapshot -= 1
        errors: dict[str, str] = {}
        sync = reconciliation = snapshot = None
        async with self._phase:
            if self._mirror is not None:
                sync = await self._attempt("sync", self._mirror.sync(), errors)
            if self._mirror is not None and self._cycles_to_reconciliation <= 0:
                limit = self.settings.reconciliation_detection_limit
                reconciliation = await self._attempt("reconciliation", self._mirror.reconcile(limit), errors)
                if "reconciliation" not in errors:
                    self._cycles_to_reconciliation = self.settings.reconciliation_interval_cycles
        # Outside of the lock: a primary that dies here may keep us for minutes, and failover must not wait.
        if self._cycles_to_snapshot <= 0:
            snapshot = await self._attempt("snapshot", self._snapshot(), errors)
            if "snapshot" not in errors:
                self._cycles_to_snapshot = self.settings.snapshot_interval_cycles
        return CycleReport(sync=sync, reconciliation=reconciliation, snapshot=snapshot, errors=errors)

    async def check_health(self) -> CircuitState:
        """Look at the primary once, and switch over or back if it is time."""
        try:
            await self._primary.probe()
        except Exception as error:  # noqa: BLE001 - any failure is an unhealthy primary
            logger.warning("The primary store does not answer: %s", error)
            self._breaker.failed()
            self._healthy_since = None
        else:
            self._breaker.succeeded()
            if self._healthy_since is None:
                self._healthy_since = self._clock.monotonic()
        if self._breaker.state is not CircuitState.CLOSED and not self._is_active:
            await self._activate()
        elif self._is_active and self._has_recovered():
            await self._switch_back()
        return self._breaker.state

    async def _activate(self) -> None:
        """Send writes to the backup. If the backup does not answer either, nothing changes."""
        if self._mirror is None:
            logger.error("The primary store is away, and there is no backup store")
            return
        async with self._phase:
            try:
                await self._mirror.begin_outage()
                await asyncio.to_thread(self._outage.save, self._mirror.index)
            except Exception:
                logger.exception("Failover is not possible: the backup store or its record is not there")
                return
            async with self._gate.closed():
                self._is_active = True
        logger.error("Failover is active: writes go to the backup store")

    def _resume_outage(self) -> bool:
        """Go on with an outage that this service, in an earlier process, did not see the end of."""
        index = self._outage.load() if self._mirror is not None else None
        if index is None or self._mirror is None:
            return False
        self._mirror.resume(index, self._outage.noted())
        logger.error("Failover is still active from before: writes go to the backup store")
        return True

    def _has_recovered(self) -> bool:
        """Tell whether the primary has been healthy for the whole window, the look just now included."""
        since = self._healthy_since
        window = self.settings.recovery_window_sec
        return since is not None and self._clock.monotonic() - since >= window

    async def _switch_back(self) -> None:
        """Bring the outage's writes to the primary, then send writes there again.

        Most of it is copied while writes go on; for the rest they wait.
        """
        assert self._mirror is not None, "failover is active, so there is a backup"
        async with self._phase:
            try:
                await self._mirror.bring_back()
                async with self._gate.closed():
                    await self._mirror.bring_back()
                    await asyncio.to_thread(self._outage.clear)
                    self._is_active = False
            except Exception:
                logger.exception(
                    "The primary store could not take the outage's writes; failover stays active"
                )
                self._healthy_since = None
                return
        logger.warning("Failover has ended: writes go to the primary store")

    async def _snapshot(self) -> SnapshotMetaDict:
        service = QdrantSnapshotBackupService(
            self.primary_store,
            self.settings.snapshot_storage_path,
            self.settings.snapshot_retention_count,
            clock=self._clock,
        )
        result = await service.snapshot_and_cleanup(wait=True)
        if not result["snapshot_created"]:
            raise RuntimeError("Snapshot creation failed")
        return result

    async def _attempt(self, phase: str, work: Awaitable[Any], errors: dict[str, str]) -> Any:
        try:
            return await work
        except Exception as error:
            logger.exception("Error in backup maintenance: %s failed", phase)
            errors[phase] = f"{type(error).__name__}: {error}"
            return None

    async def _watched(self, write: Awaitable[None]) -> None:
        """Count a primary's failed writes as failed health checks; not those that it refused as wrong."""
        try:
            await write
        except Exception as error:
            if not self._is_active and not is_refusal(error):
                self._breaker.failed()
            raise

    async def _forever(self, step: Callable[[], Awaitable[object]], interval_s: float) -> None:
        while True:
            await self._sleep(interval_s)
            try:
                await step()
            except Exception:
                logger.exception("Error in backup maintenance loop")

    async def _note(self, ids: list[PointId]) -> None:
        """Remember durably what was written during an outage: only then it is acknowledged."""
        if ids and self._mirror is not None:
            self._mirror.touch(ids)
            await asyncio.to_thread(self._outage.note, ids)

    def _active(self) -> StoreRecords:
        if self._is_active:
            assert self._backup is not None, "failover is active, so there is a backup"
            return self._backup
        return self._primary

    def _pair_name(self) -> str:
        """Name this pair of stores: other servers have collections of the same name."""
        stores = (self.primary_store, self.backup_store)
        found = [rest_address(getattr(store, "client", None)) or rest_address(store) for store in stores]
        addresses = "\0".join(address[0] if address is not None else "" for address in found)
        digest = xxhash.xxh3_64_hexdigest(addresses.encode())
        return f"{quote(self._primary.collection_name, safe='')}-{digest}"

    def _records(self, store: Any) -> StoreRecords:
        return StoreRecords(
            store,
            timeout_s=self.settings.health_check_timeout,
            batch_size=self.settings.reconciliation_batch_size,
        )

    def _make_mirror(self, backup: StoreRecords) -> Mirror:
        return Mirror(
            self._primary,
            backup,
            batch_size=self.settings.reconciliation_batch_size,
            memory_bytes_max=self.settings.max_memory_mb << 20,
        )


class _WriteGate:
    """Lets any number of writes pass at once; while it is closed none is under way and new ones wait."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()
        self._write_count = 0
        self._is_closed = False

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        async with self._condition:
            await self._condition.wait_for(lambda: not self._is_closed)
            self._write_count += 1
        try:
            yield
        finally:
            async with self._condition:
                self._write_count -= 1
                self._condition.notify_all()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        async with self._condition:
            self._is_closed = True
            await self._condition.wait_for(lambda: self._write_count == 0)
        try:
            yield
        finally:
            async with self._condition:
                self._is_closed = False
                self._condition.notify_all()
