"""Threads that hand the interpreter's lock on soon enough for an event loop.

CPython lets a thread keep the lock for 5 ms, and hands it to any that waits: with two workers the
loop may come third, after 15 ms. While this face works, the interval is 1 ms. It is one of the
whole process, so it is put back as soon as nothing works any more. No step of ours may hold the
lock for long all the same: the interval does nothing about those.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

_INTERVAL_S = 0.001


class _Interval:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before_s = 0.0

    def enter(self) -> None:
        with self._lock:
            if self._count == 0:
                self._before_s = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before_s, _INTERVAL_S))
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                sys.setswitchinterval(self._before_s)


_interval = _Interval()


@contextlib.contextmanager
def responsive() -> Iterator[None]:
    """Let other threads have the interpreter's lock every millisecond. May overlap, in any threads."""
    _interval.enter()
    try:
        yield
    finally:
        _interval.leave()
