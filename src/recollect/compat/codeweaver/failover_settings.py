"""Settings of the failover loop, by CodeWeaver's names and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(gt=0)]


class FailoverSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the failover loop runs; times in seconds.

    Attributes:
        disable_failover: The loop does nothing.
        backup_sync: Time between two maintenance cycles.
        recovery_window_sec: How long the primary must have been healthy before writes go back to it.
        max_memory_mb: What the index of the backup's records may take; see `Mirror`.
        reconciliation_interval_cycles: Every so many cycles the backup is read and repaired.
        reconciliation_batch_size: Records of one call.
        reconciliation_detection_limit: Stop after so many differences; None finds all.
        snapshot_interval_cycles: Every so many cycles the primary is snapshotted.
        snapshot_retention_count: Snapshots that stay.
        snapshot_storage_path: Directory or store URL of their copies; None is the service's default.
        health_check_interval: Time between two looks at the primary.
        health_check_timeout: How long one look, and one call to the primary, may take.
        failure_threshold: Failed looks in a row that count as an outage.
    """

    disable_failover: bool = False
    backup_sync: Positive = 300
    recovery_window_sec: Positive = 300
    max_memory_mb: Positive = 2048
    reconciliation_interval_cycles: Positive = 2
    reconciliation_batch_size: Positive = 100
    reconciliation_detection_limit: Positive | None = None
    snapshot_interval_cycles: Positive = 1
    snapshot_retention_count: Positive = 12
    snapshot_storage_path: Path | str | None = None
    health_check_interval: Positive = 60
    health_check_timeout: Positive = 10
    failure_threshold: Positive = 3

    @property
    def is_disabled(self) -> bool:
        """Tell whether failover is off."""
        return self.disable_failover
