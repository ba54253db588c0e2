"""Bytes of sections to columns. Anything that is not exactly a section is refused.

Messages are nvecd's where it has one for the case.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
from recollect.compat.nvecd.snapshot.ragged import read_fixed, starts_of
from recollect.compat.nvecd.snapshot.walk import Places, walk_groups, words
from recollect.errors import IntegrityError

_F64 = struct.Struct("<d")
_I64 = struct.Struct("<q")
_GROUP_BYTES_MIN = 8
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


class _Labels(NamedTuple):
    """How nvecd's messages call the parts of a store."""

    store: str
    head: str
    row: str
    rows: str


_EVENT_LABELS = _Labels(EVENTS, "context name", "event id", "Event count exceeds remaining data for context")
_EDGE_LABELS = _Labels(EDGES, "item name", "co-item name", "Neighbor count exceeds remaining data for")


def _refuse_head(data: bytes, place: int, labels: _Labels) -> NoReturn:
    """Say why no group begins here."""
    cursor = Cursor(data)
    cursor.position = place
    name = cursor.text(labels.head)
    cursor.count(labels.head)
    fail(f"{labels.rows}: {name}")


class _Groups:
    """The records of a store of groups, by columns.

    Attributes:
        sizes: Rows of each group. Shapes: (g,) int64.
        is_head: Of each record. Shapes: (n,) bool.
        names: Of all records, in order.
        fields: What follows the name of each row. Shapes: (n - g, width).
    """

    def __init__(self, data: bytes, count: int, width: int, labels: _Labels) -> None:
        records = walk_groups(data, U32.size, width)
        places, self.is_head = records.places, records.is_head
        found = int(np.count_nonzero(self.is_head))
        if records.rows_missing:
            fail(f"Failed to read {labels.row}")
        if found < count:
            _refuse_head(data, records.end, labels)
        heads = np.flatnonzero(self.is_head)
        if found > count or records.end < len(data):
            fail(f"Trailing bytes in store data for '{labels.store}'")
        begins = places + U32.size
        ends = begins + words(data)[places] if len(places) else begins
        self.names = _names_at(data, begins, ends)
        buffer = np.frombuffer(data, np.uint8)
        self.sizes = read_fixed(buffer, ends[heads], U32.size).view("<u4").reshape(-1).astype(np.int64)
        self.fields = read_fixed(buffer, ends[~self.is_head], width)


def _names_at(data: bytes, begins: Places, ends: Places) -> pa.LargeBinaryArray:
    """Copy names out of the data. Shapes: n begins and ends, ascending, none inside another."""
    bounds = np.empty(2 * len(begins) + 1, dtype=np.int64)
    bounds[0:-1:2], bounds[1::2], bounds[-1] = begins, ends, len(data)
    # Names and what is between them, by turns; every other one is wanted.
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    both = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2 * len(begins), buffers)
    return both.filter(pa.array(np.arange(2 * len(begins)) % 2 == 0))


def _number_names(names: pa.LargeBinaryArray, what: str) -> tuple[list[str], npt.NDArray[np.uint32]]:
    """Return the different names in the order of their first use, and the number of each. Shapes: (n,)."""
    encoded = names.dictionary_encode()
    return _texts(encoded.dictionary, what), encoded.indices.to_numpy().astype(np.uint32)


def _texts(names: pa.LargeBinaryArray, what: str) -> list[str]:
    try:
        texts: list[str] = names.cast(pa.large_string()).to_pylist()
    except pa.ArrowInvalid:
        return [decode_name(name, what) for name in names.to_pylist()]
    return texts


def decode_events(data: bytes) -> EventColumns:
    """Decode the events store."""
    cursor = Cursor(data)
    count = cursor.count("context count")
    if cursor.remaining < count * _GROUP_BYTES_MIN:
        fail("Context count exceeds remaining store data")
    groups = _Groups(data, count, EVENT_ROW.itemsize, _EVENT_LABELS)
    is_head = pa.array(groups.is_head)
    contexts = _texts(groups.names.filter(is_head), "context name")
    if len(set(contexts)) != count:
        fail(f"Duplicate context: {_first_twice(contexts)}")
    names, items = _number_names(groups.names.filter(pc.invert(is_head)), "event id")
    rows = groups.fields.view(EVENT_ROW).reshape(-1)
    wrong = np.flatnonzero(rows["kind"] > KIND_MAX)
    if len(wrong):
        fail(f"Invalid event type: {rows['kind'][wrong[0]]}")
    return EventColumns(names, contexts, groups.sizes, items, rows)


def decode_edges(data: bytes) -> EdgeColumns:
    """Decode the co-occurrence store."""
    cursor = Cursor(data)
    count = cursor.count("item count")
    if cursor.remaining < count * _GROUP_BYTES_MIN:
        fail("Item count exceeds remaining store data")
    groups = _Groups(data, count, 4, _EDGE_LABELS)
    names, numbers = _number_names(groups.names, "item name")
    sources, targets = numbers[groups.is_head], numbers[~groups.is_head]
    if len(np.unique(sources)) != count:
        fail(f"Duplicate co-occurrence item: {names[_first_twice(sources.tolist())]}")
    wrong = _first_wrong_group(sources, targets, groups.sizes)
    if wrong >= 0:
        text = names[sources[wrong]]
        fail(f"Failed to restore co-occurrence edge: an edge of {text} is to itself or twice")
    weights = groups.fields.view("<f4").reshape(-1)
    if not np.isfinite(weights).all():
        fail("Failed to restore co-occurrence edge: a score is not finite")
    return EdgeColumns(names, sources, groups.sizes, targets, weights)


def _first_wrong_group(
    sources: npt.NDArray[np.uint32], targets: npt.NDArray[np.uint32], sizes: npt.NDArray[np.int64]
) -> int:
    """Return a group that has its own source among its targets, or one target twice; -1 if none has."""
    itself = np.flatnonzero(targets == np.repeat(sources, sizes))
    if len(itself):
        return int(np.searchsorted(np.cumsum(sizes), itself[0], side="right"))
    starts = starts_of(sizes)
    for size in np.unique(sizes[sizes > 1]).tolist():  # groups of one size are the rows of a matrix
        groups = np.flatnonzero(sizes == size)
        rows = np.lib.stride_tricks.sliding_window_view(targets, size)[starts[groups]]
        rows.sort(axis=1)
        twice = np.flatnonzero((rows[:, 1:] == rows[:, :-1]).any(axis=1))
        if len(twice):
            return int(groups[twice[0]])
    return -1


def _first_twice(values: Sequence[Any]) -> Any:
    seen = set[Any]()
    for value in values:
        if value in seen:
            break
        seen.add(value)
    return value


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
