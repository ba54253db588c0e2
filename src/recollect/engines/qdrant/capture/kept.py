"""A shard that is kept between runs: its files, and what is known of them.

::

    shard/segments/<id>/…   the files, opened in place by the engine, which rewrites some small ones
    root/…                  what stands beside the segments in an archive
    state.json              the rest; absent while the files change: what a killed run left is not trusted

Nothing is synced: the state names the boot that it was written in, and after another boot (a power failure
may have been in between) it is not used.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec

from recollect.engines.qdrant.capture.manifest import ALWAYS, Manifest, continues
from recollect.engines.qdrant.capture.spool import STATE_FILE, disk_errors
from recollect.engines.qdrant.capture.unpack import SEGMENTS, Unpacked
from recollect.errors import IntegrityError
from recollect.values.snapshot import FileRef

STATE_FORMAT = 1
MARKS_MAX = 16
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


class Mark(msgspec.Struct, frozen=True):
    """One moment of a shard's history that a snapshot remembers by its token."""

    token: str
    shard_ids: tuple[int, ...]
    digest: str
    segments: dict[str, int]


class ShardState(msgspec.Struct, kw_only=True):
    """What is known of the files.

    Attributes:
        boot: The boot that it was written in.
        replica: The node that they came from: replicas have segments of their own.
        manifest: Of all segments; empty if the node did not tell.
        marks: Earlier moments of the same history, oldest first.
        files: The files as they were when they arrived, where they were stored, by path.
        repository: Where they were stored.
        change_count: How often changes alone were taken in since all files came.
        sizes: Of the files of all segments, by path in `segments/`. The engine opens a shard that lacks some,
            as if it had fewer records, and does not change the size of any.
    """

    format: int = STATE_FORMAT
    boot: str = ""
    replica: str = ""
    manifest: Manifest = {}
    marks: list[Mark] = []
    files: dict[str, FileRef] = {}
    repository: str = ""
    change_count: int = 0
    sizes: dict[str, int] = {}

    def digest(self) -> str:
        """Return a digest of the manifest: equal if nothing changed."""
        return hashlib.sha256(msgspec.json.encode(self.manifest, order="sorted")).hexdigest()

    def segments(self) -> dict[str, int]:
        """Return the version of each segment."""
        return {segment: manifest.segment_version for segment, manifest in self.manifest.items()}


class KeptShard:
    """One shard's place in the spool. One thread at a time."""

    def __init__(self, place: Path, boot: str) -> None:
        self.place = place
        self.boot = boot
        self.state = self._read()

    @property
    def directory(self) -> Path:
        """The shard's directory, for the engine."""
        return self.place / "shard"

    def forget(self) -> None:
        """Drop everything."""
        with disk_errors("emptying", self.place):
            (self.place / STATE_FILE).unlink(missing_ok=True)
            for part in ("shard", "root"):
                if (self.place / part).exists():
                    shutil.rmtree(self.place / part)
        self.state = None

    def take_in(self, unpacked: Unpacked, state: ShardState) -> None:
        """Put unpacked files in their places; `state` is what is known of the result.

        Raises:
            IntegrityError: A segment lacks a file that every segment has.
        """
        with disk_errors("filling", self.place):
            (self.place / STATE_FILE).unlink(missing_ok=True)
            self.state = None
            self._drop_outdated(state.manifest)
            for segment in unpacked.arrived:
                _move_tree(unpacked.directory / SEGMENTS / segment, self.directory / SEGMENTS / segment)
            if (self.place / "root").exists():
                shutil.rmtree(self.place / "root")
            (self.place / "root").mkdir()
            _move_tree(unpacked.directory / "root", self.place / "root")
        for segment in unpacked.arrived:
            for file in ALWAYS:
                if not (self.directory / SEGMENTS / segment / file).is_file():
                    raise IntegrityError(f"segment {segment} has no {file}", "back up again")
        state.sizes = self._sizes()
        self.save(state)

    def is_whole(self) -> bool:
        """Tell whether every file is here and as large as it was."""
        if self.state is None:
            return False
        found = self._sizes()
        return all(found.get(path) == size for path, size in self.state.sizes.items())

    def save(self, state: ShardState) -> None:
        """Write the state down, at once and whole."""
        state.boot = self.boot
        path = self.place / STATE_FILE
        part = path.with_suffix(".part")
        with disk_errors("writing", path):
            part.write_bytes(msgspec.json.encode(state))
            part.replace(path)
        self.state = state

    def mark(self, token: str, shard_ids: tuple[int, ...]) -> bool:
        """Remember this moment by a token; False where the node's manifest is not known."""
        state = self.state
        if state is None or not state.manifest:
            return False
        state.marks = [*state.marks, Mark(token, shard_ids, state.digest(), state.segments())][-MARKS_MAX:]
        self.save(state)
        return True

    def leads_on_from(self, token: str, shard_ids: tuple[int, ...]) -> bool:
        """Tell whether record versions of now can be compared with those of that moment."""
        mark = self._mark(token)
        if mark is None or self.state is None or mark.shard_ids != shard_ids:
            return False
        return continues(mark.segments, self.state.segments())

    def is_as_at(self, token: str) -> bool:
        """Tell whether nothing changed since that moment."""
        mark = self._mark(token)
        return mark is not None and self.state is not None and mark.digest == self.state.digest()

    def _sizes(self) -> dict[str, int]:
        segments = self.directory / SEGMENTS
        with disk_errors("looking at", segments):
            files = [path for path in segments.rglob("*") if path.is_file()]
            return {path.relative_to(segments).as_posix(): path.stat().st_size for path in files}

    def _mark(self, token: str) -> Mark | None:
        marks = self.state.marks if self.state is not None else []
        return next((mark for mark in marks if mark.token == token), None)

    def _read(self) -> ShardState | None:
        try:
            state = msgspec.json.decode((self.place / STATE_FILE).read_bytes(), type=ShardState)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        is_of_now = state.format == STATE_FORMAT and state.boot == self.boot != ""
        return state if is_of_now else None

    def _drop_outdated(self, manifest: Manifest) -> None:
        """Remove what the new state does not have; without a manifest, everything."""
        shutil.rmtree(self.directory / "wal", ignore_errors=True)
        segments = self.directory / SEGMENTS
        segments.mkdir(parents=True, exist_ok=True)
        for segment in list(segments.iterdir()):
            known = manifest.get(segment.name)
            if known is None:
                shutil.rmtree(segment)
                continue
            for path in [path for path in segment.rglob("*") if not path.is_dir()]:
                name = path.relative_to(segment).as_posix()
                if name not in known.file_versions and name not in ALWAYS:
                    path.unlink()


def boot_id() -> str:
    """Return the kernel's boot id; empty where there is none, and then nothing is kept.

    Source: random(4).
    """
    try:
        return BOOT_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _move_tree(source: Path, target: Path) -> None:
    """Move all files of a tree over those of another one."""
    if not source.exists():
        return
    for path in [path for path in source.rglob("*") if not path.is_dir()]:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
