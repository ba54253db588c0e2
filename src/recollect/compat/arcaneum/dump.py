"""Dump: a native snapshot of every collection, fetched, checked, described, and removed from the server.

The dump appears under its name when all of it is on disk. A collection that fails does not keep the
others from being dumped; it is named in the manifest and in the report.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import msgspec

from recollect.clock import Clock
from recollect.compat.arcaneum import directory as dumps
from recollect.compat.arcaneum.container import Container
from recollect.compat.arcaneum.manifest import (
    DumpedCollection,
    FailedCollection,
    Manifest,
    encode_manifest,
    manifest_text,
)
from recollect.engines.qdrant.inventory import Inventory
from recollect.engines.qdrant.snapshots import FetchedSnapshot, QdrantSnapshots, SnapshotFacts, part_of
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RecollectError,
    RequestError,
    StorageFullError,
    UnavailableError,
    UnsupportedError,
)
from recollect.system_error import storage_error
from recollect.values.event import Note, OnEvent, Progress, ignore_events

READY_ATTEMPTS = 5


class DumpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to dump, and where to.

    Attributes:
        directory: The backup directory, in which the dump gets a directory of its own.
        collections: Names or aliases; empty means all.
        keep: How many dumps stay in the directory; None removes none.
        container: Name of the container to copy from; empty, or docker being absent, means HTTP.
    """

    directory: Path
    collections: tuple[str, ...] = ()
    keep: int | None = None
    container: str = ""
    tool_version: str = ""


class DumpReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump did.

    Attributes:
        removed: Older dumps that were removed.
    """

    path: Path
    manifest: Manifest
    removed: tuple[Path, ...] = ()
    duration_seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Tell whether every collection is in it."""
        return not self.manifest.failed


def run(
    server: QdrantSnapshots, *, options: DumpOptions, clock: Clock, on_event: OnEvent = ignore_events
) -> DumpReport:
    """Dump collections of a server.

    A crash leaves a hidden directory `.<name>.part`, which the next dump removes, and at most one snapshot on
    the server.

    Raises:
        UnavailableError: Qdrant does not respond. NotFoundError: It has no collections, or not this one.
        RecollectError: No collection could be dumped; the first one's reason.
    """
    started = clock.monotonic()
    if options.keep is not None and options.keep < 1:
        raise RequestError(f"--keep is {options.keep}", "keep at least 1 dump: the one that is being made")
    server.wait_until_ready(READY_ATTEMPTS)
    inventory = server.inventory()
    names = _chosen(inventory, options.collections, server.url)
    created_at = clock.now()
    final = options.directory / dumps.dump_name(created_at)
    container = _container(options.container, on_event)
    with ExitStack() as stack:
        part = _begin(final, stack, on_event)
        job = _Dump(server, inventory, part, container, on_event)
        done, failed = job.all(names)
        manifest = Manifest(
            created_at=created_at,
            source=server.url,
            container=options.container if container is not None else "",
            qdrant_version=server.version(),
            tool_version=options.tool_version,
            collections=tuple(done),
            failed=tuple(FailedCollection(name=name, message=error.message) for name, error in failed),
        )
        if failed and not done:
            raise failed[0][1]
        _finish(part, final, manifest)
    removed = [] if failed or options.keep is None else _expire(options.directory, options.keep, on_event)
    return DumpReport(
        path=final,
        manifest=manifest,
        removed=tuple(removed),
        duration_seconds=clock.monotonic() - started,
    )


def _chosen(inventory: Inventory, wanted: tuple[str, ...], url: str) -> list[str]:
    """Return the server's own names of the collections to dump, sorted."""
    if not inventory.physical:
        raise NotFoundError(f"No collections found on {url}", f"check what is there: curl {url}/collections")
    if not wanted:
        return sorted(inventory.physical)
    return sorted({inventory.require(name, url)[1] for name in wanted})


def _container(name: str, on_event: OnEvent) -> Container | None:
    if not name:
        return None
    container = Container(name)
    if container.is_there():
        return container
    on_event(Note(message=f"there is no container {name!r} (or no docker) here: files travel over HTTP"))
    return None


def _begin(final: Path, stack: ExitStack, on_event: OnEvent) -> Path:
    """Make the directory that the dump arrives in; it is removed at the end of the stack, unless renamed."""
    part = dumps.part_of(final)
    _make(final.parent)
    try:
        with dumps.turn(final.parent):
            _sweep(final.parent, on_event)
            if final.exists():
                raise ConflictError(f"there is a dump {final} already", "wait a second and run it again")
            part.mkdir()
            stack.callback(shutil.rmtree, part, ignore_errors=True)
            stack.enter_context(dumps.held(part))
    except FileExistsError as error:
        raise ConflictError(
            f"{part} is there: another dump is being written, or one was interrupted",
            "wait for it, or remove that directory",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"creating {part}: {error.strerror}", "check BACKUP_DIR (or -o) and its permissions"
        ) from error
    return part


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"creating {directory}: {error.strerror}", "check BACKUP_DIR (or -o) and its permissions"
        ) from error


