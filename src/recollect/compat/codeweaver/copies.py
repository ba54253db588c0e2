"""Copies of snapshots outside of the server: in a directory, or in a byte store.

In a directory a copy is the snapshot file itself. In a store it is `<name>/<number>.part`, pieces of 64
MiB that `cat` joins, and `<name>/copy.json`, written last: without it there is no copy.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Protocol

import msgspec

from recollect.engines.qdrant.snapshots import is_file_name
from recollect.errors import IntegrityError, NotFoundError, UnavailableError
from recollect.storage.base import ObjectStore

PART_BYTES = 64 << 20
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")


class CopyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One copy: the snapshot's name, and the size and SHA-256 of its bytes."""

    name: str
    byte_size: int
    sha256: str


class Copies(Protocol):
    """Where copies are kept. One thread at a time."""

    def keep(self, source: Path, facts: CopyFacts) -> None:
        """Store a checked file as a copy, durably and all at once; the file itself may be moved."""
        ...

    def names(self) -> list[str]:
        """Return the names of all copies, sorted."""
        ...

    def fetch(self, name: str, scratch: Path) -> tuple[Path, CopyFacts]:
        """Bring a copy, checked against its SHA-256, into a file; below `scratch` unless it is one already.

        Raises:
            NotFoundError: There is no such copy. IntegrityError: It is damaged.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a copy; one that is gone is no error."""
        ...


class DirectoryCopies:
    """Copies as files `<name>`, each with its `<name>.sha256` in the form of `sha256sum`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, source: Path, facts: CopyFacts) -> None:
        """Move the file into place; the digest first, so that a copy without one is never seen."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._path(facts.name)
            part = path.with_name(f".{facts.name}.part")
            shutil.move(source, part)
            _sync(part)
            digest = self._digest(facts.name)
            digest.write_text(f"{facts.sha256}  {facts.name}\n", encoding="utf-8")
            _sync(digest)
            part.replace(path)
            _sync(self._directory)
        except OSError as error:
            raise UnavailableError(
                f"keeping {facts.name} in {self._directory}: {error.strerror}",
                "check its disk and permissions",
            ) from error

    def names(self) -> list[str]:
        """Return the names of all copies, sorted."""
        if not self._directory.is_dir():
            return []
        return sorted(path.name for path in self._directory.iterdir() if self._digest(path.name).is_file())

    def fetch(self, name: str, scratch: Path) -> tuple[Path, CopyFacts]:  # noqa: ARG002 - it is a file already
        """Return the file itself, after reading it."""
        path = self._path(name)
        try:
            wanted = self._digest(name).read_text("utf-8").split()[0]
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, IndexError) as error:
            raise NotFoundError(f"there is no copy of {name} in {self._directory}") from error
        return path, _matching(CopyFacts(name=name, byte_size=path.stat().st_size, sha256=found), wanted)

    def remove(self, name: str) -> None:
        """Remove the file, then its digest; without a digest it is no copy, and is left alone."""
        if self._digest(name).is_file():
            self._path(name).unlink(missing_ok=True)
            self._digest(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        """Return where a copy is.

        Raises:
            NotFoundError: The name would lead out of the directory.
        """
        if not is_file_name(name):
            raise NotFoundError(f"{name!r} is no name of a snapshot")
        return self._directory / name

    def _digest(self, name: str) -> Path:
        return self._path(f"{name}.sha256" if is_file_name(name) else name)


class StoreCopies:
    """Copies in a byte store; memory is bounded by one piece."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def keep(self, source: Path, facts: CopyFacts) -> None:
        """Put the pieces, then the document that makes them a copy."""
        number = 0
        with source.open("rb") as file:
            while piece := file.read(PART_BYTES):
                self._store.put(self._key(facts.name, f"{number:06d}.part"), piece)
                number += 1
        self._store.put(self._key(facts.name, "copy.json"), msgspec.json.encode(facts))
        source.unlink()

    def names(self) -> list[str]:
        """Return the names of all copies, sorted."""
        documents = [item.key for item in self._store.list("") if item.key.endswith("/copy.json")]
        return sorted(msgspec.json.decode(self._store.get(key), type=CopyFacts).name for key in documents)

    def fetch(self, name: str, scratch: Path) -> tuple[Path, CopyFacts]:
        """Join the pieces in a file below `scratch`."""
        facts = msgspec.json.decode(self._store.get(self._key(name, "copy.json")), type=CopyFacts)
        path, digest = scratch / "fetched.snapshot", hashlib.sha256()
        with path.open("wb") as file:
            while file.tell() < facts.byte_size:
                piece = self._store.get(self._key(name, f"{file.tell() // PART_BYTES:06d}.part"))
                digest.update(piece)
                file.write(piece)
        found = CopyFacts(name=name, byte_size=path.stat().st_size, sha256=digest.hexdigest())
        return path, _matching(found, facts.sha256)

    def remove(self, name: str) -> None:
        """Remove the document first, then the pieces."""
        self._store.delete(self._key(name, "copy.json"))
        for item in list(self._store.list(_safe(name))):
            self._store.delete(item.key)

    @staticmethod
    def _key(name: str, part: str) -> str:
        return f"{_safe(name)}/{part}"


def _safe(name: str) -> str:
    """Return a key part for any name: other bytes than letters, digits and `._-` become `_<hex>`."""
    text = _UNSAFE.sub(lambda match: b"_%02x" % match[0][0], name.encode()).decode("ascii")
    return text if text[0].isalnum() else f"_{text}"


def _matching(found: CopyFacts, wanted: str) -> CopyFacts:
    if found.sha256 != wanted:
        raise IntegrityError(
            f"the copy of {found.name} is damaged: its SHA-256 is {found.sha256}, not {wanted}",
            "restore from another snapshot",
        )
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
