"""Load: restore the collections of a dump, after all of it was checked.

Nothing of the server is touched before every file is read, compared with its checksum and walked as
an archive. Qdrant replaces each collection as a whole; there is no step that switches all at once,
so a failure between two collections leaves the first ones restored, and the report names them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from recollect.clock import Clock
from recollect.compat.arcaneum import directory as dumps
from recollect.compat.arcaneum.container import Container
from recollect.compat.arcaneum.manifest import DumpedCollection, listed_collections, read_manifest
from recollect.engines.qdrant.archive import check_archive
from recollect.engines.qdrant.snapshots import QdrantSnapshots, sha256_of
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RecollectError,
    RequestError,
    UnsupportedError,
)
from recollect.values.event import Note, OnEvent, Progress, ignore_events

READY_ATTEMPTS = 30
SETTLE_S = 10.0

Found: TypeAlias = tuple[str, Path, DumpedCollection | None]
"""A collection's name, its file, and what the manifest says of it."""


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to load.

    Attributes:
        collections: Names; empty means all of the dump.
        existing: What to do with a collection that holds records: "replace" it, or "refuse".
        container: Name of the container to copy into; empty, or docker being absent, means HTTP.
    """

    collections: tuple[str, ...] = ()
    existing: Literal["replace", "refuse"] = "replace"
    container: str = ""


class LoadStep(msgspec.Struct, frozen=True, kw_only=True):
    """One collection of a plan.

    Attributes:
        described: From the manifest; None for a directory of the scripts, which record nothing.
        sha256: Of the file, as read just now.
        replaced_count: Records that stand there now; None if there is no such collection.
    """

    name: str
    path: Path
    sha256: str
    byte_size: int
    version: str
    described: DumpedCollection | None = None
    replaced_count: int | None = None


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a load would do; every file of it was checked."""

    directory: Path
    target: str
    steps: tuple[LoadStep, ...]