def _sweep(parent: Path, on_event: OnEvent) -> None:
    """Remove what dumps left whose process ended; one that is being written is held by its process."""
    for path in dumps.interrupted(parent):
        with dumps.held(path) as is_dead:
            if is_dead:
                shutil.rmtree(path, ignore_errors=True)
                on_event(Note(message=f"{path} was left by an interrupted dump and is removed"))


def _finish(part: Path, final: Path, manifest: Manifest) -> None:
    """Write the manifests and give the directory its name: the only moment at which the dump appears."""
    try:
        for name, content in (
            (dumps.MANIFEST_TEXT, manifest_text(manifest).encode()),
            (dumps.MANIFEST, encode_manifest(manifest)),
        ):
            with (part / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(part)
        part.rename(final)
        _sync(final.parent)
    except OSError as error:
        raise storage_error(error, f"writing {final}") from error


def _expire(parent: Path, keep: int, on_event: OnEvent) -> list[Path]:
    removed = []
    for path in dumps.half_removed(parent):
        dumps.remove(path)
    for path in dumps.expired(parent, keep):
        if dumps.holds_foreign_files(path):
            on_event(Note(message=f"{path} holds files that no dump writes and is kept"))
            continue
        dumps.remove(path)
        removed.append(path)
    return removed


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Dump:
    """The collections of one dump, one after another."""

    def __init__(
        self,
        server: QdrantSnapshots,
        inventory: Inventory,
        part: Path,
        container: Container | None,
        on_event: OnEvent,
    ) -> None:
        self._server = server
        self._inventory = inventory
        self._part = part
        self._container = container
        self._on_event = on_event

    def all(self, names: list[str]) -> tuple[list[DumpedCollection], list[tuple[str, RecollectError]]]:
        done: list[DumpedCollection] = []
        failed: list[tuple[str, RecollectError]] = []
        for number, name in enumerate(names, start=1):
            try:
                done.append(self._one(name))
            except StorageFullError:
                raise  # the others would fail as well
            except RecollectError as error:
                failed.append((name, error))
                self._on_event(Note(message=f"Failed to create snapshot for {name}: {error.message}"))
            self._on_event(
                Progress(stage="dump", subject=name, done=number, total=len(names), unit="collections")
            )
        return done, failed

    def _one(self, name: str) -> DumpedCollection:
        remote = self._server.remote_shards(name)
        if remote:
            raise UnsupportedError(
                f"the collection {name!r} has shards on other nodes ({', '.join(map(str, sorted(remote)))}); "
                f"a native snapshot of {self._server.url} holds only its own",
                "use `recollect backup`, which reads the whole cluster",
            )
        info = self._server.info(name)
        counts = [self._server.count(name)]
        facts, fetched = self._fetch(name)
        counts.append(self._server.count(name))
        return DumpedCollection(
            name=name,
            file=facts.name,
            byte_size=fetched.byte_size,
            sha256=fetched.sha256,
            is_proven=fetched.is_proven,
            created_at=facts.created_at,
            record_count_min=min(counts),
            record_count_max=max(counts),
            shard_number=fetched.archive.shard_number,
            version=fetched.archive.version,
            aliases=tuple(sorted(a for a, to in self._inventory.targets.items() if to == name)),
            config=info.get("config") or {},
            payload_schema=info.get("payload_schema") or {},
        )

    def _fetch(self, name: str) -> tuple[SnapshotFacts, FetchedSnapshot]:
        """Make a snapshot, bring it here, and remove it from the server, also when that fails."""
        before = {facts.name for facts in self._server.list(name)}
        facts = self._server.create(name)
        try:
            target = self._part / facts.name
            if target.exists():
                raise IntegrityError(
                    f"the server calls the snapshot of {name!r} {facts.name!r}, as one of another collection"
                )
            if self._container is None:
                return facts, self._server.download(name, facts, target)
            arrived = part_of(target)
            self._container.copy_out(name, facts.name, arrived)
            return facts, self._server.accept(facts, arrived, target)
        finally:
            if facts.name not in before:  # else it was made by somebody else within the same second
                self._clean(name, facts.name)

    def _clean(self, name: str, snapshot: str) -> None:
        try:
            self._server.delete(name, snapshot)
        except RecollectError as error:
            self._on_event(Note(message=f"{snapshot} is left on the server: {error.message}"))
