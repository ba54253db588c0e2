"""Bytes of sections to columns. Anything that is not exactly a section is refused.

Messages are nvecd's where it has one for the case.
"""

from __future__ import annotations

import math
import struct
from typing import NoReturn

import numpy as np

from recollect.compat.nvecd.snapshot.content import (
    EVENT_ROW,
    EdgeColumns,
    EventColumns,
    Fields,
    MetadataValue,
    SnapshotConfig,
)
from recollect.compat.nvecd.snapshot.encode import TAG_BOOL, TAG_DOUBLE, TAG_INTEGER, TAG_STRING
from recollect.compat.nvecd.snapshot.layout import EDGES, EVENTS, KIND_MAX, METADATA, U32
from recollect.compat.nvecd.snapshot.ragged import Bytes, read_fixed
from recollect.errors import IntegrityError

_U32 = U32.unpack_from
_F64 = struct.Struct("<d")
_I64 = struct.Struct("<q")
_GROUP_BYTES_MIN = 8
_NEIGHBOR_BYTES_MIN = 8
_EVENT_BYTES_MIN = 4 + EVENT_ROW.itemsize
_FIELD_BYTES_MIN = 6


class Cursor:
    """A place in a section. Reading past its end is an error that names what was wanted."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bytes that follow."""
        return len(self.data) - self.position

    def take(self, size: int, what: str) -> bytes:
        """Return the next bytes."""
        if size > self.remaining:
            fail(f"Failed to read {what}")
        start = self.position
        self.position += size
        return self.data[start : self.position]

    def unpack(self, form: struct.Struct, what: str) -> tuple[int | float, ...]:
        """Return the next fields."""
        return form.unpack(self.take(form.size, what))

    def count(self, what: str) -> int:
        """Return the next u32."""
        return int(U32.unpack(self.take(U32.size, what))[0])

    def text(self, what: str) -> str:
        """Return the next string."""
        return decode_name(self.take(self.count(what), what), what)

    def finish(self, what: str) -> None:
        """Refuse bytes that are left over."""
        if self.remaining:
            fail(f"Trailing bytes in {what}")


def fail(message: str) -> NoReturn:
    """Refuse the file."""
    raise IntegrityError(message, "use another snapshot file; `DUMP VERIFY` tells which ones are whole")


def decode_name(encoded: bytes, what: str) -> str:
    """Decode UTF-8."""
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        fail(f"Failed to read {what}: {encoded[:64]!r} is not UTF-8")


def decode_config(data: bytes) -> SnapshotConfig:
    """Decode the config section."""
    cursor = Cursor(data)
    buffer_size, interval, alpha, dimension = cursor.unpack(struct.Struct("<IIdI"), "ctx_buffer_size")
    metric = cursor.text("distance_metric")
    top_k, max_top_k, fusion_alpha, fusion_beta = cursor.unpack(struct.Struct("<IIdd"), "default_top_k")
    cursor.finish("config section")
    return SnapshotConfig(
        ctx_buffer_size=int(buffer_size),
        decay_interval_sec=int(interval),
        decay_alpha=alpha,
        default_dimension=int(dimension),
        distance_metric=metric,
        default_top_k=int(top_k),
        max_top_k=int(max_top_k),
        fusion_alpha=fusion_alpha,
        fusion_beta=fusion_beta,
    )


class _Rows:
    """Rows of a name and fixed fields: numbers for the names as they are met, and where each name ends."""

    def __init__(self, data: bytes, width: int) -> None:
        self._data = data
        self._width = width
        self.numbers: dict[bytes, int] = {}
        self.found: list[int] = []
        self._ends: list[int] = []

    def number(self, name: bytes) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def texts(self, what: str) -> list[str]:
        return [decode_name(name, what) for name in self.numbers]

    def fields(self) -> Bytes:
        """Copy the fixed fields of all rows out. Shapes: (n, width)."""
        ends = np.array(self._ends, dtype=np.int64)
        return read_fixed(np.frombuffer(self._data, np.uint8), ends, self._width)

    def scan(self, position: int, count: int) -> int:
        """Walk `count` rows from `position`; return where they end, or -1 if the data ends before.

        The one loop that runs once per event and per edge; everything else is done by columns.
        """
        data, width, numbers = self._data, self._width, self.numbers
        add, end_at = self.found.append, self._ends.append
        last = len(data) - width
        for _ in range(count):
            start = position + 4
            if start > last:
                return -1
            end = start + _U32(data, position)[0]
            if end > last:
                return -1
            add(numbers.setdefault(data[start:end], len(numbers)))
            end_at(end)
            position = end + width
        return position


