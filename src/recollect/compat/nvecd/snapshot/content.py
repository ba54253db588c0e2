"""What a snapshot holds, in columns: names are listed once and spoken of by number."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

MetadataValue: TypeAlias = str | int | float | bool
Fields: TypeAlias = tuple[tuple[str, MetadataValue], ...]

EVENT_ROW = np.dtype([("score", "<i4"), ("kind", "u1"), ("timestamp", "<u8")])
"""What follows an event's id in a file: 13 bytes."""


class SnapshotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that nvecd writes into a file. It ignores them when it loads one, and so do we."""

    ctx_buffer_size: int = 50
    decay_interval_sec: int = 3600
    decay_alpha: float = 0.99
    default_dimension: int = 768
    distance_metric: str = "cosine"
    default_top_k: int = 100
    max_top_k: int = 1000
    fusion_alpha: float = 0.6
    fusion_beta: float = 0.4


class EventColumns(msgspec.Struct, frozen=True):
    """The contexts with their events, oldest first.

    Shapes, for c contexts and n events: `sizes` (c,) int64 adds up to n; `items` (n,) uint32 numbers in
    `names`; `rows` (n,) of `EVENT_ROW`.
    """

    names: list[str]
    contexts: list[str]
    sizes: npt.NDArray[np.int64]
    items: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.void]


class EdgeColumns(msgspec.Struct, frozen=True):
    """The co-occurrence index, directed: for each source its targets and their weights.

    Shapes, for s sources and n edges: `sources` (s,) uint32; `sizes` (s,) int64 adds up to n;
    `targets` (n,) uint32; `weights` (n,) float32.
    """

    names: list[str]
    sources: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int64]
    targets: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]


class VectorColumns(msgspec.Struct, frozen=True):
    """The vectors. Shapes: n ids, `rows` (n, dimension) float32. An empty store may have a dimension."""

    dimension: int
    ids: list[str]
    rows: npt.NDArray[np.float32]


class SnapshotContent(msgspec.Struct, frozen=True, kw_only=True):
    """A whole snapshot in memory.

    Attributes:
        metadata: By vector id, in file order; None if the file has no such store.
        statistics: The statistics section as it stands, or None.
        extra: Our own store's bytes, or None.
    """

    timestamp: int
    config: SnapshotConfig
    events: EventColumns
    edges: EdgeColumns
    vectors: VectorColumns
    metadata: list[tuple[str, Fields]] | None
    statistics: bytes | None = None
    extra: bytes | None = None