class LoadedCollection(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one collection.

    Attributes:
        record_count: Counted after the restore; None if that failed.
        expected_min: From the manifest; None where nobody knows.
        message: Why it failed; empty if it did not.
    """

    name: str
    file: str
    record_count: int | None = None
    expected_min: int | None = None
    expected_max: int | None = None
    message: str = ""

    @property
    def is_match(self) -> bool:
        """Tell whether it is restored with as many records as it should have."""
        if self.message or self.record_count is None:
            return False
        if self.expected_min is None or self.expected_max is None:
            return True
        return self.expected_min <= self.record_count <= self.expected_max


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a load did."""

    directory: Path
    target: str
    collections: tuple[LoadedCollection, ...]
    duration_seconds: float

    @property
    def is_complete(self) -> bool:
        """Tell whether every collection is restored with its count."""
        return all(each.is_match for each in self.collections)


def read(directory: Path, wanted: tuple[str, ...] = (), on_event: OnEvent = ignore_events) -> list[LoadStep]:
    """Read a dump directory and check every file of it. Touches no server.

    Raises:
        NotFoundError: There is no directory, no snapshot file, or no such collection in it.
        IntegrityError: A file is missing, is not what was written, or is no whole archive.
    """
    if not directory.is_dir():
        raise NotFoundError(
            f"Backup directory not found: {directory}", "check the path; an absolute one is safest"
        )
    files = dumps.snapshot_files(directory)
    if not files:
        raise NotFoundError(
            f"No snapshot files found in {directory}", "check that the dump finished: ls -lh, manifest.txt"
        )
    manifest = read_manifest(directory / dumps.MANIFEST)
    if manifest is not None:
        found: list[Found] = [(each.name, directory / each.file, each) for each in manifest.collections]
        for path in sorted(set(files) - {path for _, path, _ in found}):
            on_event(Note(message=f"{path.name} is in no manifest and is not loaded"))
    else:
        found = _by_names(directory, files, wanted)
    if wanted:
        known = sorted(name for name, _, _ in found)
        missing = sorted(set(wanted) - set(known))
        if missing:
            raise NotFoundError(f"{directory} has no collection {missing[0]!r}; it has: {', '.join(known)}")
        found = [each for each in found if each[0] in wanted]
    return [
        _checked(
            each,
            Progress(stage="check", subject=each[0], done=number, total=len(found), unit="files"),
            on_event,
        )
        for number, each in enumerate(found, start=1)
    ]


def plan(
    directory: Path,
    server: QdrantSnapshots,
    *,
    options: LoadOptions,
    on_event: OnEvent = ignore_events,
) -> LoadPlan:
    """Check the dump, wait for the server, and decide what to do. Changes nothing.

    Raises:
        UnavailableError: Qdrant does not respond within 30 seconds.
        UnsupportedError: The server's version cannot take the snapshots.
        ConflictError: A collection holds records, and `existing` is "refuse".
        The errors of `read`.
    """
    steps = read(directory, options.collections, on_event)
    server.wait_until_ready(READY_ATTEMPTS)
    version = server.version()
    inventory = server.inventory()
    planned = []
    for step in steps:
        _check_version(step, version)
        if step.name in inventory.targets and step.name not in inventory.physical:
            raise ConflictError(
                f"{step.name!r} is an alias of {inventory.targets[step.name]!r} on {server.url}",
                "delete that alias first; nothing was changed",
            )
        count = server.count(step.name) if step.name in inventory.physical else None
        if count and options.existing == "refuse":
            raise ConflictError(
                f"collection {step.name!r} on {server.url} is not empty: {count} records",
                "leave out --no-replace to replace it",
            )
        planned.append(msgspec.structs.replace(step, replaced_count=count))
    return LoadPlan(directory=directory, target=server.url, steps=tuple(planned))


def apply(
    plan: LoadPlan,
    server: QdrantSnapshots,
    *,
    options: LoadOptions,
    clock: Clock,
    on_event: OnEvent = ignore_events,
) -> LoadReport:
    """Carry out a plan: restore each collection, count it, bring back its aliases."""
    started = clock.monotonic()
    container = Container(options.container) if options.container else None
    if container is not None and not container.is_there():
        on_event(Note(message=f"there is no container {container.name!r} here: files travel over HTTP"))
        container = None
    loaded = []
    for number, step in enumerate(plan.steps, start=1):
        loaded.append(_load(step, server, container, clock, on_event))
        on_event(
            Progress(stage="load", subject=step.name, done=number, total=len(plan.steps), unit="collections")
        )
    return LoadReport(
        directory=plan.directory,
        target=plan.target,
        collections=tuple(loaded),
        duration_seconds=clock.monotonic() - started,
    )


def _by_names(directory: Path, files: list[Path], wanted: tuple[str, ...]) -> list[Found]:
    """Name the collections of a directory that the scripts wrote; all that are wanted must be there."""
    found: dict[str, Path] = {}
    for path in files:
        name = dumps.collection_of(path.name)
        if name in found:
            raise RequestError(
                f"{directory} holds two snapshots of {name!r}: {found[name].name} and {path.name}",
                "move one of them away",
            )
        found[name] = path
    listed = listed_collections(directory / dumps.MANIFEST_TEXT)
    missing = [name for name in listed if name not in found and (not wanted or name in wanted)]
    if missing:
        raise IntegrityError(
            f"{dumps.MANIFEST_TEXT} in {directory} lists {missing[0]!r}, and there is no snapshot file of it",
            "copy the whole directory again; name collections with --collection to load only those",
        )
    return [(name, path, None) for name, path in sorted(found.items())]


def _checked(found: Found, progress: Progress, on_event: OnEvent) -> LoadStep:
    name, path, described = found
    if not path.is_file():
        raise IntegrityError(
            f"the manifest lists {path.name}, and there is no such file in {path.parent}",
            "copy the whole directory again",
        )
    sha256 = sha256_of(path)
    if described is not None and sha256 != described.sha256:
        raise IntegrityError(
            f"{path} is damaged: its SHA-256 is {sha256}, the manifest says {described.sha256}",
            "copy it again from where it is sound, or load another dump; nothing was changed",
        )
    archive = check_archive(path)
    on_event(progress)
    return LoadStep(
        name=name,
        path=path,
        sha256=sha256,
        byte_size=path.stat().st_size,
        version=archive.version or (described.version if described else ""),
        described=described,
    )


def _check_version(step: LoadStep, server_version: str) -> None:
    """Qdrant restores snapshots of its own minor version and of the one before."""
    made, held = _minor(step.version), _minor(server_version)
    if made is None or held is None or made == held or made == (held[0], held[1] - 1):
        return
    raise UnsupportedError(
        f"the snapshot of {step.name!r} was made by Qdrant {step.version}; this server has {server_version} "
        "and takes snapshots of its own minor version and the one before",
        "start a Qdrant of that version, load there, and upgrade minor by minor; "
        "`recollect backup` makes snapshots that restore into any version",
    )


def _minor(version: str) -> tuple[int, int] | None:
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return int(parts[0]), int(parts[1])


def _load(
    step: LoadStep, server: QdrantSnapshots, container: Container | None, clock: Clock, on_event: OnEvent
) -> LoadedCollection:
    described = step.described
    result = LoadedCollection(
        name=step.name,
        file=step.path.name,
        expected_min=described.record_count_min if described else None,
        expected_max=described.record_count_max if described else None,
    )
    try:
        if container is None:
            server.upload(step.name, step.path, sha256=step.sha256)
        else:
            _through_container(step, server, container, on_event)
        result = _counted(result, server, clock)
        if described is not None:
            _bring_aliases(described, server, on_event)
    except RecollectError as error:
        return msgspec.structs.replace(result, message=error.message)
    if result.record_count == 0 and described is None:
        on_event(Note(message=f"{step.name} shows 0 points; was it empty when it was dumped?"))
    return result


def _through_container(
    step: LoadStep, server: QdrantSnapshots, container: Container, on_event: OnEvent
) -> None:
    name = f"recollect-{step.path.name}"
    location = container.copy_in(step.path, name)
    try:
        server.recover(step.name, location, sha256=step.sha256)
    finally:
        try:
            container.remove(name)
        except RecollectError as error:
            on_event(Note(message=f"{name} is left in the container: {error.message}"))


def _counted(result: LoadedCollection, server: QdrantSnapshots, clock: Clock) -> LoadedCollection:
    """Count until the number is right; a server may still be applying the write-ahead log of the snapshot."""
    until = clock.monotonic() + SETTLE_S
    while True:
        counted = msgspec.structs.replace(result, record_count=server.count(result.name))
        if counted.is_match or clock.monotonic() >= until:
            return counted
        clock.sleep(1.0)


def _bring_aliases(described: DumpedCollection, server: QdrantSnapshots, on_event: OnEvent) -> None:
    """Make the collection's aliases again, except those that lead elsewhere by now."""
    inventory = server.inventory()
    wanted: dict[str, str] = {}
    for alias in described.aliases:
        holder = inventory.targets.get(alias)
        if alias in inventory.physical or holder not in {None, described.name}:
            on_event(
                Note(message=f"the alias {alias!r} of {described.name!r} leads elsewhere and is left so")
            )
        elif holder is None:
            wanted[alias] = described.name
    server.create_aliases(wanted)
