"""The files of the log (`wal-NNNNNN.log`): reading all records in order, and what a crash leaves.

An unfinished record at the end of the newest file was acknowledged to nobody and is cut off. Damage
anywhere else is an error that names file and position: records behind it would be lost in silence.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recollect.compat.nvecd.snapshot.checksum import crc32
from recollect.compat.nvecd.snapshot_directory import check_private
from recollect.compat.nvecd.wal.record import (
    BODY,
    BODY_BYTES_MAX,
    FILE_HEADER,
    HEAD,
    MAGIC,
    VERSION,
    Record,
    decode_body,
)
from recollect.errors import FormatVersionError, IntegrityError, LeaseHeldError
from recollect.storage.files import make_directory
from recollect.system_error import storage_error

_NAME = re.compile(r"wal-([0-9]{6})\.log")
NUMBER_MAX = 999_999
_NEXT_STEP = "restore the log from a backup, or move it away to start from the newest snapshot"


class LogFile(msgspec.Struct, frozen=True):
    """One file: its number, its records' sequences (0 if it has none), and how much of it is whole."""

    path: Path
    number: int
    first_sequence: int
    last_sequence: int
    whole_size: int
    byte_size: int

    @property
    def is_torn(self) -> bool:
        """Whether it ends in an unfinished record."""
        return self.whole_size < self.byte_size


def file_path(directory: Path, number: int) -> Path:
    """Return the path of a file of the log."""
    return directory / f"wal-{number:06d}.log"


def prepare(directory: Path) -> None:
    """Create the directory if there is none, and check that nobody else can write to it."""
    try:
        make_directory(directory, 0o700)
    except OSError as error:
        raise storage_error(error, f"cannot create the log directory {directory}") from error
    check_private(directory)


def lock(directory: Path) -> int:
    """Take the log for this process; the descriptor holds it until it is closed.

    A second server would cut off and remove files that the first one still writes.

    Raises:
        LeaseHeldError: Another server has it.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, f"cannot open the log directory {directory}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LeaseHeldError(
            f"the log in {directory} belongs to a server that runs already",
            "stop that one, or give this one another `wal.dir`",
        ) from error
    return descriptor


def scan(directory: Path) -> list[LogFile]:
    """Look through all files; every record is checked.

    Raises:
        IntegrityError: A record is damaged or missing, other than at the end of the newest file.
        FormatVersionError: A newer release wrote it.
    """
    found: list[LogFile] = []
    last = 0
    numbers = _numbers(directory)
    for number in numbers:
        path = file_path(directory, number)
        data = _read(path)
        first, size = 0, FILE_HEADER.size if len(data) >= FILE_HEADER.size else 0
        for record, end in _records(path, data):
            if last and record.sequence != last + 1:
                raise IntegrityError(
                    f"WAL sequence is not contiguous: previous={last}, current={record.sequence} in {path}",
                    _NEXT_STEP,
                )
            first, last, size = first or record.sequence, record.sequence, end
        file = LogFile(path, number, first, last if first else 0, size, len(data))
        if file.is_torn and number != numbers[-1]:
            raise IntegrityError(f"Torn WAL record in {path} at offset {size}", _NEXT_STEP)
        found.append(file)
    return found


def replay(files: list[LogFile], after: int) -> Iterator[Record]:
    """Yield the records behind sequence `after`.

    Raises:
        IntegrityError: The log begins later than that.
    """
    started = [file for file in files if file.first_sequence]
    if started and started[0].first_sequence > after + 1:
        raise IntegrityError(
            f"the log begins at record {started[0].first_sequence}, what was loaded ends at record {after}: "
            "the snapshot between them is missing or damaged",
            "restore that snapshot and its .walseq file",
        )
    for file in started:
        if file.last_sequence > after:
            for record, _ in _records(file.path, _read(file.path)[: file.whole_size]):
                if record.sequence > after:
                    yield record


def _numbers(directory: Path) -> list[int]:
    try:
        names = [path.name for path in directory.iterdir()]
    except OSError as error:
        raise storage_error(error, f"cannot list the log directory {directory}") from error
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, f"cannot read the log file {path}") from error


def _records(path: Path, data: bytes) -> Iterator[tuple[Record, int]]:
    """Yield the records of one file and where each ends; stops at an unfinished one."""
    if len(data) < FILE_HEADER.size:
        return
    magic, version = FILE_HEADER.unpack_from(data)
    if magic != MAGIC:
        raise IntegrityError(f"Invalid WAL magic number in {path}", _NEXT_STEP)
    if version != VERSION:
        raise FormatVersionError(f"Unsupported WAL version: {version} in {path}", "use a newer release")
    position = FILE_HEADER.size
    while position + HEAD.size <= len(data):
        size, checksum = HEAD.unpack_from(data, position)
        if not BODY.size <= size <= BODY_BYTES_MAX:
            raise IntegrityError(
                f"Invalid WAL record length {size} in {path} at offset {position}", _NEXT_STEP
            )
        end = position + HEAD.size + size
        if end > len(data):
            return
        body = data[position + HEAD.size : end]
        if crc32(body) != checksum:
            raise IntegrityError(f"WAL record CRC mismatch in {path} at offset {position}", _NEXT_STEP)
        yield decode_body(body, f"{path} at offset {position}"), end
        position = end
