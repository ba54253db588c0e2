"""From nvecd's settings to the options of the database."""

from __future__ import annotations

from typing import Literal, TypeAlias

from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.database import DatabaseOptions, EventOptions, VectorOptions
from recollect.values.schema import Metric

HNSW_ROW_COUNT_MIN = 10_000
"""With `index_type: hnsw`: below, looking at every vector is quicker. Other types are searched exactly."""

MetricName: TypeAlias = Literal["cosine", "dot", "l2"]
METRICS: dict[MetricName, Metric] = {"cosine": "cosine", "dot": "dot", "l2": "euclid"}


def metric_name(metric: Metric) -> MetricName:
    """Return what nvecd calls a metric; cosine, its default, if it has no name for it."""
    return next((name for name, known in METRICS.items() if known == metric), "cosine")


def database_options(settings: NvecdSettings) -> DatabaseOptions:
    """Return the options under which the database does what nvecd would."""
    events, similarity = settings.events, settings.similarity
    return DatabaseOptions(
        vectors=VectorOptions(
            metric=METRICS[settings.vectors.distance_metric],
            hnsw_row_count_min=HNSW_ROW_COUNT_MIN if similarity.index_type == "hnsw" else 0,
            hnsw_connectivity=similarity.hnsw_m,
            hnsw_expansion_add=similarity.hnsw_ef_construction,
            hnsw_expansion_search=similarity.hnsw_ef_search,
        ),
        events=EventOptions(
            ctx_buffer_size=events.ctx_buffer_size,
            max_contexts=events.max_contexts,
            dedup_window_sec=events.dedup_window_sec,
            dedup_cache_size=events.dedup_cache_size,
            decay_interval_sec=events.decay_interval_sec,
            decay_alpha=events.decay_alpha,
            max_neighbors_per_item=events.max_neighbors_per_item,
            min_support=events.min_support,
            negative_signals=events.negative_signals,
            negative_weight=events.negative_weight,
            temporal_cooccurrence=events.temporal_cooccurrence,
            temporal_half_life_sec=events.temporal_half_life_sec,
        ),
    )
