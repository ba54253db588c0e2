"""What a machine that captures shards is told about itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from recollect.engines.qdrant.capture.reader import OpenShard
from recollect.engines.qdrant.capture.receive import StreamLimits


class CaptureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How shard snapshots are taken.

    Attributes:
        spool: Directory for streams and kept shards.
        spool_bytes: What the spool may take on disk; None for as much as there is.
        open_shard: The engine that opens a shard's files.
        new_id: Returns a new ULID.
        limits: When a stream is given up.
    """

    spool: Path
    spool_bytes: int | None = None
    open_shard: OpenShard
    new_id: Callable[[], str]
    limits: StreamLimits = StreamLimits()
