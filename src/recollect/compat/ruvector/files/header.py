"""The first member of each file: which file, which version, of which snapshot."""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

from recollect.compat.ruvector.files.member import encode_member
from recollect.errors import FormatVersionError, IntegrityError

FILE_VERSION = 1

FileKind: TypeAlias = Literal["vectors", "records", "index"]

_PREFIX = struct.Struct("<8sI36s")  # magic, version, snapshot id in ASCII filled up with NUL
_MAGICS: dict[FileKind, bytes] = {"vectors": b"RVSNVECT", "records": b"RVSNRECS", "index": b"RVSNINDX"}


def encode_header(kind: FileKind, snapshot_id: str, fields: bytes) -> bytes:
    """Return the header member of a file; `fields` are the kind's own."""
    raw = _PREFIX.pack(_MAGICS[kind], FILE_VERSION, snapshot_id.encode("ascii")) + fields
    return encode_member([raw], b"", level=0)


def decode_header(kind: FileKind, snapshot_id: str, raw: bytes) -> bytes:
    """Check what a header member says and return the kind's own fields.

    Raises:
        FormatVersionError: Intact, but of another version.
        IntegrityError: Another kind of file, or one of another snapshot.
    """
    if len(raw) < _PREFIX.size:
        raise IntegrityError("the file has no header")
    magic, version, owner = _PREFIX.unpack_from(raw)
    if magic != _MAGICS[kind]:
        raise IntegrityError(f"the file begins with {magic!r}, not with {_MAGICS[kind]!r}")
    if version != FILE_VERSION:
        raise FormatVersionError(
            f"the file has version {version}; this release reads {FILE_VERSION}",
            "use the release that wrote it, or a newer one",
        )
    found = owner.rstrip(b"\0").decode("ascii", "replace")
    if found != snapshot_id:
        raise IntegrityError(f"the file belongs to snapshot {found}")
    return raw[_PREFIX.size :]
