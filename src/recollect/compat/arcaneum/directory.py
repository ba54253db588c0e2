"""Dump directories: their names, the names of the files in them, and which of them are kept.

`qdrant-snapshots-YYYY-MM-DD-HHMMSS` in UTC, so that names sort by time on every day of the year.
A directory that is being written has a hidden name; one under its final name is finished.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from recollect.errors import AccessError, UnavailableError

MANIFEST_TEXT = "manifest.txt"
MANIFEST = "manifest.json"
SUFFIX = ".snapshot"

_REMOVING = ".removing"
_PART = ".part"
_DIRECTORY = re.compile(r"qdrant-snapshots-\d{4}-\d{2}-\d{2}-\d{6}")
_FILE = re.compile(r"(?P<collection>.+)-\d{1,20}-\d{4}(-\d{2}){5}\.snapshot", re.DOTALL)


def dump_name(now: datetime) -> str:
    """Return the name of a dump made now."""
    return f"qdrant-snapshots-{now:%Y-%m-%d-%H%M%S}"


def collection_of(file_name: str) -> str:
    """Return the collection that a snapshot file is of, from its name as the server gives it.

    A file that was renamed, as in `pearldiver-backup.snapshot`, is of the collection that its stem names.
    """
    match = _FILE.fullmatch(file_name)
    return match["collection"] if match is not None else file_name.removesuffix(SUFFIX)


def snapshot_files(directory: Path) -> list[Path]:
    """Return all snapshot files below a directory, sorted by path; unfinished downloads are hidden."""
    found = (path for path in directory.rglob("*" + SUFFIX) if path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def dumps_in(parent: Path) -> list[Path]:
    """Return the finished dumps of a backup directory, oldest first."""
    if not parent.is_dir():
        return []
    found = (path for path in parent.iterdir() if _DIRECTORY.fullmatch(path.name) and _is_own(path))
    return sorted(path for path in found if (path / MANIFEST_TEXT).is_file() or (path / MANIFEST).is_file())


def expired(parent: Path, keep: int) -> list[Path]:
    """Return the dumps beyond the newest `keep`, oldest first."""
    found = dumps_in(parent)
    return found[: max(0, len(found) - keep)]


def half_removed(parent: Path) -> list[Path]:
    """Return what interrupted removals left of dumps."""
    names = (path.name.removeprefix(".").removesuffix(_REMOVING) for path in parent.glob(f".*{_REMOVING}"))
    found = (parent / f".{name}{_REMOVING}" for name in names if _DIRECTORY.fullmatch(name))
    return sorted(path for path in found if _is_own(path))


def interrupted(parent: Path) -> list[Path]:
    """Return the directories of dumps that are being written, or were when their process ended."""
    names = (path.name.removeprefix(".").removesuffix(_PART) for path in parent.glob(f".*{_PART}"))
    found = (parent / f".{name}{_PART}" for name in names if _DIRECTORY.fullmatch(name))
    return sorted(path for path in found if _is_own(path))


def part_of(final: Path) -> Path:
    """Return the hidden name of a dump while it is being written."""
    return final.with_name(f".{final.name}{_PART}")


@contextmanager
def turn(parent: Path) -> Iterator[None]:
    """Wait until nobody else begins a dump here: one that has begun and is not held yet looks dead."""
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held(directory: Path) -> Iterator[bool]:
    """Hold a dump that is being written, as long as this process lives; False if another one holds it.

    Source: flock(2), which works on directories.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another process, or a file system without locks: then nobody's is removed
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _is_own(path: Path) -> bool:
    """Tell a directory from a link to one, which is somewhere else."""
    return path.is_dir() and not path.is_symlink()


def holds_foreign_files(directory: Path) -> bool:
    """Tell whether a dump directory holds anything that no dump writes."""
    known = {MANIFEST, MANIFEST_TEXT}
    return any(
        path.is_symlink() or not path.is_file() or (path.name not in known and path.suffix != SUFFIX)
        for path in directory.iterdir()
    )


def remove(directory: Path) -> None:
    """Remove a dump: hidden first, so that a crash leaves no half dump under its name."""
    is_hidden = directory.name.endswith(_REMOVING)
    hidden = directory if is_hidden else directory.with_name(f".{directory.name}{_REMOVING}")
    try:
        if not is_hidden:
            directory.rename(hidden)
        shutil.rmtree(hidden)
    except PermissionError as error:
        raise AccessError(
            f"removing the dump {directory}: {error.strerror}", "check its permissions"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"removing the dump {directory}: {error.strerror}", "remove it by hand"
        ) from error
