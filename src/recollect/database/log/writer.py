"""Writing the log: frames appended to the open segment, segments sealed when full.

What `append` wrote is durable after `sync`. After any failure the log is closed for writing: what the
file holds beyond the last sync is not known any more (a failed fsync may have dropped pages),
so going on could acknowledge a commit that is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from recollect.database.log import frame
from recollect.database.log.files import Files, LogFile
from recollect.database.log.segment import segment_name


class LogWriter:
    """The open segment. One thread at a time. Errors are OSError; the caller translates them.

    Args:
        directory: Where the segments are.
        last_ts: The last commit that the log holds.
        segment_bytes_max: A segment of this size is sealed before the next commit.
    """

    def __init__(
        self, files: Files, directory: Path, *, database_id: bytes, last_ts: int, segment_bytes_max: int
    ) -> None:
        self._files = files
        self._directory = directory
        self._database_id = database_id
        self._segment_bytes_max = segment_bytes_max
        self._file: LogFile | None = None
        self._first_ts = self._last_ts = 0
        self._hash = hashlib.sha256()
        self._size = 0
        self.last_ts = last_ts
        self.synced_ts = last_ts

    @property
    def byte_size(self) -> int:
        """Bytes of the open segment."""
        return self._size

    def resume(self, path: Path, first_ts: int, data: bytes) -> None:
        """Go on at the end of an unsealed segment, cutting off whatever follows `data`."""
        self._file = self._files.reopen(path)
        self._file.truncate(len(data))
        self._file.sync()
        self._hash = hashlib.sha256(data)
        self._first_ts, self._size = first_ts, len(data)

    def append(self, frames: Sequence[bytes], *, last_ts: int, now_us: int) -> None:
        """Write the frames of consecutive commits, the last of which is `last_ts`; not durable yet."""
        if self._file is not None and self._size >= self._segment_bytes_max:
            self.seal()
        if self._file is None:
            self._begin(self.last_ts + 1, now_us)
        assert self._file is not None
        self._file.append(frames)
        for part in frames:
            self._hash.update(part)
            self._size += len(part)
        self.last_ts = last_ts

    def sync(self) -> None:
        """Return when everything appended is durable."""
        if self._file is not None and self.synced_ts != self.last_ts:
            self._file.sync()
            self.synced_ts = self.last_ts

    def seal(self) -> None:
        """Complete the open segment, durably. The next append begins another."""
        if self._file is None:
            return
        seal = frame.Seal(self._first_ts, self.last_ts, self._size, self._hash.digest())
        self._file.append([frame.encode_seal(seal)])
        self._file.sync()
        self.synced_ts = self.last_ts
        self.close()

    def close(self) -> None:
        """Close the file as it is. Safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def cut(self, size: int, last_ts: int) -> None:
        """Take back what a failed append may have left after `size`; best effort, then the log is closed."""
        if self._file is not None:
            self._file.truncate(size)
            self._file.sync()
            self.last_ts = last_ts

    def _begin(self, first_ts: int, now_us: int) -> None:
        path = self._directory / segment_name(first_ts)
        self._file = self._files.create(path)
        header = frame.encode_header(
            frame.SegmentHeader(frame.LOG_FORMAT, first_ts, self._database_id, now_us)
        )
        self._file.append([header])
        # The name must be durable before a commit in the file is acknowledged.
        self._file.sync()
        self._files.sync_directory(self._directory)
        self._hash = hashlib.sha256(header)
        self._first_ts, self._size = first_ts, len(header)
