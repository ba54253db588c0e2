"""The log line of a server's counters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

_LOG = logging.getLogger("recollect.service")


class CounterLog:
    """Writes counters to the log when they changed. One thread at a time.

    Args:
        measures: Returns the counters by name.
    """

    def __init__(self, measures: Callable[[], Mapping[str, int]]) -> None:
        self._measures = measures
        self._written = dict(measures())

    def write(self) -> None:
        """Write one line, unless nothing changed since the last one."""
        found = dict(self._measures())
        if found != self._written:
            self._written = found
            _LOG.info("Counters %s", " ".join(f"{name}={value}" for name, value in found.items()))
