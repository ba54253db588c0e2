"""How background work leaves the interpreter and the disk to writers."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

CHECKPOINT_SYNC_BYTES_MAX = 256 << 10
"""Bytes of a checkpoint that wait for the disk at a time: a commit's fsync waits for them as well."""

SWITCH_INTERVAL_S = 0.0005
"""How long a commit that comes back from the disk waits for the interpreter's lock; Python's own is 5 ms."""

_PAUSE_S = 0.0002  # long enough for a waiting thread to wake up


def pause() -> None:
    """Let other threads run for a moment."""
    threading.Event().wait(_PAUSE_S)


def go_on() -> None:
    """Make no pause: nobody else works on these tables."""


class _Sharing:
    """The interpreter's switch interval, shortened while anybody asks for it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._usual_s = 0.0

    def begin(self) -> None:
        with self._lock:
            if self._count == 0:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH_INTERVAL_S, self._usual_s))
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                sys.setswitchinterval(self._usual_s)


_SHARING = _Sharing()  # one for the process, as the interval is


@contextlib.contextmanager
def sharing_the_interpreter() -> Iterator[None]:
    """Let waiting threads get the interpreter's lock after `SWITCH_INTERVAL_S` instead of 5 ms.

    For the whole process, until the last of the `with` blocks that overlap has ended.
    """
    _SHARING.begin()
    try:
        yield
    finally:
        _SHARING.end()
