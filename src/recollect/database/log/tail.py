"""Following a log while it grows: each look begins where the one before ended.

Checking every commit of a segment again, every few seconds, would take the interpreter from the writers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from recollect.database.log import frame
from recollect.database.log.directory import LogDirectory
from recollect.database.log.segment import Commit


class _Mark(NamedTuple):
    """The last commit seen: in which segment, its number, where its frame begins and ends, and its header."""

    first_ts: int
    commit_ts: int
    start: int
    end: int
    header: bytes


class LogTail:
    """The commits of a log in order, as far as they are whole. One thread at a time."""

    def __init__(self, log: LogDirectory) -> None:
        self._log = log
        self._mark: _Mark | None = None

    def still_holds(self, commit_ts: int) -> bool:
        """Tell whether this was the last commit seen, and the log holds that very one still."""
        mark = self._mark
        if mark is None or mark.commit_ts != commit_ts or mark.first_ts not in self._log.first_commits():
            return False
        data = self._log.read_segment(mark.first_ts)
        return data[mark.start : mark.start + frame.FRAME_SIZE] == mark.header

    def commits_after(self, commit_ts: int) -> Iterator[Commit]:
        """Yield what can be read after a commit; of a damaged segment what stands before the damage."""
        firsts = self._log.first_commits()
        for first_ts, next_ts in zip(firsts, [*firsts[1:], None], strict=False):
            if next_ts is None or next_ts > commit_ts + 1:
                yield from self._segment(first_ts, commit_ts)

    def _segment(self, first_ts: int, after_ts: int) -> Iterator[Commit]:
        data = self._log.read_segment(first_ts)
        header = frame.decode_header(data)
        if header is None or (header.format, header.first_ts) != (frame.LOG_FORMAT, first_ts):
            return
        offset, expected, mark = frame.HEADER_SIZE, first_ts, self._mark
        if mark is not None and mark.first_ts == first_ts and mark.commit_ts <= after_ts:
            offset, expected = mark.end, mark.commit_ts + 1
        view = memoryview(data)
        while (found := frame.next_frame(data, offset)) is not None and found[0] == expected:
            number, time_us, start, end = found
            if number >= after_ts:
                at = bytes(view[offset : offset + frame.FRAME_SIZE])
                self._mark = _Mark(first_ts, number, offset, end, at)
            if number > after_ts:
                yield Commit(number, time_us, view[start:end])
            offset, expected = end, expected + 1
