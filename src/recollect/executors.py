"""Where work is done: threads of this process, processes of this machine, or a Dask cluster's workers.

All are a `concurrent.futures.Executor`. This is the only module that loads `distributed`, and what goes wrong
with workers is told here in our words. Decision: docs/decisions/0094-workers.md
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from recollect.errors import MissingDependencyError, RecollectError, RequestError, UnavailableError

WORKERS_MAX = 1024
TIMEOUT_S = 30.0
RETRIES = 2
"""So often a piece of work that failed on a Dask worker is given out again, as a rule to another one."""
POLLS = 6
"""Looks at the workers within a timeout."""
_FORMS = "threads:N, processes:N, dask://HOST:8786, or dask+tls://HOST:8786"
_DASK_SCHEMES = {"dask": "tcp", "dask+tls": "tls"}


class ExecutorPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Which executor is meant.

    Attributes:
        kind: "threads", "processes" or "dask".
        count: How many threads or processes.
        address: Of Dask's scheduler, as `distributed` takes it.
        timeout_s: Seconds to wait for the scheduler, and for a worker when there is none.
    """

    kind: str
    count: int = 0
    address: str = ""
    timeout_s: float = TIMEOUT_S

    @property
    def is_elsewhere(self) -> bool:
        """Whether the work may be done on other machines, with settings of their own."""
        return self.kind == "dask"


def parse_executor(text: str) -> ExecutorPlace:
    """Read what `--executor` was given; nothing is started or asked yet.

    Raises:
        RequestError: It is none of the forms; lists them.
    """
    kind, _, rest = text.partition(":")
    if kind in {"threads", "processes"}:
        if not rest.isascii() or not rest.isdecimal() or not 0 < int(rest) <= WORKERS_MAX:
            raise RequestError(f"--executor {text} does not say how many", f"for example {kind}:4")
        return ExecutorPlace(kind=kind, count=int(rest))
    if kind not in _DASK_SCHEMES:
        raise RequestError(f"there is no executor {text!r}", f"the forms are: {_FORMS}")
    return _dask_place(text, _DASK_SCHEMES[kind])


@contextmanager
def open_executor(place: ExecutorPlace) -> Iterator[Executor]:
    """Have an executor until the context ends.

    Its work is idempotent: workers that die make it be done again elsewhere, and what is under way at
    a Dask worker when this ends may end later.

    Raises:
        MissingDependencyError: Dask is asked for and not installed.
        UnavailableError: The scheduler cannot be reached, has no workers, or workers died.
    """
    if place.kind == "threads":
        with ThreadPoolExecutor(place.count, "recollect-part") as threads:
            yield threads
    elif place.kind == "processes":
        with _processes(place.count) as processes:
            yield processes
    else:
        with _dask(place) as cluster:
            yield cluster


@contextmanager
def _processes(count: int) -> Iterator[Executor]:
    """Have fresh processes: a copy of this one would share its locks and threads."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=fresh, initializer=_end_with_parent) as processes:
        try:
            yield processes
        except BrokenProcessPool as error:
            raise UnavailableError(
                "a worker process ended before its work did: it was killed, or ran out of memory",
                "run the same command again; with fewer processes if memory is short",
            ) from error


def _end_with_parent() -> None:
    """End this process as soon as the one that it works for is gone: if that is killed, nobody says so.

    Source: multiprocessing.parent_process, whose sentinel is the reading end of a pipe of the parent's.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process of a pool has a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextmanager
def _dask(place: ExecutorPlace) -> Iterator[Executor]:
    distributed = _library()
    with _quiet(), _client(distributed, place) as client:
        executor: Executor = client.get_executor(pure=False, retries=RETRIES)
        watch = _Watch(client, executor, place)
        try:
            yield executor
        except distributed.KilledWorker as error:
            raise UnavailableError(
                f"workers of {place.address} died again and again at the same piece of work: {error}",
                "see the workers' logs (memory is the usual reason), then run the same command again",
            ) from error
        except CancelledError as error:
            raise watch.reason() from error
        except ImportError as error:
            if isinstance(error, RecollectError):
                raise
            raise _unlike(place, error) from error
        finally:
            watch.stop()
            executor.shutdown(wait=False)


@contextmanager
def _client(distributed: ModuleType, place: ExecutorPlace) -> Iterator[Any]:
    try:
        client = distributed.Client(
            place.address, timeout=place.timeout_s, set_as_default=False, name="recollect"
        )
    except (OSError, ValueError, TypeError) as error:
        raise UnavailableError(
            f"there is no Dask scheduler at {place.address}: {error}",
            "start one with `dask scheduler`, and check host and port",
        ) from error
    with client:
        if not client.nthreads():
            raise UnavailableError(
                f"the Dask scheduler at {place.address} has no workers",
                f"start some with `dask worker {place.address}`",
            )
        yield client


class _Watch:
    """Gives the work up when there has been nobody to do it for a while: a scheduler would wait for ever."""

    def __init__(self, client: Any, executor: Executor, place: ExecutorPlace) -> None:
        self._client = client
        self._executor = executor
        self._place = place
        self._ended = threading.Event()
        self._is_deserted = False
        self._thread = threading.Thread(target=self._look, name="dask-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End looking."""
        self._ended.set()
        self._thread.join()

    def reason(self) -> RecollectError:
        """Say why the work was given up."""
        what = "has no workers any more" if self._is_deserted else "gave the work up"
        return UnavailableError(
            f"the Dask scheduler at {self._place.address} {what}; no snapshot was made",
            "see the logs of the scheduler and the workers, then run the same command again",
        )

    def _look(self) -> None:
        missed = 0
        while not self._ended.wait(self._place.timeout_s / POLLS):
            missed = 0 if self._has_workers() else missed + 1
            if missed == POLLS:
                self._is_deserted = True
                self._executor.shutdown(wait=False)
                return

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except (OSError, RuntimeError, ValueError, TimeoutError):
            return False


def _library() -> ModuleType:
    try:
        import distributed  # noqa: PLC0415 -- an extra, and slow to load
    except ImportError as error:
        raise MissingDependencyError(
            "--executor dask://… needs the package distributed, which is not installed",
            'install it with `pip install "recollect[dask]"`, here and on the workers',
        ) from error
    return distributed


def _unlike(place: ExecutorPlace, error: ImportError) -> RecollectError:
    return UnavailableError(
        f"a worker of {place.address} cannot load what it is asked to run: {error}",
        'install the same version on the workers: pip install "recollect[qdrant,edge,dask]"',
    )


def _dask_place(text: str, transport: str) -> ExecutorPlace:
    form = "write it as dask://HOST:8786 or dask+tls://HOST:8786, with ?timeout=SECONDS if need be"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise RequestError(f"--executor {text} has a port that is no number up to 65535", form) from error
    if not parts.hostname or not port or parts.path.strip("/") or "@" in parts.netloc:
        raise RequestError(f"--executor {text} names no scheduler", form)
    parameters = parse_qs(parts.query, keep_blank_values=True)
    if parameters.keys() - {"timeout"}:
        raise RequestError(f"--executor {text} has an unknown parameter", form)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return ExecutorPlace(
        kind="dask",
        address=f"{transport}://{host}:{port}",
        timeout_s=_seconds(parameters.get("timeout", [str(TIMEOUT_S)])[-1], form),
    )


def _seconds(text: str, form: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise RequestError(f"--executor: timeout={text} is no number of seconds", form)
    return seconds


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from writing to the terminal: what matters comes back as an error."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
