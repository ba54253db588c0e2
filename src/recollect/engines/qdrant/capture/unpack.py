"""Archive → files of a shard, checked on the way.

An archive may be cut short between two members, or lack its trailer, and a server would take it in all
the same. So the reader goes from header to header, asks for the two zero blocks where it found no further
member, and for every file that the manifests list. Contents have no checksums; the transport's must do.
"""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import msgspec

from recollect.engines.qdrant.archive import TRAILER_BYTES
from recollect.engines.qdrant.capture.manifest import ALWAYS, MANIFEST_FILE, Manifest, decode_segment
from recollect.engines.qdrant.capture.spool import Claim, disk_errors
from recollect.engines.qdrant.sparse_tar import Extent
from recollect.engines.qdrant.tar_members import data_extents, tar_members, tar_open
from recollect.errors import IntegrityError

SEGMENTS = "segments"
COPY_BYTES = 1 << 20
MANIFEST_BYTES_MAX = 64 << 20
"""Of one segment; a real one has some kilobytes. One that only claims to be large is not read."""
_STREAMABLE = "files"
_REGULAR = "snapshot/files"
_DATA_TYPES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE}


class Unpacked(msgspec.Struct, kw_only=True):
    """What came out of an archive.

    Attributes:
        directory: `segments/<id>/…` and `root/…` in it.
        arrived: Files by segment, relative to it; without the manifests.
        manifest: By segment; empty where the archive has none.
        root: Files beside the segments, relative to the archive's top.
    """

    directory: Path
    arrived: dict[str, set[str]] = {}
    manifest: Manifest = {}
    root: set[str] = set()


def unpack(archive: Path, directory: Path, *, what: str, budget: Claim) -> Unpacked:
    """Unpack a shard's archive into a new directory, with its holes.

    Raises:
        IntegrityError: It is no archive, is cut short, lacks its trailer or a part of a segment, or
            holds what no shard has. Nothing of it may be used.
        StorageFullError: The spool has no room.
    """
    found = Unpacked(directory=directory, arrived={}, manifest={}, root=set())
    try:
        with disk_errors("unpacking into", directory), archive.open("rb") as file:
            _read(file, found, budget, prefix="")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(what, f"it is no complete archive: {error}") from error
    except IntegrityError as error:
        raise _damaged(what, error.message) from error
    _check_segments(found, what)
    return found


def _read(file: IO[bytes], found: Unpacked, budget: Claim, *, prefix: str) -> None:
    """Read all members, and ask for the trailer where no further one was found."""
    with tar_open(file) as archive:
        for member in tar_members(archive):
            if member.isdir():
                continue
            if member.type not in _DATA_TYPES:
                raise IntegrityError(f"{member.name!r} is neither a file nor a directory")
            extents = data_extents(archive, member)
            content = archive.extractfile(member)
            assert content is not None, "a file has content"
            name = prefix + member.name.removeprefix("./")
            _take(name, _Content(member.size, extents, content), found, budget)
        end = int(archive.offset)
    _check_trailer(file, end)


class _Content(NamedTuple):
    """A member's file: its size with holes, where it has data, and the data."""

    size: int
    extents: list[Extent]
    file: IO[bytes]


def _take(name: str, content: _Content, found: Unpacked, budget: Claim) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise IntegrityError(f"{name!r} leads out of the archive")
    if path.parts[0] != SEGMENTS:
        _write(found.directory / "root" / path, name, content, budget)
        found.root.add(str(path))
        return
    if len(path.parts) == 2 and path.suffix == ".tar":  # one archive for each segment, as on disk
        _read(content.file, found, budget, prefix=f"{SEGMENTS}/{path.stem}/")
        return
    if len(path.parts) < 3:
        raise IntegrityError(f"{name!r} is no part of a segment")
    segment, rest = path.parts[1], "/".join(path.parts[2:])
    file = rest.removeprefix(_REGULAR + "/").removeprefix(_STREAMABLE + "/")
    if file == rest:
        raise IntegrityError(f"{name!r} is no part of a segment")
    if file == MANIFEST_FILE:
        if content.size > MANIFEST_BYTES_MAX:
            raise IntegrityError(f"the manifest of segment {segment} has {content.size} bytes")
        found.manifest[segment] = decode_segment(content.file.read(), segment)
        found.arrived.setdefault(segment, set())
        return
    _write(found.directory / SEGMENTS / segment / file, name, content, budget)
    found.arrived.setdefault(segment, set()).add(file)


def _write(target: Path, name: str, content: _Content, budget: Claim) -> None:
    """Write a file without its holes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise IntegrityError(f"{name!r} is in it twice") from error
    with file:
        for offset, size in content.extents:
            budget.take(size)
            content.file.seek(offset)
            file.seek(offset)
            left = size
            while left:
                piece = content.file.read(min(left, COPY_BYTES))
                if not piece:
                    raise IntegrityError(f"{name!r} ends early")
                file.write(piece)
                left -= len(piece)
        file.truncate(content.size)


def _check_trailer(file: IO[bytes], end: int) -> None:
    file.seek(end)
    trailer = file.read(TRAILER_BYTES)
    if len(trailer) < TRAILER_BYTES or trailer.strip(b"\0"):
        raise IntegrityError("it does not end as an archive does: the server stopped while it sent it")


def _check_segments(found: Unpacked, what: str) -> None:
    if not found.arrived:
        raise _damaged(what, "it holds no segment")
    if found.manifest and found.manifest.keys() != found.arrived.keys():
        lacking = sorted(found.arrived.keys() - found.manifest.keys())
        raise _damaged(what, f"segment {lacking[0]} has no manifest")
    for segment, files in found.arrived.items():
        for file in ALWAYS:
            if file not in files and not found.manifest:
                raise _damaged(what, f"segment {segment} has no {file}")


def _damaged(what: str, finding: str) -> IntegrityError:
    return IntegrityError(f"{what} cannot be trusted: {finding}", "nothing of it was used; try again")
