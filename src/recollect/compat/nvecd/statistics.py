"""The counters that INFO and the metrics show."""

from __future__ import annotations

import threading

from recollect.clock import Clock
from recollect.compat.nvecd.protocol import command as cmd


class Statistics:
    """Counts commands and connections. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._lock = threading.Lock()
        self.command_count = 0
        self.failed_count = 0
        self.event_count = 0
        self.search_count = 0
        self.vecset_count = 0
        self.connection_count = 0
        self.active_count = 0

    @property
    def uptime_s(self) -> int:
        """Whole seconds since the start."""
        return int(self._clock.monotonic() - self._started)

    def note_command(self, command: cmd.Command | None, *, failed: bool) -> None:
        """Count one command; None for a line that was none."""
        with self._lock:
            self.command_count += 1
            self.failed_count += failed
            if isinstance(command, cmd.Event):
                self.event_count += 1
            elif isinstance(command, cmd.VecSet):
                self.vecset_count += 1
            elif isinstance(command, (cmd.Sim, cmd.Simv)):
                self.search_count += 1

    def note_connection(self) -> None:
        """Count a connection that was opened."""
        with self._lock:
            self.connection_count += 1
            self.active_count += 1

    def note_disconnection(self) -> None:
        """Count a connection that was closed."""
        with self._lock:
            self.active_count -= 1
