"""Opening and closing of shard directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recollect.engines.edge.binding import edge_errors, edge_library
from recollect.engines.edge.schema import CONFIG_FILE
from recollect.errors import AccessError, NotFoundError, RequestError, StorageFullError

SPARE_BYTES = 64 * 1024 * 1024
"""Free space that a shard is never written into: what the engine adds to the records by itself.

An empty shard takes 42 MB where its sparse files are not sparse (measured on tmpfs)."""
COPIES = 3
"""How often a record may stand in a shard at once: log, segment, and the segment that the optimizer makes."""


def is_shard(path: Path) -> bool:
    """Tell whether a directory holds a shard."""
    return (path / CONFIG_FILE).is_file()


def require_shard(path: Path) -> None:
    """Make sure that there is a shard to open.

    Raises:
        NotFoundError: There is no such directory; RequestError: it holds no shard.
        AccessError: It may not be read and written (the engine needs both).
    """
    if not path.exists():
        raise NotFoundError(f"there is no directory {path}", "check the path of the shard")
    if not path.is_dir() or not is_shard(path):
        raise RequestError(
            f"{path} is no Qdrant Edge shard: it has no {CONFIG_FILE}",
            "give the directory that was passed to EdgeShard.create",
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise AccessError(f"{path} may not be read and written by this user", "run as the shard's owner")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open the shard for as long as the context lasts. The engine locks it against other processes."""
    with edge_errors("opening", path):
        shard = edge_library().EdgeShard.load(str(path))
    try:
        yield shard
    finally:
        with edge_errors("closing", path):
            shard.close()


def require_space(directory: Path, byte_size: int) -> None:
    """Make sure that the disk is not full before the engine writes.

    The engine writes into mapped sparse files: on a full disk the system ends the process (SIGBUS), and
    nobody would clean up or say why.

    Raises:
        StorageFullError: There is too little room for that many bytes of records.
    """
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    needed = COPIES * byte_size + SPARE_BYTES
    if free < needed:
        raise StorageFullError(
            f"opening or writing {directory}: {free} bytes are free, and the engine may take {needed}",
            "free some space and run the command again; what was in place is untouched",
        )
