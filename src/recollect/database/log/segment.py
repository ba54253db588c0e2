"""One segment of the log: reading it, and telling a torn tail from damage.

A segment is a file named by its first commit: a header, frames, and a seal once it is complete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from recollect.database.log import frame
from recollect.errors import FormatVersionError, IntegrityError

_COPY_BYTES_MAX = 1 << 16  # copying less is cheaper than making a view
_NAME = re.compile(r"([0-9]{20})\.log")


class Commit(NamedTuple):
    """One commit as the log has it; a large `body` is a view into the segment's bytes."""

    commit_ts: int
    time_us: int
    body: bytes | memoryview


class Tail(NamedTuple):
    """How a segment ends.

    Attributes:
        last_ts: Last intact commit; one less than the first if there is none.
        time_us: Its time, or 0.
        byte_size: Up to where the bytes are good, the seal not counted.
        seal: Present if the segment is complete.
        torn_bytes: Bytes of an unfinished write after `byte_size`.
    """

    last_ts: int
    time_us: int
    byte_size: int
    seal: frame.Seal | None
    torn_bytes: int


def segment_name(first_ts: int) -> str:
    """Return the file name of the segment that begins with this commit."""
    return f"{first_ts:020d}.log"


def segment_first_ts(name: str) -> int | None:
    """Return the first commit of a segment by its file name; None if it is no segment."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])


class SegmentReader:
    """The bytes of one segment. `tail` is known once `commits` was read to its end."""

    def __init__(self, path: Path, data: bytes, *, is_newest: bool) -> None:
        self.path = path
        self.data = data
        self._view = memoryview(data)
        self._is_newest = is_newest
        self.tail: Tail | None = None
        header = frame.decode_header(data)
        if header is None:
            raise damaged(path, 0, "the header is broken", 0)
        if header.format != frame.LOG_FORMAT:
            raise FormatVersionError(
                f"log segment {path} has format {header.format}; this release reads {frame.LOG_FORMAT}",
                "open the database with the release that wrote it, or a newer one",
            )
        self.header = header

    @property
    def byte_size(self) -> int:
        """Size of the file."""
        return len(self.data)

    def commits(self) -> Iterator[Commit]:
        """Yield all commits, each checked, in order.

        Raises:
            IntegrityError: A commit that had been acknowledged is damaged.
        """
        offset, expected, time_us = frame.HEADER_SIZE, self.header.first_ts, 0
        data, view = self.data, self._view
        while (found := frame.next_frame(data, offset)) is not None:
            commit_ts, time_us, start, end = found
            if commit_ts != expected:
                reason = f"commit {commit_ts} stands where commit {expected} belongs"
                raise damaged(self.path, offset, reason, expected - 1)
            body = data[start:end] if end - start < _COPY_BYTES_MAX else view[start:end]
            yield Commit(commit_ts, time_us, body)
            offset, expected = end, expected + 1
        self.tail = self._tail(offset, expected - 1, time_us)

    def verify(self) -> Tail:
        """Check every commit and the seal's SHA-256; return how the segment ends."""
        for _ in self.commits():
            pass
        assert self.tail is not None
        seal = self.tail.seal
        if seal is not None and hashlib.sha256(self._view[: seal.byte_size]).digest() != seal.sha256:
            reason = "the bytes do not have the SHA-256 of the seal"
            raise damaged(self.path, 0, reason, self.header.first_ts - 1)
        return self.tail

    def _tail(self, offset: int, last_ts: int, time_us: int) -> Tail:
        seal = frame.decode_seal(self.data, offset)
        if seal is not None:
            self._check_seal(seal, offset, last_ts)
            return Tail(last_ts, time_us, offset, seal, 0)
        rest = len(self.data) - offset
        if not self._is_newest:
            reason = "the segment is not complete, although a newer one exists"
            raise damaged(self.path, offset, reason if rest == 0 else "a commit is broken", last_ts)
        if rest and self._was_acknowledged(offset, last_ts + 1):
            raise damaged(self.path, offset, f"commit {last_ts + 1} is broken", last_ts)
        return Tail(last_ts, time_us, offset, None, rest)

    def _check_seal(self, seal: frame.Seal, offset: int, last_ts: int) -> None:
        expected = (self.header.first_ts, last_ts, offset)
        if (seal.first_ts, seal.last_ts, seal.byte_size) != expected:
            raise damaged(self.path, offset, "the seal speaks of other commits than stand before it", last_ts)
        rest = len(self.data) - offset - frame.SEAL_SIZE
        if rest:
            raise damaged(self.path, offset + frame.SEAL_SIZE, f"{rest} bytes follow the seal", last_ts)

    def _was_acknowledged(self, offset: int, commit_ts: int) -> bool:
        """Tell whether anything after a broken frame proves that it had been on the medium."""
        for magic in (frame.FRAME_MAGIC, frame.SEAL_MAGIC):
            position = self.data.find(magic, offset + 1)
            while position >= 0:
                header = frame.decode_frame_header(self.data, position)
                if header is not None and header.synced_ts >= commit_ts:
                    return True
                seal = frame.decode_seal(self.data, position)
                if seal is not None and seal.byte_size == position:
                    return True
                position = self.data.find(magic, position + 1)
        return False


def damaged(path: Path, offset: int, reason: str, last_ts: int) -> IntegrityError:
    """Return the error for a damaged segment; `last_ts` is the last commit before the damage."""
    return IntegrityError(
        f"log segment {path} is damaged at byte {offset}: {reason}; the last good commit before is {last_ts}",
        f"recover to just before the damage: recollect recover {path.parent.parent} --to commit:{last_ts} "
        "--into NEW_DIRECTORY",
    )
