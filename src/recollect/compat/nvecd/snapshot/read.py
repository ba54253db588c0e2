"""Reading a snapshot file: header, whole-file check, table of sections, sections.

A file is checked whole before anything of it is parsed. The file is named by an open descriptor,
so what was checked is what is read.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import Literal, NoReturn, TypeAlias

import msgspec
import numpy as np

from recollect.compat.nvecd.snapshot import decode
from recollect.compat.nvecd.snapshot.ahead import read_ahead
from recollect.compat.nvecd.snapshot.checksum import crc32
from recollect.compat.nvecd.snapshot.content import SnapshotConfig, SnapshotContent, VectorColumns
from recollect.compat.nvecd.snapshot.decode import fail
from recollect.compat.nvecd.snapshot.layout import (
    CHECKSUM_OFFSET,
    EDGES,
    EVENTS,
    EXTRA,
    FIXED,
    FLAG_CHECKSUM,
    FLAGS_RESERVED,
    FORMAT_LIMITS,
    HEADER,
    MAGIC,
    METADATA,
    SECTION,
    SECTION_BYTES_MAX,
    STORES_KNOWN,
    STORES_REQUIRED,
    U32,
    VECTORS,
    VERSION,
    Header,
    SnapshotLimits,
)
from recollect.compat.nvecd.snapshot.vector_stream import VectorStream
from recollect.errors import FormatVersionError
from recollect.system_error import storage_error

Fault: TypeAlias = Literal["header", "version", "size", "checksum"]
_RESERVED_BYTES_MAX = 4096
_NAME_BYTES_MAX = 256


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a file.

    Attributes:
        message: In nvecd's words.
        expected, actual: The checksums, where they differ; else 0.
    """

    fault: Fault
    message: str
    expected: int = 0
    actual: int = 0


class Section(msgspec.Struct, frozen=True):
    """Where a store's data is."""

    name: str
    offset: int
    size: int
    checksum: int


class Sections(msgspec.Struct, frozen=True, kw_only=True):
    """The table of a file that is whole."""

    header: Header
    config: SnapshotConfig
    statistics: bytes | None
    stores: dict[str, Section]


def read_header(descriptor: int) -> Header | Finding:
    """Read magic, version and header; nothing else is looked at."""
    fixed = _read(descriptor, 0, FIXED.size)
    if len(fixed) < len(MAGIC):
        return Finding("header", "Failed to read magic number")
    if fixed[: len(MAGIC)] != MAGIC:
        return Finding("header", "Invalid magic number")
    if len(fixed) < FIXED.size:
        return Finding("header", "Failed to read version")
    version = FIXED.unpack(fixed)[1]
    if version != VERSION:
        return Finding("version", f"Unsupported version: {version}", VERSION, version)
    fields = _read(descriptor, FIXED.size, HEADER.size + U32.size)
    if len(fields) < HEADER.size + U32.size:
        return Finding("header", "Failed to read header size")
    header_size, flags, timestamp, file_size, checksum = HEADER.unpack_from(fields)
    reserved_size = U32.unpack_from(fields, HEADER.size)[0]
    reserved = _read(descriptor, FIXED.size + len(fields), min(reserved_size, _RESERVED_BYTES_MAX))
    if len(reserved) != reserved_size:
        return Finding("header", "Failed to read reserved field")
    return Header(
        version=version,
        header_size=header_size,
        flags=flags,
        timestamp=timestamp,
        file_size=file_size,
        checksum=checksum,
        reserved=reserved,
    )


