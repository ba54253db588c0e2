"""Snapshots to bytes and back, for the tests of the nvecd face."""

from __future__ import annotations

import os
from pathlib import Path

from recollect.compat.nvecd.snapshot.content import SnapshotContent
from recollect.compat.nvecd.snapshot.layout import FORMAT_LIMITS
from recollect.compat.nvecd.snapshot.read import read_content
from recollect.compat.nvecd.snapshot.write import write_content

GOLDEN = Path(__file__).parent / "golden"


def encode(content: SnapshotContent, path: Path) -> bytes:
    """Write a snapshot to `path` and return its bytes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_content(descriptor, content, FORMAT_LIMITS)
    finally:
        os.close(descriptor)
    return path.read_bytes()


def decode(data: bytes, path: Path) -> SnapshotContent:
    """Read a snapshot from bytes, by way of a file."""
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_content(descriptor)
    finally:
        os.close(descriptor)
