"""The file beside a snapshot, `<snapshot>.walseq`: up to which record the snapshot holds the log."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import msgspec

from recollect.compat.nvecd.snapshot.checksum import crc32
from recollect.compat.nvecd.snapshot_directory import SIDECAR_SUFFIX, write_private

SUFFIX = SIDECAR_SUFFIX
_FIELDS = struct.Struct("<4sIQQI")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"NWCP"
_VERSION = 1


class Sidecar(msgspec.Struct, frozen=True):
    """The last record that a snapshot holds, and which snapshot that is: its size and checksum."""

    sequence: int
    file_size: int
    checksum: int

    def encode(self) -> bytes:
        """Return the 32 bytes of the file."""
        fields = _FIELDS.pack(_MAGIC, _VERSION, self.sequence, self.file_size, self.checksum)
        return fields + _CHECKSUM.pack(crc32(fields))


def decode_sidecar(data: bytes) -> Sidecar | None:
    """Decode a sidecar; None if it is none, or damaged."""
    if len(data) != _FIELDS.size + _CHECKSUM.size:
        return None
    magic, version, sequence, file_size, checksum = _FIELDS.unpack_from(data)
    if (
        magic != _MAGIC
        or version != _VERSION
        or _CHECKSUM.unpack_from(data, _FIELDS.size)[0] != crc32(data[:28])
    ):
        return None
    return Sidecar(sequence, file_size, checksum)


def sidecar_path(snapshot: Path) -> Path:
    """Return where the sidecar of a snapshot is."""
    return snapshot.with_name(snapshot.name + SUFFIX)


def coming_path(snapshot: Path) -> Path:
    """Return where the sidecar of a snapshot is that is about to take this name."""
    return snapshot.with_name(f".{snapshot.name}.coming{SUFFIX}")


def read_sidecars(snapshot: Path) -> list[Sidecar]:
    """Read the sidecars that may belong to a snapshot; those that are damaged are left out."""
    found = []
    for path in (sidecar_path(snapshot), coming_path(snapshot)):
        with contextlib.suppress(OSError):
            found.append(decode_sidecar(path.read_bytes()))
    return [sidecar for sidecar in found if sidecar is not None]


def announce_sidecar(snapshot: Path, sidecar: Sidecar) -> None:
    """Say where in the log a snapshot will belong, before it takes its name, perhaps from another one.

    The two files cannot change in one step: without this, a crash between the steps would leave a
    snapshot with the sidecar of the one before, and a log that was shortened for that one.
    """
    write_private(coming_path(snapshot), lambda descriptor: os.write(descriptor, sidecar.encode()))


def write_sidecar(snapshot: Path, sidecar: Sidecar) -> None:
    """Put the sidecar of a snapshot in place, durably; what announced it goes."""
    write_private(sidecar_path(snapshot), lambda descriptor: os.write(descriptor, sidecar.encode()))
    with contextlib.suppress(OSError):  # one that stays belongs to no other snapshot
        coming_path(snapshot).unlink(missing_ok=True)