def check_file(descriptor: int, limits: SnapshotLimits = FORMAT_LIMITS) -> Header | Finding:
    """Check magic, version, size and the checksum of the whole file; sections are not parsed.

    Cost: reads the file once; a few megabytes of memory.
    """
    header = read_header(descriptor)
    if isinstance(header, Finding):
        return header
    actual_size = os.fstat(descriptor).st_size
    if max(actual_size, header.file_size) > limits.file_bytes_max:
        return Finding("size", "Snapshot exceeds maximum total file size")
    if actual_size != header.file_size:
        return Finding("size", f"File size mismatch: expected {header.file_size}, got {actual_size}")
    if not header.flags & FLAG_CHECKSUM:
        return Finding("checksum", "Snapshot does not declare required CRC32 protection")
    if not header.checksum:
        return Finding("checksum", "Snapshot file CRC32 is missing")
    actual = file_checksum(descriptor, actual_size)
    if actual != header.checksum:
        message = f"File CRC32 mismatch: expected {header.checksum}, got {actual}"
        return Finding("checksum", message, header.checksum, actual)
    return header


def file_checksum(descriptor: int, size: int) -> int:
    """Return the CRC-32 of a file with its own checksum field zero."""
    total = offset = 0
    for piece in read_ahead(descriptor, 0, size):  # it ends early if the file shrank; the checksum tells
        if offset == 0 and len(piece) >= CHECKSUM_OFFSET + U32.size:
            piece[CHECKSUM_OFFSET : CHECKSUM_OFFSET + U32.size] = bytes(U32.size)
        total = crc32(piece, total)
        offset += len(piece)
    return total


def read_sections(descriptor: int, header: Header, limits: SnapshotLimits = FORMAT_LIMITS) -> Sections:
    """Read the config section and where each store is. The file was checked before.

    Raises:
        IntegrityError: A section is damaged, missing, unknown, given twice, or too large.
        FormatVersionError: It uses a feature of the format that no release wrote yet.
    """
    if header.flags & FLAGS_RESERVED:
        raise FormatVersionError(
            f"Unsupported flags: {header.flags}: compressed, encrypted and incremental files are reserved",
            "load it with the release that wrote it",
        )
    scan = _Scan(descriptor, header.byte_size, header.file_size)
    config = decode.decode_config(scan.section("config", "Config", SECTION_BYTES_MAX))
    statistics = (
        scan.section("statistics", "Statistics", SECTION_BYTES_MAX) if header.has_statistics else None
    )
    store_count = scan.count("store count")
    if not len(STORES_REQUIRED) <= store_count <= len(STORES_KNOWN):
        fail("Snapshot store count must be between 3 and 4")
    stores: dict[str, Section] = {}
    for _ in range(store_count):
        store = scan.store(limits)
        if store.name in stores:
            fail(f"Duplicate store section: '{store.name}'")
        stores[store.name] = store
    for name in STORES_REQUIRED:
        if name not in stores:
            fail(f"Missing required store: '{name}'")
    scan.finish()
    return Sections(header=header, config=config, statistics=statistics, stores=stores)


def read_store(descriptor: int, section: Section) -> bytes:
    """Read one store whole and check it."""
    data = _read(descriptor, section.offset, section.size)
    if len(data) != section.size:
        fail(f"Failed to read store data for '{section.name}'")
    check_store(section, crc32(data))
    return data


def check_store(section: Section, actual: int) -> None:
    """Compare a store's checksum with what the file says."""
    if actual != section.checksum:
        fail(f"CRC32 mismatch in store data for '{section.name}': expected {section.checksum}, got {actual}")


def read_content(descriptor: int, limits: SnapshotLimits = FORMAT_LIMITS) -> SnapshotContent:
    """Read a whole file into memory, checked.

    Raises:
        IntegrityError, FormatVersionError: It is not a whole snapshot of version 1.
    """
    header = check_file(descriptor, limits)
    if isinstance(header, Finding):
        raise_finding(header)
    sections = read_sections(descriptor, header, limits)
    stores = sections.stores
    vectors = _read_vectors(descriptor, stores[VECTORS])
    metadata = None
    if METADATA in stores:
        metadata = decode.decode_metadata(read_store(descriptor, stores[METADATA]))
        check_metadata_ids(set(vectors.ids), (item for item, _ in metadata))
    return SnapshotContent(
        timestamp=header.timestamp,
        config=sections.config,
        events=decode.decode_events(read_store(descriptor, stores[EVENTS])),
        edges=decode.decode_edges(read_store(descriptor, stores[EDGES])),
        vectors=vectors,
        metadata=metadata,
        statistics=sections.statistics,
        extra=read_store(descriptor, stores[EXTRA]) if EXTRA in stores else None,
    )