def decode_events(data: bytes) -> EventColumns:
    """Decode the events store."""
    cursor = Cursor(data)
    count = cursor.count("context count")
    if cursor.remaining < count * _GROUP_BYTES_MIN:
        fail("Context count exceeds remaining store data")
    names, contexts, sizes = _Rows(data, EVENT_ROW.itemsize), dict[str, None](), list[int]()
    for _ in range(count):
        context = cursor.text("context name")
        if context in contexts:
            fail(f"Duplicate context: {context}")
        contexts[context] = None
        size = cursor.count(f"event count for context: {context}")
        if cursor.remaining < size * _EVENT_BYTES_MIN:
            fail(f"Event count exceeds remaining data for context: {context}")
        sizes.append(size)
        cursor.position = names.scan(cursor.position, size)
        if cursor.position < 0:
            fail("Failed to read event id")
    cursor.finish(f"store data for '{EVENTS}'")
    rows = names.fields().view(EVENT_ROW).reshape(-1)
    wrong = np.flatnonzero(rows["kind"] > KIND_MAX)
    if len(wrong):
        fail(f"Invalid event type: {rows['kind'][wrong[0]]}")
    return EventColumns(
        names.texts("event id"),
        list(contexts),
        np.array(sizes, dtype=np.int64),
        np.array(names.found, dtype=np.uint32),
        rows,
    )


def decode_edges(data: bytes) -> EdgeColumns:
    """Decode the co-occurrence store."""
    cursor = Cursor(data)
    count = cursor.count("item count")
    if cursor.remaining < count * _GROUP_BYTES_MIN:
        fail("Item count exceeds remaining store data")
    names, sources, sizes = _Rows(data, 4), dict[int, None](), list[int]()
    targets = names.found
    for _ in range(count):
        name = cursor.take(cursor.count("item name"), "item name")
        source = names.number(name)
        if source in sources:
            fail(f"Duplicate co-occurrence item: {decode_name(name, 'item name')}")
        sources[source] = None
        size = cursor.count("co-item count")
        if cursor.remaining < size * _NEIGHBOR_BYTES_MIN:
            fail(f"Neighbor count exceeds remaining data for: {decode_name(name, 'item name')}")
        sizes.append(size)
        first = len(targets)
        cursor.position = names.scan(cursor.position, size)
        if cursor.position < 0:
            fail("Failed to read co-item name")
        neighbors = set(targets[first:])
        if source in neighbors or len(neighbors) != size:
            text = decode_name(name, "item name")
            fail(f"Failed to restore co-occurrence edge: an edge of {text} is to itself or twice")
    cursor.finish(f"store data for '{EDGES}'")
    weights = names.fields().view("<f4").reshape(-1)
    if not np.isfinite(weights).all():
        fail("Failed to restore co-occurrence edge: a score is not finite")
    return EdgeColumns(
        names.texts("item name"),
        np.array(list(sources), dtype=np.uint32),
        np.array(sizes, dtype=np.int64),
        np.array(targets, dtype=np.uint32),
        weights,
    )


def decode_metadata(data: bytes) -> list[tuple[str, Fields]]:
    """Decode the metadata store."""
    cursor = Cursor(data)
    count = cursor.count("metadata item count")
    if cursor.remaining < count * _GROUP_BYTES_MIN:
        fail("Metadata item count exceeds remaining data")
    records: dict[str, Fields] = {}
    for _ in range(count):
        item = cursor.text("metadata item ID")
        if item in records:
            fail(f"Duplicate metadata ID: {item}")
        size = cursor.count("metadata field count")
        if cursor.remaining < size * _FIELD_BYTES_MIN:
            fail(f"Metadata field count exceeds remaining data for: {item}")
        fields = tuple(_field(cursor) for _ in range(size))
        if len({key for key, _ in fields}) != size:
            fail(f"Duplicate metadata key for: {item}")
        records[item] = fields
    cursor.finish(f"store data for '{METADATA}'")
    return list(records.items())


def _field(cursor: Cursor) -> tuple[str, MetadataValue]:
    key = cursor.text("metadata key")
    tag = cursor.take(1, "metadata value type")[0]
    value: MetadataValue
    if tag == TAG_STRING:
        value = cursor.text("string metadata")
    elif tag == TAG_INTEGER:
        value = int(cursor.unpack(_I64, "integer metadata")[0])
    elif tag == TAG_DOUBLE:
        value = float(cursor.unpack(_F64, "double metadata")[0])
        if not math.isfinite(value):
            fail(f"Metadata value of {key!r} is not finite")
    elif tag == TAG_BOOL:
        value = bool(cursor.take(1, "bool metadata")[0])
    else:
        fail(f"Unknown metadata value type: {tag}")
    return key, value
