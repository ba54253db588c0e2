"""How the replies of DUMP read: as nvecd sends them (wire), or as its documentation prints them (doc)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from recollect.compat.nvecd.config.settings import ReplyStyle
from recollect.compat.nvecd.dump import FileInfo, Loaded, Refused, Saved, Verified
from recollect.compat.nvecd.export import SnapshotCounts
from recollect.compat.nvecd.gate import LOADING, NOAUTH, SAVE_WHILE_LOADING
from recollect.compat.nvecd.protocol import reply
from recollect.compat.nvecd.saves import SaveStatus
from recollect.compat.nvecd.snapshot.read import Finding
from recollect.errors import AccessError, RecollectError

_DOC_ERROR = "(error) "


def saved(found: Saved, style: ReplyStyle) -> bytes:
    """Reply to DUMP SAVE."""
    if style == "wire":
        verb = "DUMP_SAVED" if found.written is not None else "DUMP_SAVE_STARTED"
        return reply.line(f"OK {verb} {found.path}")
    assert found.written is not None
    assert found.counts is not None
    lines = [
        f"OK Snapshot saved: {found.path}",
        *_counts(found.counts),
        f"size: {found.written.file_size} bytes",
    ]
    return reply.line("\n".join(lines))


def loaded(found: Loaded, style: ReplyStyle) -> bytes:
    """Reply to DUMP LOAD."""
    if style == "wire":
        return reply.line(f"OK DUMP_LOADED {found.path}")
    counts = found.counts
    head = f"OK Snapshot loaded: {counts.event_count} events, {counts.vector_count} vectors"
    return reply.line("\n".join([head, *_counts(counts)]))


def verified(found: Verified, style: ReplyStyle) -> bytes:
    """Reply to DUMP VERIFY."""
    if style == "wire":
        return reply.line(f"OK DUMP_VERIFIED {found.path}")
    head = f"OK Snapshot is valid (CRC32: 0x{found.header.checksum:08x})"
    return reply.line(f"{head}\nstatus: valid\ncrc: verified\nsize: verified")


def info(found: FileInfo, style: ReplyStyle) -> bytes:
    """Reply to DUMP INFO. END stands at the end in both styles: nvecd's client waits for it."""
    header = found.header
    if style == "wire":
        fields: list[tuple[str, object]] = [
            ("version", header.version),
            ("stores", found.store_count),
            ("flags", header.flags),
            ("file_size", header.file_size),
            ("timestamp", header.timestamp),
            ("has_statistics", "true" if header.has_statistics else "false"),
        ]
        return reply.block(f"OK DUMP_INFO {found.path}", fields)
    counts = found.counts
    assert counts is not None, "a file without them was refused"
    created = datetime.fromtimestamp(min(header.timestamp, 253402300799), UTC)
    documented: list[tuple[str, object]] = [
        ("version", header.version),
        ("event_store_count", counts.event_count),
        ("vector_store_count", counts.vector_count),
        ("co_occurrence_count", counts.pair_count),
        ("file_size", header.file_size),
        ("created_at", created.strftime("%Y-%m-%dT%H:%M:%S")),
    ]
    return reply.block("OK INFO", documented)


def status(found: SaveStatus) -> bytes:
    """Reply to DUMP STATUS; the documentation that the doc style follows does not have it."""
    fields: list[tuple[str, object]] = [("status", found.state)]
    if found.state != "idle":
        fields.append(("filepath", found.path))
    if found.state == "in_progress":
        fields.append(("pid", os.getpid()))
    if found.state != "idle":
        fields.append(("start_time", found.started_at_s))
    if found.state in {"completed", "failed"}:
        fields.append(("end_time", found.ended_at_s))
    if found.state == "failed":
        fields.append(("error", found.error))
    return reply.block("OK DUMP_STATUS", fields)


def failure(message: str, style: ReplyStyle) -> bytes:
    """Reply to a DUMP that was not even tried."""
    if style == "wire":
        return reply.error(message)
    return reply.line(_DOC_ERROR + " ".join(message.split()))


def save_failure(error: RecollectError, style: ReplyStyle) -> bytes:
    """Reply to a DUMP SAVE that could not be done: the documentation has words of its own for some."""
    message = " ".join(error.message.split())
    if style == "doc" and message in {LOADING, SAVE_WHILE_LOADING}:
        return failure("Cannot save snapshot: read-only mode", style)
    if style == "doc" and isinstance(error, AccessError) and message != NOAUTH:
        return reply.line(f"{_DOC_ERROR}Permission denied\nreason: {message}")
    return failure(message, style)


def refused(found: Refused, style: ReplyStyle) -> bytes:
    """Reply that a file is not what it should be."""
    if style == "wire" or found.finding is None:
        return failure(found.message, style)
    return reply.line("\n".join(_documented(found.finding)))


def _documented(finding: Finding) -> Iterator[str]:
    if finding.fault == "version":
        yield f"{_DOC_ERROR}Version mismatch: expected {finding.expected}, got {finding.actual}"
    elif finding.fault == "checksum" and finding.expected:
        yield f"{_DOC_ERROR}CRC mismatch: file may be corrupted"
        yield f"expected: 0x{finding.expected:08x}"
        yield f"actual: 0x{finding.actual:08x}"
    else:
        yield _DOC_ERROR + finding.message


def _counts(counts: SnapshotCounts) -> list[str]:
    return [
        f"event_store_contexts: {counts.context_count}",
        f"vector_store_vectors: {counts.vector_count}",
        f"co_occurrence_pairs: {counts.pair_count}",
    ]
