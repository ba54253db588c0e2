"""Where a shard is written before it takes its place: a hidden directory beside it, locked by its writer.

The lock tells the directory of a restore that is under way from one whose process was killed; the next
restore into the same place removes the latter.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from recollect.engines.edge.shard import is_shard

REPLACED = ".replaced"
"""Ends the name of what a switch without an exchange has moved away (`EdgeStaged.switch`)."""

_ID = re.compile(r"[0-9a-z]{26}")


def staging_path(place: Path, new_id: str) -> Path:
    """Return where a shard that is going to stand at `place` is written."""
    return place.parent / f"{_prefix(place)}{new_id}"


def create_locked(staging: Path) -> int:
    """Create the directory, lock it, and return the descriptor that holds the lock until it is closed.

    On file systems without locks it is merely never taken for abandoned.
    """
    staging.mkdir(parents=True)
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _try_lock(descriptor)
    return descriptor


def remove_abandoned(place: Path) -> None:
    """Remove the staging directories of killed restores into this place.

    What might be the only copy of something stays: a directory whose restore was killed between the two
    renames of a switch. So does one without a shard: it may be about to be locked.
    """
    if not place.parent.is_dir():
        return
    prefix = _prefix(place)
    for found in place.parent.iterdir():
        is_staging = found.name.startswith(prefix) and _ID.fullmatch(found.name.removeprefix(prefix))
        if not is_staging or found.is_symlink() or not is_shard(found):
            continue
        if found.with_name(found.name + REPLACED).exists():
            continue
        with suppress(PermissionError):  # another user's: not ours to remove, and not in the way
            _remove_unless_locked(found)


def _remove_unless_locked(staging: Path) -> None:
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _try_lock(descriptor):
            shutil.rmtree(staging)
    finally:
        os.close(descriptor)


def _prefix(place: Path) -> str:
    return f".{place.name}.recollect-"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
