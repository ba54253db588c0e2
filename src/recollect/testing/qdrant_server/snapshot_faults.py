"""What goes wrong with snapshots, switched by the test while the server runs.

503s, lost answers and broken connections are `Faults`' own: they concern every call.
"""

from __future__ import annotations

import threading
from datetime import datetime


class SnapshotFaults:
    """Switches; all off at first."""

    def __init__(self) -> None:
        self.truncated_to: int | None = None
        """Downloads end after so many bytes (before the end if negative): the server failed in mid-stream."""
        self.stalls_after: int | None = None
        """Downloads send nothing more after so many bytes, until `clear` or the end of the server."""
        self.declares_length = True
        """Whether downloads carry a content-length; those of servers that keep snapshots on S3 do not."""
        self.omits_trailer = False
        """Archives are made without their two zero blocks, as when a task dies while it streams."""
        self.null_checksum = False
        """No checksum is known, as with snapshots on S3."""
        self.null_creation_time = False
        """No time of creation is known, as on file systems without birth times."""
        self.delay_s = 0.0
        """Seconds before each piece of a download: a slow stream."""
        self.is_silent = False
        """Downloads answer 200 and then send nothing, until `clear` or the end of the server."""
        self.flipped_byte: int | None = None
        """Downloads have one bit of this byte wrong."""
        self.frozen_at: datetime | None = None
        """All snapshots are made within this second: their names collide and they overwrite each other."""
        self.version = ""
        """The version that archives claim to be of; empty is the server's own."""
        self.without_shards = False
        """The node has no shard of the collection: archives are made without any, and no error is told."""
        self.lists_after = 0
        """Listings leave out snapshots until they were asked so often: creation takes its time."""
        self.released = threading.Event()

    def clear(self) -> None:
        """Switch everything off and release silent downloads."""
        self.released.set()
        self.__dict__.update(SnapshotFaults().__dict__)
