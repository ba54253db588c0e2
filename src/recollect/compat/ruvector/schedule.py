"""Snapshots on a schedule, with retention: what is due is decided by the clock, done by the manager.

A run that fails is recorded and logged, and the next one goes on; nothing is cleaned up after
a failure. Runs that were missed (the process slept, a run took long) become one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from recollect.clock import Clock, SystemClock
from recollect.compat.ruvector.face import SnapshotManager
from recollect.compat.ruvector.snapshot import Snapshot
from recollect.database import Database, VectorStore
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    MissingDependencyError,
    NotFoundError,
    RecollectError,
    RequestError,
)
from recollect.policy.retention import RetentionRules

_LOG = logging.getLogger("recollect.ruvector")

# The base is gone, damaged, of another dimension or metric, or was deleted meanwhile.
_UNUSABLE = (NotFoundError, IntegrityError, FormatVersionError, RequestError, ConflictError)

_POLL_S_MAX = 30.0  # a suspended machine, or a clock set anew, is noticed within this


class Schedule(Protocol):
    """When to run."""

    def next_run(self, after: datetime) -> datetime:
        """Return the first run after this moment, which has a time zone."""
        ...


class IntervalSchedule(NamedTuple):
    """Every so often, counted from the last run."""

    every: timedelta

    def next_run(self, after: datetime) -> datetime:
        """Return the moment one interval later."""
        if self.every <= timedelta(0):
            raise RequestError(f"an interval must be longer than nothing, got {self.every}")
        return after + self.every


class CronSchedule(NamedTuple):
    """As cron does: five fields (or six, with seconds), in UTC."""

    expression: str

    def next_run(self, after: datetime) -> datetime:
        """Return the first matching moment after this one.

        Raises:
            RequestError: The expression is no cron expression, or never matches.
        """
        try:
            from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise MissingDependencyError(
                "cron schedules need the package cronsim, which is not installed",
                'run: pip install "recollect[ruvector]", or use an interval',
            ) from error
        try:
            found: datetime = next(CronSim(self.expression, after.astimezone(UTC)))
        except (CronSimError, StopIteration) as error:
            raise RequestError(
                f"{self.expression!r} is no cron expression that ever matches: {error}"
            ) from error
        return found


class Run(NamedTuple):
    """One finished run: a snapshot, or why there is none; and how many old ones were deleted after it."""

    started_at: datetime
    snapshot: Snapshot | None
    deleted_count: int
    error: RecollectError | None


class SnapshotScheduler:
    """Takes snapshots of one database whenever its schedule says so. One task at a time.

    Args:
        keep: Newest snapshots kept after each run, bases that they need besides; None keeps all.
        rules: Retention rules in place of `keep`.
        full_every: Every so manieth snapshot is full, those between are incremental on the one before; 1
            makes all full. The first of a scheduler is full.
        clock: Says when it is; waiting is asyncio's.

    Attributes:
        runs: The finished runs, the newest 100.
        next_run: When the next one is due.
    """

    def __init__(
        self,
        manager: SnapshotManager,
        db: Database | VectorStore,
        schedule: Schedule,
        *,
        name: str = "scheduled",
        keep: int | None = None,
        rules: RetentionRules | None = None,
        full_every: int = 1,
        clock: Clock | None = None,
    ) -> None:
        if full_every < 1:
            raise RequestError(f"full_every must be 1 or more, got {full_every}")
        if keep is not None and (keep < 1 or rules is not None):
            raise RequestError("give either keep, 1 or more, or rules")
        self._manager = manager
        self._db = db
        self._schedule = schedule
        self._name = name
        self._keep = keep
        self._rules = rules
        self._full_every = full_every
        self._clock = clock or SystemClock()
        self._last_id: str | None = None
        self._since_full = 0
        self._task: asyncio.Task[None] | None = None
        self.runs: list[Run] = []
        self.next_run = schedule.next_run(self._clock.now())

    async def tick(self) -> Run | None:
        """Run if a run is due now; return it, or None."""
        now = self._clock.now()
        if now < self.next_run:
            return None
        run = await self._run(now)
        self.runs = [*self.runs[-99:], run]
        # From now, not from the due moment: what was missed is made up for by one run.
        self.next_run = self._schedule.next_run(max(now, self._clock.now()))
        return run

    async def run_forever(self) -> None:
        """Wait and run until cancelled."""
        while True:
            await self.tick()
            wait_s = (self.next_run - self._clock.now()).total_seconds()
            await asyncio.sleep(min(max(wait_s, 0.0), _POLL_S_MAX))

    def start(self) -> None:
        """Run in a task of the current event loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.run_forever())

    async def stop(self) -> None:
        """End the task; a run under way is stopped and leaves nothing behind."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self, now: datetime) -> Run:
        name = f"{self._name}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        try:
            snapshot = await self._create(name)
        except RecollectError as error:
            _LOG.error("scheduled snapshot %s failed: %s", name, error)
            return Run(now, None, 0, error)
        try:
            return Run(now, snapshot, await self._clean_up(), None)
        except RecollectError as error:
            _LOG.error("cleaning up after snapshot %s failed: %s", name, error)
            return Run(now, snapshot, 0, error)

    async def _create(self, name: str) -> Snapshot:
        base_id = self._last_id
        if base_id is not None and self._since_full < self._full_every - 1:
            try:
                snapshot = await self._manager.create_incremental_snapshot(self._db, name, base_id)
            except _UNUSABLE as error:
                # Without this a base that is damaged would let every later run fail as well.
                _LOG.warning("nothing can be built on snapshot %s; %s will be full: %s", base_id, name, error)
            else:
                self._last_id, self._since_full = snapshot.id, self._since_full + 1
                return snapshot
        snapshot = await self._manager.create_snapshot(self._db, name)
        self._last_id, self._since_full = snapshot.id, 0
        return snapshot

    async def _clean_up(self) -> int:
        if self._keep is not None:
            return await self._manager.cleanup_old_snapshots(self._keep)
        if self._rules is not None:
            return len(await self._manager.apply_retention(self._rules))
        return 0
