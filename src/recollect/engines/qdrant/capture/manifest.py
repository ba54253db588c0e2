"""Segment manifests: which version every file of a segment has, and what a partial snapshot must hold.

A file's version is the number of the operation that changed it last; null stands for the segment's own
version. The server sends a file if it is new to the caller, newer than what the caller has, or of
version 0 on both sides. So what it does not send must be here already, at the very same version.
Source: qdrant, lib/segment/src/data_types/manifest.rs; docs/decisions/0091-partial-snapshots.md
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from recollect.errors import IntegrityError

MANIFEST_FILE = "segment_manifest.json"
ALWAYS = ("segment.json", "version.info")
"""Files of every segment that stand in no manifest."""


class SegmentManifest(msgspec.Struct, frozen=True):
    """The files of one segment at one instant."""

    segment_id: str
    segment_version: int
    file_versions: dict[str, int | None]

    def version_of(self, file: str) -> int:
        """Return the version of a file that it has."""
        found = self.file_versions[file]
        return self.segment_version if found is None else found


Manifest: TypeAlias = dict[str, SegmentManifest]
"""A shard's segments by id."""


class HistoryError(Exception):
    """What we have is not an earlier state of what the server has; never leaves the package."""


def decode_segment(content: bytes, segment: str) -> SegmentManifest:
    """Read the manifest of a segment out of an archive.

    Raises:
        IntegrityError: It is none, or another segment's.
    """
    try:
        found = msgspec.json.decode(content, type=SegmentManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the manifest of segment {segment} cannot be read: {error}") from error
    if found.segment_id != segment:
        raise IntegrityError(f"segment {segment} carries the manifest of {found.segment_id}")
    return found


def check_complete(now: Manifest, base: Manifest, arrived: dict[str, set[str]]) -> None:
    """Make sure that every file of every segment arrived, or is here at the same version.

    Raises:
        IntegrityError: A file is missing: the archive is not whole.
        HistoryError: A file here is newer than the server's: it went back to an earlier state.
    """
    for segment, manifest in now.items():
        present = arrived.get(segment, set())
        known = base.get(segment)
        for file in manifest.file_versions:
            if file in present:
                continue
            if known is None or file not in known.file_versions:
                raise IntegrityError(f"the file {file} of segment {segment} is missing from the archive")
            ours, theirs = known.version_of(file), manifest.version_of(file)
            if ours > theirs:
                raise HistoryError(f"{file} of segment {segment}: {ours} here, {theirs} there")
            if ours < theirs:
                raise IntegrityError(
                    f"the file {file} of segment {segment} changed ({ours} to {theirs}) and did not arrive"
                )


def continues(before: dict[str, int], now: dict[str, int]) -> bool:
    """Tell whether segments at their versions are a later state of the same history.

    There must be a segment in common: ids are random, so another collection of the same name has none.
    None may have gone back: a shard that was recovered from an older snapshot counts its operations anew.
    """
    shared = before.keys() & now.keys()
    return bool(shared) and all(now[segment] >= before[segment] for segment in shared)
