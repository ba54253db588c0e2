"""A circuit breaker: after several failures in a row, stop believing that the next call will work."""

from __future__ import annotations

from enum import Enum

from recollect.clock import Clock


class CircuitState(Enum):
    """CLOSED: calls work. OPEN: they failed repeatedly. HALF_OPEN: the pause is over; one call decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Counts outcomes. One thread at a time.

    Args:
        failure_threshold: Failures in a row that open it.
        open_s: Seconds for which it stays open.
    """

    def __init__(self, clock: Clock, *, failure_threshold: int = 3, open_s: float = 30.0) -> None:
        self._clock = clock
        self._failure_threshold = failure_threshold
        self._open_s = open_s
        self._failure_count = 0
        self._opened_at: float | None = None

    @property
    def state(self) -> CircuitState:
        """The state now."""
        if self._opened_at is None:
            return CircuitState.CLOSED
        is_over = self._clock.monotonic() - self._opened_at >= self._open_s
        return CircuitState.HALF_OPEN if is_over else CircuitState.OPEN

    def succeeded(self) -> None:
        """Close it."""
        self._failure_count, self._opened_at = 0, None

    def failed(self) -> None:
        """Count a failure; opens at the threshold, and again when the one call after the pause fails."""
        self._failure_count += 1
        if self._failure_count >= self._failure_threshold:
            self._opened_at = self._clock.monotonic()
