"""How long an event loop is kept waiting by the threads of its own process.

A busy machine delays every thread: it lets threads that could run wait for a core. Linux counts that
wait for each thread (`schedstat`), so it is taken off: what is left is what the process did to itself,
above all a step that holds the interpreter's lock. Too much is taken off when several
threads wait at once, never too little: a measure that is too long is a fault of the code.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

_TASKS = Path("/proc/self/task")
_TICK_S = 0.001


async def longest_wait(work: Callable[[], Awaitable[object]]) -> float:
    """Run some work in threads; return the longest that it kept this loop waiting, in seconds."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            waited, started = _core_waits(), time.perf_counter()
            await asyncio.sleep(_TICK_S)
            late = time.perf_counter() - started - _TICK_S
            if late > longest:
                now = _core_waits()
                late -= sum(wait - waited.get(thread, 0.0) for thread, wait in now.items())
                if waited.keys() <= now.keys():  # what a thread waited for that ended meanwhile is not known
                    longest = max(longest, late)

    gc.collect()
    gc.freeze()  # a collection looks at everything that a test session holds, which is not the work's
    watcher = asyncio.create_task(watch())
    await asyncio.sleep(5 * _TICK_S)
    try:
        await work()
        await asyncio.sleep(2 * _TICK_S)
    finally:
        watcher.cancel()
        gc.unfreeze()
    return longest


def _core_waits() -> dict[int, float]:
    """Return for each thread how long it could run and had no core so far, in seconds."""
    found: dict[int, float] = {}
    for thread in threading.enumerate():
        number = thread.native_id
        try:
            text = (_TASKS / str(number) / "schedstat").read_text()
        except OSError:  # it ended just now, or this is not Linux
            continue
        assert number is not None, "a thread that runs has a number"
        found[number] = int(text.split()[1]) / 1e9
    return found
