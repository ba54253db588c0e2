"""What a drill found: written once, kept in the repository's ledger. Format: docs/guides/drill.md#ledger."""

from __future__ import annotations

from datetime import datetime

import msgspec

DRILL_FORMAT = 1


class DrilledCollection(msgspec.Struct, frozen=True, kw_only=True):
    """One collection of a drill.

    Attributes:
        fingerprint: Read back from the scratch engine.
        expected: Of the snapshot, or of its records as that engine holds them (`adapted_count`).
        method: How it was restored: by "records", or by the engine's own "files" and what changed since.
        restore_seconds: From an empty engine to the last record proven.
        index_seconds: To build the search index after that.
        vector: The named vector that was searched; queries were not replayed where it has none.
        query_count: Queries replayed; 0 where the collection has no dense vector or too few records.
        k: Neighbours of one query.
        recall_mean: Share of the exact k nearest that the engine found, over all queries.
        recall_min: Of the worst query.
        latency_ms_mean: Of one query.
        latency_ms_max: Of the slowest.
    """

    name: str
    record_count: int
    fingerprint: str
    expected: str
    is_match: bool
    adapted_count: int = 0
    method: str = "records"
    restore_seconds: float = 0.0
    index_seconds: float = 0.0
    vector: str = ""
    query_count: int = 0
    k: int = 0
    recall_mean: float = 1.0
    recall_min: float = 1.0
    latency_ms_mean: float = 0.0
    latency_ms_max: float = 0.0


class DrillReport(msgspec.Struct, frozen=True, kw_only=True):
    """One drill.

    Attributes:
        target: Product and version of the engine that was restored into.
        recall_required: Mean recall below which a collection fails.
        failure: Why the drill failed; empty if it passed.
    """

    format: int = DRILL_FORMAT
    id: str
    snapshot_id: str
    snapshot_created_at: datetime
    started_at: datetime
    target: str
    recall_required: float
    collections: tuple[DrilledCollection, ...] = ()
    duration_seconds: float = 0.0
    failure: str = ""
    host: str = ""
    tool_version: str = ""

    @property
    def is_passed(self) -> bool:
        """Tell whether everything was as it should be."""
        return not self.failure
