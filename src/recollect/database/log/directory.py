"""All segments of a log: reading them in order, and opening the log to go on writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from recollect.database.log import frame
from recollect.database.log.files import Files
from recollect.database.log.segment import Commit, SegmentReader, damaged, segment_first_ts, segment_name
from recollect.database.log.writer import LogWriter
from recollect.errors import IntegrityError
from recollect.system_error import storage_error


class TornTail(NamedTuple):
    """An unfinished write that was found at the end of the log: nobody was told that it succeeded."""

    path: Path
    offset: int
    byte_size: int


class LogEnd(NamedTuple):
    """Where a log ends, and what is needed to go on there.

    Attributes:
        last_ts: Last intact commit, or what came before the first one.
        time_us: Its time, or 0.
        open_segment: The newest segment if it is not sealed: its path, first commit and good bytes.
        torn: What has to be cut off.
    """

    last_ts: int
    time_us: int
    open_segment: tuple[Path, int, bytes] | None
    torn: TornTail | None


class CommitRange(NamedTuple):
    """Commits without a gap, and the times of the first and last, in microseconds since 1970."""

    first_ts: int
    last_ts: int
    first_time_us: int
    last_time_us: int


class LogDirectory:
    """The segments in one directory. Errors of the disk come out as `RecollectError`."""

    def __init__(self, files: Files, path: Path, *, may_have_gaps: bool = False) -> None:
        self.files = files
        self.path = path
        self._may_have_gaps = may_have_gaps

    def first_commits(self) -> list[int]:
        """Return the first commit of every segment, ascending."""
        found = [segment_first_ts(name) for name in self.files.list(self.path)]
        return [first_ts for first_ts in found if first_ts is not None]

    def segment_path(self, first_ts: int) -> Path:
        """Return the path of a segment."""
        return self.path / segment_name(first_ts)

    def read_segment(self, first_ts: int, byte_size_max: int = -1) -> bytes:
        """Read the bytes of one segment, or the first of them."""
        path = self.segment_path(first_ts)
        try:
            return self.files.read(path, byte_size_max)
        except OSError as error:
            raise storage_error(error, f"cannot read log segment {path}") from error

    def replay(self, after_ts: int, apply: Callable[[Commit], None], *, last_ts: int | None = None) -> LogEnd:
        """Read all segments, checking every commit, and apply those after `after_ts` in order.

        With `last_ts` it stops behind that commit; what follows is neither read nor checked.

        Raises:
            IntegrityError: A commit is damaged or missing; it names the file and the place.
        """
        end = LogEnd(after_ts, 0, None, None)
        expected: int | None = None
        if last_ts is not None and last_ts <= after_ts:
            return end
        for reader in self._readers():
            first_ts = reader.header.first_ts
            if expected is None and first_ts > after_ts + 1:
                raise self._gap(after_ts + 1, first_ts)
            # In an archive, what lies before the checkpoint that the replay begins from may be missing.
            is_needed = not (self._may_have_gaps and first_ts <= after_ts + 1)
            if expected is not None and first_ts != expected and (is_needed or first_ts < expected):
                raise self._gap(expected, first_ts)
            for commit in reader.commits():
                if commit.commit_ts > after_ts:
                    apply(commit)
                end = LogEnd(max(commit.commit_ts, after_ts), commit.time_us, None, None)
                if commit.commit_ts == last_ts:
                    return end
            end = self._end_of(reader, end)
            assert reader.tail is not None, "read to its end"
            expected = reader.tail.last_ts + 1
        if expected is not None and expected <= after_ts:
            raise IntegrityError(
                f"the log in {self.path} ends with commit {expected - 1}; a checkpoint holds {after_ts}",
                "the disk lost what it had confirmed; recover what the checkpoint holds: recollect recover "
                f"{self.path.parent} --to commit:{after_ts} --into NEW_DIRECTORY",
            )
        return end

    def ranges(self) -> list[CommitRange]:
        """Return which commits can be read, as ranges without gaps; damage ends a range, it is no error."""
        found: list[CommitRange] = []
        for commit in self.good_commits_from(0):
            if not found or found[-1].last_ts + 1 != commit.commit_ts:
                found.append(CommitRange(commit.commit_ts, commit.commit_ts, commit.time_us, commit.time_us))
            else:
                found[-1] = found[-1]._replace(last_ts=commit.commit_ts, last_time_us=commit.time_us)
        return found

    def commit_at(self, time_us: int, first_ts: int, last_ts: int) -> int:
        """Return the last commit from `first_ts` to `last_ts` made by this time; `first_ts` if none was."""
        found = first_ts
        for commit in self.good_commits_from(0):
            if first_ts < commit.commit_ts <= last_ts and commit.time_us <= time_us:
                found = max(found, commit.commit_ts)
        return found

    def good_commits_from(self, commit_ts: int) -> Iterator[Commit]:
        """Yield what can be read from a commit on; of a damaged segment what stands before the damage."""
        firsts = self.first_commits()
        for first_ts, next_ts in zip(firsts, [*firsts[1:], None], strict=False):
            if next_ts is not None and next_ts <= commit_ts:
                continue
            try:
                # Treated as the newest, so that good commits before a damaged end are told.
                for commit in self._reader(first_ts, self.read_segment(first_ts), is_newest=True).commits():
                    if commit.commit_ts >= commit_ts:
                        yield commit
            except IntegrityError:
                continue

    def verify(self) -> int:
        """Check every byte of every segment; return how many commits are good."""
        count = 0
        for reader in self._readers():
            count += reader.verify().last_ts - reader.header.first_ts + 1
        return count

    def open_writer(self, end: LogEnd, *, database_id: bytes, segment_bytes_max: int) -> LogWriter:
        """Cut off a torn tail and return the log ready to go on after `end`."""
        writer = LogWriter(
            self.files,
            self.path,
            database_id=database_id,
            last_ts=end.last_ts,
            segment_bytes_max=segment_bytes_max,
        )
        try:
            self._remove_unborn()
            if end.open_segment is not None:
                writer.resume(*end.open_segment)
        except OSError as error:
            raise storage_error(error, f"cannot open the log in {self.path} for writing") from error
        return writer

    def drop_before(self, keep_ts: int, *, created_before_us: int) -> list[Path]:
        """Delete segments whose commits all lie before `keep_ts` and that ended before that time.

        The newest segment is never deleted. Oldest first, so that an interruption leaves no gap.
        """
        firsts = self.first_commits()
        dropped = []
        for first_ts, next_first_ts in zip(firsts, firsts[1:], strict=False):
            following = frame.decode_header(self.read_segment(next_first_ts, frame.HEADER_SIZE))
            if next_first_ts > keep_ts or following is None or following.created_us > created_before_us:
                break
            path = self.segment_path(first_ts)
            try:
                self.files.remove(path)
            except OSError as error:
                raise storage_error(error, f"cannot delete log segment {path}") from error
            dropped.append(path)
        return dropped

    def _readers(self) -> Iterator[SegmentReader]:
        firsts = self.first_commits()
        for number, first_ts in enumerate(firsts):
            is_newest = number == len(firsts) - 1
            data = self.read_segment(first_ts)
            if is_newest and _is_unborn(data):
                return  # the crash came while the segment was being created: it holds no commit
            yield self._reader(first_ts, data, is_newest=is_newest)

    def _reader(self, first_ts: int, data: bytes, *, is_newest: bool) -> SegmentReader:
        path = self.segment_path(first_ts)
        reader = SegmentReader(path, data, is_newest=is_newest)
        if reader.header.first_ts != first_ts:
            raise damaged(path, 0, f"the header says that it begins with commit {reader.header.first_ts}", 0)
        return reader

    def _end_of(self, reader: SegmentReader, end: LogEnd) -> LogEnd:
        tail = reader.tail
        assert tail is not None
        last_ts = max(end.last_ts, tail.last_ts)
        if tail.seal is not None:
            return LogEnd(last_ts, end.time_us, None, None)
        torn = TornTail(reader.path, tail.byte_size, tail.torn_bytes) if tail.torn_bytes else None
        good = reader.data[: tail.byte_size]
        return LogEnd(last_ts, end.time_us, (reader.path, reader.header.first_ts, good), torn)

    def _remove_unborn(self) -> None:
        firsts = self.first_commits()
        if firsts and _is_unborn(self.read_segment(firsts[-1])):
            self.files.remove(self.segment_path(firsts[-1]))

    def _gap(self, expected: int, found: int) -> IntegrityError:
        return IntegrityError(
            f"the log in {self.path} lacks commits {expected} to {found - 1}: there is no segment for them",
            f"recover to before the gap: recollect recover {self.path.parent} --to commit:{expected - 1} "
            "--into NEW_DIRECTORY",
        )


def _is_unborn(data: bytes) -> bool:
    return frame.decode_header(data) is None and data.find(frame.FRAME_MAGIC) < 0
