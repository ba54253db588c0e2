"""The members of a tar archive that nobody vouches for.

`tarfile` believes what a header says: it reads as many bytes of a long name as are claimed, goes back where
a size is negative, and maps extents that overlap. Here a header that no server writes ends the reading.
Source: https://www.gnu.org/software/tar/manual/html_node/Standard.html
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Self

from recollect.engines.qdrant.sparse_tar import BLOCK, Extent

MEMBERS_MAX = 1_000_000
"""A segment has tens of files and some for each payload index, a shard tens of segments."""
NAME_BYTES_MAX = 64 << 10
"""Of a name that has blocks of its own; Linux opens none above 4096 bytes."""
_ABOUT_THE_NEXT = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}


class _Member(tarfile.TarInfo):
    """A header whose numbers can be true."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. Raises ReadError where its numbers cannot be true."""
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0:
            raise tarfile.ReadError(f"{found.name!r} has {found.size} bytes")
        if found.type in _ABOUT_THE_NEXT and found.size > NAME_BYTES_MAX:
            raise tarfile.ReadError(f"a name of {found.size} bytes")
        return found


@contextmanager
def tar_open(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Open an archive for `tar_members`; whatever `tarfile` stumbles over in it is a ReadError.

    Raises:
        tarfile.TarError, EOFError, ValueError: It is no complete archive.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
            yield archive
    except (LookupError, ArithmeticError, RecursionError) as error:
        raise tarfile.ReadError(f"{type(error).__name__}: {error}") from error


def tar_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in their order.

    Raises:
        tarfile.ReadError: There are more than any shard has.
    """
    for count, member in enumerate(archive, start=1):
        if count > MEMBERS_MAX:
            raise tarfile.ReadError(f"it has more than {MEMBERS_MAX} members")
        yield member


def data_extents(archive: tarfile.TarFile, member: tarfile.TarInfo) -> list[Extent]:
    """Return where a member's file has data; call it before the next member is asked for.

    Raises:
        tarfile.ReadError: Its extents do not ascend, overlap, lead out of the file, or are not as long
            as what the archive holds of them.
    """
    # tarfile's own attribute; its type is said to be an integer and is a list of offsets and sizes.
    holes: Any = member.sparse
    found: list[Extent] = [(0, member.size)] if holes is None else [each for each in holes if each[1]]
    end = 0
    for offset, size in found:
        if offset < end or size < 0 or offset + size > member.size:
            raise tarfile.ReadError(f"the extents of {member.name!r} are none of a file: {offset}, {size}")
        end = offset + size
    stored = sum(size for _, size in found)
    if stored + -stored % BLOCK != archive.offset - member.offset_data:
        raise tarfile.ReadError(f"{member.name!r} is said to hold {stored} bytes and holds others")
    file: Any = archive.fileobj
    if archive.offset > file.seek(0, os.SEEK_END):
        raise tarfile.ReadError(f"{member.name!r} ends early")
    return found
