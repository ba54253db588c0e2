"""The two manifests of a dump: `manifest.json`, which `load` believes, and `manifest.txt`, for people.

The text is the one that the scripts write, so that whoever reads theirs reads ours.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from recollect.engines.qdrant.snapshots import is_file_name
from recollect.errors import FormatVersionError, IntegrityError

FORMAT = "recollect-dump"
VERSION = 1


class DumpedCollection(msgspec.Struct, frozen=True, kw_only=True):
    """One collection of a dump.

    Attributes:
        file: Name in the dump directory.
        sha256: Of the file.
        is_proven: The server told the same checksum; False where it tells none.
        record_count_min: The smaller of the counts before and after the snapshot was made.
        record_count_max: The larger; writes went on meanwhile where they differ.
        version: Of the server that made the snapshot, from the archive.
        aliases: Other names; a native snapshot forgets them.
        config: The collection's configuration, verbatim.
        payload_schema: Its payload indexes, verbatim.
    """

    name: str
    file: str
    byte_size: int
    sha256: str
    is_proven: bool = False
    created_at: str | None = None
    record_count_min: int
    record_count_max: int
    shard_number: int = 0
    version: str = ""
    aliases: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    payload_schema: dict[str, Any] = {}


class FailedCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection that could not be dumped, and why."""

    name: str
    message: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump holds. Unknown members are ignored; a change of meaning raises `version`."""

    format: str = FORMAT
    version: int = VERSION
    created_at: datetime
    source: str
    container: str = ""
    qdrant_version: str = ""
    tool_version: str = ""
    collections: tuple[DumpedCollection, ...] = ()
    failed: tuple[FailedCollection, ...] = ()


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(path: Path) -> Manifest | None:
    """Read `manifest.json`; None if there is none, or one of another program.

    Raises:
        IntegrityError: It is damaged. FormatVersionError: A newer release wrote it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        raw: Any = msgspec.json.decode(content)
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            return None
        if isinstance(raw.get("version"), int) and raw["version"] > VERSION:
            raise FormatVersionError(
                f"{path} has version {raw['version']}; this release reads up to {VERSION}",
                "upgrade Recollect",
            )
        manifest = msgspec.convert(raw, Manifest, strict=False)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path} is damaged: {error}",
            "move it away to load the snapshot files without their checksums and counts",
        ) from error
    for each in manifest.collections:
        if not is_file_name(each.file):
            raise IntegrityError(f"{path} lists {each.file!r}, which is no file of this directory")
    names = [each.name for each in manifest.collections]
    twice = sorted(name for name in set(names) if names.count(name) > 1)
    if twice:
        raise IntegrityError(f"{path} lists the collection {twice[0]!r} twice", "load another dump")
    return manifest


def manifest_text(manifest: Manifest) -> str:
    """Render `manifest.txt`."""
    files = [f"{size_label(each.byte_size):>8} {each.file}" for each in manifest.collections]
    lines = [
        "Qdrant Backup Manifest",
        "======================",
        f"Backup Date: {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC",
        f"Qdrant Host: {manifest.source}",
        f"Container: {manifest.container or '-'}",
        "",
        "Collections Backed Up:",
        *(each.name for each in manifest.collections),
        "",
        "Snapshot Files:",
        *(files or ["No snapshots found"]),
    ]
    if manifest.failed:
        lines += ["", "Not Backed Up:", *(f"{each.name}: {each.message}" for each in manifest.failed)]
    return "\n".join(lines) + "\n"


def listed_collections(path: Path) -> list[str]:
    """Return the collections that a `manifest.txt` lists; none if there is no such file."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    if "Collections Backed Up:" not in lines:
        return []
    rest = lines[lines.index("Collections Backed Up:") + 1 :]
    end = rest.index("Snapshot Files:") if "Snapshot Files:" in rest else len(rest)
    return [line for line in rest[:end] if line.strip()]


def size_label(byte_size: int) -> str:
    """Return a size as `ls -h` shows it."""
    size = float(byte_size)
    for unit in "BKMGT":
        if size < 1024 or unit == "T":
            return (
                f"{size:.0f}{unit if unit != 'B' else ''}"
                if size >= 10 or unit == "B"
                else f"{size:.1f}{unit}"
            )
        size /= 1024
    raise AssertionError("the loop returns")
