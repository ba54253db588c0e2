"""The only concurrency of the core: a bounded, ordered map over an executor.

Compression, hashing and I/O release the GIL, so threads are enough on one machine;
any other `concurrent.futures.Executor` fits as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class CallerExecutor(Executor):
    """Runs each call at once in the thread that submits it: for work that must not take a second core."""

    def submit(  # type: ignore[override] # one argument is all that `map_ordered` gives
        self, fn: Callable[[Item], Result], item: Item, /
    ) -> Future[Result]:
        """Return what `fn(item)` returned or raised, as a future that is done."""
        future: Future[Result] = Future()
        try:
            future.set_result(fn(item))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks the future
            future.set_exception(error)
        return future


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, executor: Executor, window: int
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the order of `items`, at most `window` of them under way at once.

    Items are drawn only as results are taken, so memory is bounded by the window. The first
    error is raised where its result would have been; calls not yet begun are cancelled, and
    those under way are waited for, so that nothing runs on in this machine after this ended.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for future in pending:
            if not future.cancelled():
                future.exception()
