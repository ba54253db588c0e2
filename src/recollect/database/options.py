"""Options of the database: frozen values; the caller reads settings, never this package."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from recollect.errors import RequestError
from recollect.values.schema import Metric

FsyncMode: TypeAlias = Literal["commit", "interval", "off"]
"""When a commit counts as logged.

- `commit`: after fsync; commits that arrive together share one. Survives a power cut.
- `interval`: after the write; fsync follows within `fsync_interval_s`. Survives the death of the
  process; a power cut may take the commits of the last interval.
- `off`: after the write; the kernel decides. Survives the death of the process only.
"""


class EventOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How events are kept and how items relate. Part of the log: a replay uses what was in force.

    Attributes:
        ctx_buffer_size: Events kept per context; the oldest goes first.
        max_contexts: Contexts kept; the one that took no event for longest goes first. 0 keeps all.
        dedup_window_sec: An ADD of the same context, item and score within this is a duplicate. 0: never.
        dedup_cache_size: Entries that each of the two duplicate tables remembers. 0: no de-duplication.
        decay_interval_sec: Seconds between two decays of the co-occurrence index. 0: never.
        decay_alpha: Factor of one decay.
        max_neighbors_per_item: Neighbours kept per item, the strongest. 0 keeps all.
        min_support: A decay drops what is weaker than this (and than 1e-6).
        negative_signals: DEL lowers the co-occurrence of the item with its context.
        negative_weight: By this factor times the other event's score.
        temporal_cooccurrence: Weigh a pair by the age of its events.
        temporal_half_life_sec: Age at which an event counts half.
    """

    ctx_buffer_size: int = 50
    max_contexts: int = 0
    dedup_window_sec: int = 60
    dedup_cache_size: int = 10_000
    decay_interval_sec: int = 3600
    decay_alpha: float = 0.99
    max_neighbors_per_item: int = 0
    min_support: float = 0.0
    negative_signals: bool = False
    negative_weight: float = 0.5
    temporal_cooccurrence: bool = False
    temporal_half_life_sec: float = 86_400.0


class FusionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the two similarities are fused.

    Attributes:
        alpha: Weight of the vectors.
        beta: Weight of the events.
        max_top_k: Candidates taken from each side at most.
        adaptive: Choose alpha by how many neighbours the item has.
        adaptive_min_alpha: Alpha of an item with `adaptive_maturity_threshold` neighbours or more.
        adaptive_max_alpha: Alpha of an item without neighbours.
        adaptive_maturity_threshold: See there.
    """

    alpha: float = 0.6
    beta: float = 0.4
    max_top_k: int = 1000
    adaptive: bool = False
    adaptive_min_alpha: float = 0.2
    adaptive_max_alpha: float = 0.9
    adaptive_maturity_threshold: int = 50


class VectorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How vectors are compared and when an approximate index is built.

    Attributes:
        metric: Of collections that a first write creates: "cosine", "dot" or "euclid".
        hnsw_row_count_min: Collections of this size get an HNSW index, built in the background. 0: never.
        hnsw_connectivity: Links per node (M).
        hnsw_expansion_add: Candidates while building (ef_construction).
        hnsw_expansion_search: Candidates while searching (ef_search).
    """

    metric: Metric = "cosine"
    hnsw_row_count_min: int = 200_000
    hnsw_connectivity: int = 16
    hnsw_expansion_add: int = 128
    hnsw_expansion_search: int = 64


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How commits are logged.

    Attributes:
        segment_bytes_max: A segment that reached this size is sealed and a new one begun.
        fsync_interval_s: Longest time to the next fsync in mode `interval`.
        is_kept: Whether the log has the commits at all; a database that lives in memory only spares the work.
    """

    segment_bytes_max: int = 100 << 20  # Statehouse's documented default
    fsync_interval_s: float = 1.0
    is_kept: bool = True


class CheckpointOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When checkpoints are taken and how long they and the log are kept.

    Attributes:
        commit_interval: Take one after this many commits. 0: not by count.
        time_interval_s: Take one this long after the last, if anything was committed. 0: not by time.
        keep_last: Newest checkpoints that are kept, named ones not counted (those stay).
        log_window_s: Log segments younger than this are kept even if no kept checkpoint needs them.
    """

    commit_interval: int = 1000
    time_interval_s: float = 0.0
    keep_last: int = 3
    log_window_s: float = 86_400.0


class DatabaseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All options of one database.

    Attributes:
        events: None keeps what the database was last opened with.
        transaction_timeout_s: Of transactions that name none.
        transaction_count_max: Open transactions at most; more are refused, not queued.
        transaction_bytes_max: What all open transactions together may hold staged in memory.
    """

    vectors: VectorOptions = VectorOptions()
    events: EventOptions | None = None
    fusion: FusionOptions = FusionOptions()
    log: LogOptions = LogOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    transaction_timeout_s: float = 30.0
    transaction_count_max: int = 10_000
    transaction_bytes_max: int = 4 << 30


_METRICS = ("cosine", "dot", "euclid")
_POSITIVE = frozenset(
    {
        "ctx_buffer_size",
        "temporal_half_life_sec",
        "hnsw_connectivity",
        "hnsw_expansion_add",
        "hnsw_expansion_search",
        "segment_bytes_max",
        "fsync_interval_s",
        "transaction_timeout_s",
        "transaction_count_max",
        "transaction_bytes_max",
    }
)


def check_options(options: DatabaseOptions) -> DatabaseOptions:
    """Return the options if every value makes sense.

    Raises:
        RequestError: One does not; it is named.
    """
    for name, value in _numbers(options, ""):
        least = name.rpartition(".")[2] in _POSITIVE
        if not math.isfinite(value) or value < 0 or (least and not value):
            wanted = "positive" if least else "0 or more"
            raise RequestError(f"the option {name} must be {wanted}, got {value}")
    if options.vectors.metric not in _METRICS:
        raise RequestError(
            f"the option vectors.metric is {options.vectors.metric!r}", f"choose one of {', '.join(_METRICS)}"
        )
    return options


def _numbers(options: msgspec.Struct, prefix: str) -> Iterator[tuple[str, float]]:
    for field in options.__struct_fields__:
        value: Any = getattr(options, field)
        if isinstance(value, msgspec.Struct):
            yield from _numbers(value, f"{prefix}{field}.")
        elif isinstance(value, (int, float)):
            yield prefix + field, value