def raise_finding(finding: Finding) -> NoReturn:
    """Turn a finding into the error of its kind."""
    if finding.fault == "version":
        raise FormatVersionError(finding.message, "load it with a newer release")
    fail(finding.message)


class _Scan:
    """Walks the sections of a file."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._position, self._end = start, end

    def count(self, what: str) -> int:
        return int(U32.unpack(self._take(U32.size, f"Failed to read {what}"))[0])

    def section(self, name: str, title: str, size_max: int) -> bytes:
        size, checksum = SECTION.unpack(self._take(SECTION.size, f"Failed to read {name} size"))
        if size > size_max:
            fail(f"{title} size exceeds maximum: {size}")
        data = self._take(size, f"{title} section exceeds remaining file")
        actual = crc32(data)
        if actual != checksum:
            fail(f"CRC32 mismatch in {name} section: expected {checksum}, got {actual}")
        return data

    def store(self, limits: SnapshotLimits) -> Section:
        size = self.count("store name")
        name = decode.decode_name(
            self._take(min(size, _NAME_BYTES_MAX), "Failed to read store name"), "store name"
        )
        if size > _NAME_BYTES_MAX or name not in STORES_KNOWN:
            fail(f"Unknown store name: '{name}'")
        self._skip_statistics(name)
        size, checksum = SECTION.unpack(
            self._take(SECTION.size, f"Failed to read store data size for '{name}'")
        )
        if size > limits.store_bytes_max:
            fail(f"Store data size exceeds maximum: {size}")
        if size > self._end - self._position:
            fail("Store data exceeds remaining file")
        self._position += size
        return Section(name, self._position - size, size, checksum)

    def finish(self) -> None:
        if self._position != self._end:
            fail("Trailing bytes after final store section")

    def _skip_statistics(self, name: str) -> None:
        size = self.count(f"store statistics size for '{name}'")
        if not size:
            return
        expected = self.count(f"store statistics CRC for '{name}'")
        if size > SECTION_BYTES_MAX:
            fail(f"Store statistics size exceeds maximum: {size}")
        actual = crc32(self._take(size, "Store statistics exceed remaining file"))
        if actual != expected:
            fail(f"CRC32 mismatch in store statistics for '{name}': expected {expected}, got {actual}")

    def _take(self, size: int, problem: str) -> bytes:
        if size > self._end - self._position:
            fail(problem)
        data = _read(self._descriptor, self._position, size)
        if len(data) != size:
            fail(problem)
        self._position += size
        return data


def check_metadata_ids(known: Container[str], ids: Iterable[str]) -> None:
    """Refuse metadata of a vector that the file does not have."""
    for item in ids:
        if item not in known:
            fail(f"Metadata references missing vector: '{item}'")


def _read_vectors(descriptor: int, section: Section) -> VectorColumns:
    stream = VectorStream(descriptor, section.offset, section.size)
    ids: list[str] = []
    parts = [np.zeros((0, stream.dimension), dtype=np.float32)]
    for names, rows in stream.chunks():
        ids += [name.decode("utf-8") for name in names]
        parts.append(rows)
    check_store(section, stream.checksum)
    return VectorColumns(stream.dimension, ids, np.concatenate(parts))


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Read up to `size` bytes; fewer only at the end of the file."""
    parts: list[bytes] = []
    while size > 0:
        try:
            part = os.pread(descriptor, min(size, 1 << 30), offset)
        except OSError as error:
            raise storage_error(error, "cannot read the snapshot file") from error
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
