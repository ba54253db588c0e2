"""The numbers of nvecd's snapshot format v1. Little-endian; a string is a u32 length and bytes.

::

    magic, version, header | config | [statistics] | u32 store count | stores
    a section: u32 size, u32 CRC-32, data
    a store:   name, u32 statistics size [CRC-32, statistics], section
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

MAGIC: Final = b"NVEC"
VERSION: Final = 1

FIXED = struct.Struct("<4sI")  # magic, version
HEADER = struct.Struct("<IIQQI")  # header size, flags, seconds since 1970, file size, CRC-32 of the file
CHECKSUM_OFFSET = FIXED.size + HEADER.size - 4
HEADER_SIZE = HEADER.size + 4  # with the length of the reserved string, which is empty
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
SECTION = struct.Struct("<II")  # size, CRC-32

FLAG_COMPRESSED = 1
FLAG_ENCRYPTED = 2
FLAG_INCREMENTAL = 4
FLAG_STATISTICS = 8
FLAG_CHECKSUM = 0x10
FLAGS_RESERVED = FLAG_COMPRESSED | FLAG_ENCRYPTED | FLAG_INCREMENTAL

EVENTS, EDGES, VECTORS, METADATA = "events", "co_occurrence", "vectors", "metadata"
EXTRA = "recollect"
"""A fifth store, of ours, for what format v1 cannot carry. nvecd refuses a file that has it."""

STORES_REQUIRED = (EVENTS, EDGES, VECTORS)
STORES_KNOWN = (*STORES_REQUIRED, METADATA, EXTRA)
LABELS = {
    EVENTS: "events store",
    EDGES: "co-occurrence store",
    VECTORS: "vectors store",
    METADATA: "metadata store",
    EXTRA: "recollect store",
}

DIMENSION_MAX = 4096
SECTION_BYTES_MAX = 16 << 20
KIND_MAX = 2  # ADD 0, SET 1, DEL 2


class SnapshotLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a file may be.

    Attributes:
        store_bytes_max: Of one store. nvecd writes and reads 512 MiB; the field could hold 4 GiB - 1.
        file_bytes_max: Of the whole file. nvecd: 3 GiB.
    """

    store_bytes_max: int = 512 << 20
    file_bytes_max: int = 3 << 30


NVECD_LIMITS = SnapshotLimits()
"""Files within these limits can go back to nvecd."""

FORMAT_LIMITS = SnapshotLimits(store_bytes_max=(1 << 32) - 1, file_bytes_max=1 << 40)
"""What the fields of the format hold; nvecd refuses a file above `NVECD_LIMITS`."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the sections."""

    version: int
    header_size: int
    flags: int
    timestamp: int
    file_size: int
    checksum: int
    reserved: bytes = b""

    @property
    def has_statistics(self) -> bool:
        """Whether a statistics section follows the config section."""
        return bool(self.flags & FLAG_STATISTICS)

    @property
    def byte_size(self) -> int:
        """Bytes up to the config section."""
        return FIXED.size + HEADER.size + U32.size + len(self.reserved)

    def encode(self) -> bytes:
        """Return the bytes up to the config section."""
        fields = HEADER.pack(self.header_size, self.flags, self.timestamp, self.file_size, self.checksum)
        return FIXED.pack(MAGIC, self.version) + fields + U32.pack(len(self.reserved)) + self.reserved
