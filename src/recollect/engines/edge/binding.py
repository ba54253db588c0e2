"""The only place that loads `qdrant_edge`, and the translation of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from recollect.errors import ConflictError, IntegrityError, MissingDependencyError, UnavailableError

PANIC = "PanicException"


def edge_library() -> ModuleType:
    """Return the `qdrant_edge` module; MissingDependencyError tells how to install it."""
    try:
        import qdrant_edge  # noqa: PLC0415 - an extra: only users of edge:// need it
    except ImportError as error:
        raise MissingDependencyError(
            "reading Qdrant Edge shards needs the package qdrant-edge-py",
            'install it with `pip install "recollect[edge]"`',
        ) from error
    return qdrant_edge


def edge_version() -> str:
    """Return the version of the engine's package; empty if it is not installed as one."""
    try:
        return version("qdrant-edge-py")
    except PackageNotFoundError:
        return ""


@contextmanager
def edge_errors(action: str, path: Path) -> Iterator[None]:
    """Translate what the engine raises (bare `Exception` with a text) into our errors.

    A panic of it is a `BaseException` of a class that cannot be imported: it panics at damaged files.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == PANIC:
            raise IntegrityError(
                f"{action} {path}: the engine panicked, which damaged files make it do: {error}",
                "restore it from a snapshot with `recollect restore`",
            ) from error
        if type(error) is not Exception:  # ours, or a bug: the engine raises the bare class only
            raise
        text = str(error)
        if "open WAL" in text and "WouldBlock" in text:
            raise ConflictError(
                f"{action} {path}: the shard is open in another process",
                "close it there (EdgeShard.close), or back up a copy of the directory",
            ) from error
        if "No space left" in text:
            raise UnavailableError(
                f"{action} {path}: the disk is full", "free some space and run the command again"
            ) from error
        if "orrupt" in text or "checksum" in text.lower():
            raise IntegrityError(
                f"{action} {path}: the engine finds the shard damaged: {text}",
                "restore it from a snapshot with `recollect restore`",
            ) from error
        raise UnavailableError(f"{action} {path}: {text}", "see the engine's message above") from error
