"""The clock port: the only source of time in Recollect.

Wall time is for people (timestamps, retention). Safety never rests on it; waiting
and ages use `monotonic`, which only ever counts what this process has seen pass.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time, and waiting."""

    def now(self) -> datetime:
        """Return the wall time, in UTC with microseconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences have a meaning."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        ...


class SystemClock:
    """The machine's clock. Safe to share between threads."""

    def now(self) -> datetime:
        """Return the wall time, in UTC with microseconds."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        time.sleep(seconds)


class ManualClock:
    """A clock that stands still until it is told to move; sleeping moves it.

    Deterministic, for tests and simulations. Safe to share between threads.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the start plus all that was advanced or slept."""
        with self._lock:
            return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """Return the seconds advanced so far."""
        with self._lock:
            return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds` at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock forward; a negative step is refused."""
        assert seconds >= 0, "time does not run backwards"
        with self._lock:
            self._elapsed_s += seconds
