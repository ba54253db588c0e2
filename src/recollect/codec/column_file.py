"""The frame of a vector column file: head, block table and footer, checked before they are believed.

::

    head     16 bytes   magic, version
    blocks              back to back, each a multiple of 8 bytes
    table    40 bytes per block
    footer   56 bytes   what the column is, where the table stands, checksums, version, magic

All integers are little-endian. The footer's last 16 bytes keep their place in every version.
Format: docs/format.md#vector-column
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from recollect.codec.stream import EXPANSION_MAX
from recollect.errors import FormatVersionError, IntegrityError
from recollect.values.batch import numpy_datatype
from recollect.values.schema import VectorSpec

VERSION = 1
MAGIC = b"RECOLVEC"

BLOCK_SIZE = 1 << 20
"""Raw bytes of a block at most, unless one row alone is larger."""

KINDS = ("dense", "sparse", "multi")
DATATYPES = ("float32", "float16", "uint8", "int8")

_HEAD = struct.Struct("<8sHxxxxxx")
_FOOTER = struct.Struct("<QQQIIIBBxxHHI8s")
HEAD_SIZE = _HEAD.size
FOOTER_SIZE = _FOOTER.size

ENTRY = np.dtype(
    [
        ("first_row", "<u8"),
        ("offset", "<u8"),
        ("item_count", "<u8"),
        ("row_count", "<u4"),
        ("length", "<u4"),
        ("crc", "<u4"),
        ("value_encoding", "u1"),
        ("index_encoding", "u1"),
        ("reserved", "<u2"),
    ]
)

Table = npt.NDArray[np.void]


class Frame(NamedTuple):
    """What a file says of itself, checked: rows, items and one table entry per block."""

    row_count: int
    item_count: int
    table: Table


def encode_head() -> bytes:
    """Return the first bytes of every file."""
    return _HEAD.pack(MAGIC, VERSION)


def encode_tail(table: Table, spec: VectorSpec, table_offset: int) -> bytes:
    """Return table and footer, which end the file."""
    packed = table.tobytes()
    fields = (
        int(table["row_count"].sum(dtype=np.uint64)),
        int(table["item_count"].sum(dtype=np.uint64)),
        table_offset,
        len(table),
        spec.dimension,
        google_crc32c.value(packed),
        KINDS.index(spec.kind),
        DATATYPES.index(spec.datatype),
        VERSION,
        FOOTER_SIZE,
    )
    unsigned = _FOOTER.pack(*fields, 0, MAGIC)
    return packed + _FOOTER.pack(*fields, google_crc32c.value(unsigned[: FOOTER_SIZE - 12]), MAGIC)


def check_head(head: bytes) -> None:
    """Raise IntegrityError unless these are the first bytes of a file of our version."""
    if head != encode_head():
        raise IntegrityError(
            "a vector column file does not begin as it should: its first 16 bytes are damaged"
        )


def read_frame(tail: bytes, byte_size: int, spec: VectorSpec) -> tuple[int, Frame | None]:
    """Check the end of a file of `byte_size` bytes; return how many bytes from its end are needed.

    The frame is None where `tail` is too short to hold the table.

    Raises:
        IntegrityError: Magic, checksum, or what the footer says of sizes does not hold, or the
            column is not the one that `spec` describes.
        FormatVersionError: The footer is intact and of another version.
    """
    if byte_size < HEAD_SIZE + FOOTER_SIZE or len(tail) < FOOTER_SIZE:
        raise IntegrityError(f"a vector column file is cut short: it has {byte_size} bytes")
    footer = tail[-FOOTER_SIZE:]
    fields = _FOOTER.unpack(footer)
    row_count, item_count, table_offset, block_count, dimension, table_crc, kind, datatype = fields[:8]
    version, footer_size, footer_crc, magic = fields[8:]
    if magic != MAGIC:
        raise IntegrityError("a vector column file does not end as it should: it is cut short or damaged")
    if version != VERSION and _is_intact(tail, footer_size, footer_crc):
        raise FormatVersionError(
            f"a vector column file has format version {version}; this release reads version {VERSION}",
            "upgrade recollect on this machine",
        )
    if version != VERSION or footer_size != FOOTER_SIZE or not _is_intact(tail, footer_size, footer_crc):
        raise IntegrityError("a vector column file's footer is damaged: its checksum does not match")
    if footer[38:40] != b"\0\0" or table_offset + block_count * ENTRY.itemsize + FOOTER_SIZE != byte_size:
        raise IntegrityError("a vector column file's footer does not describe a file of its size")
    _check_spec(kind, datatype, dimension, spec)
    needed = block_count * ENTRY.itemsize + FOOTER_SIZE
    if len(tail) < needed:
        return needed, None
    packed = tail[-needed:-FOOTER_SIZE]
    if google_crc32c.value(bytes(packed)) != table_crc:
        raise IntegrityError("a vector column file's block table is damaged: its checksum does not match")
    table = np.frombuffer(packed, dtype=ENTRY)
    frame = Frame(row_count, item_count, table)
    _check_table(frame, table_offset, spec)
    return needed, frame


def row_size(spec: VectorSpec) -> int:
    """Return the raw bytes of one item: a matrix row, or a sparse pair."""
    return 8 if spec.kind == "sparse" else spec.dimension * numpy_datatype(spec).itemsize


def _is_intact(tail: bytes, footer_size: int, crc: int) -> bool:
    return 16 <= footer_size <= len(tail) and google_crc32c.value(bytes(tail[-footer_size:-12])) == crc


def _check_spec(kind: int, datatype: int, dimension: int, spec: VectorSpec) -> None:
    if kind >= len(KINDS) or datatype >= len(DATATYPES):
        raise IntegrityError(f"a vector column file has the unknown kind {kind} or datatype {datatype}")
    found = (KINDS[kind], DATATYPES[datatype], dimension)
    if found != (spec.kind, spec.datatype, spec.dimension):
        raise IntegrityError(
            f"a vector column file holds {found[0]} {found[1]} vectors of dimension {dimension}, "
            f"but vector {spec.name!r} is {spec.kind} {spec.datatype} of dimension {spec.dimension}"
        )


def _check_table(frame: Frame, table_offset: int, spec: VectorSpec) -> None:
    """Check that blocks follow each other and that none claims more than its bytes can unpack to."""
    table = frame.table
    lengths = table["length"].astype(np.int64)
    rows = table["row_count"].astype(np.int64)
    items = table["item_count"].astype(np.float64)  # cannot wrap; sums are compared as integers below
    starts = HEAD_SIZE + np.cumsum(lengths) - lengths
    sound = (
        HEAD_SIZE + int(lengths.sum()) == table_offset
        and np.array_equal(starts, table["offset"])
        and np.array_equal(np.cumsum(rows) - rows, table["first_row"])
        and int(rows.sum()) == frame.row_count
        and bool(np.all(rows > 0))
        and not np.any(table["reserved"])
        and bool(np.all(items * row_size(spec) <= 2.0 * EXPANSION_MAX * lengths))  # 2: narrowed to half
        and bool(np.all(rows <= EXPANSION_MAX * lengths))
        and sum(table["item_count"].tolist()) == frame.item_count
    )
    if spec.kind == "dense":
        sound = sound and np.array_equal(table["item_count"], rows)
    if not sound:
        raise IntegrityError("a vector column file's block table contradicts itself or the file's size")
