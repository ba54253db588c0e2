"""Verify: prove that stored is what was written, or that a live source is what was stored.

Three depths. *Structure* reads every snapshot and asks for the presence and size of every
object. *Objects* also reads a share of the objects, or all, and compares them with their
names. *Records* (with all objects, for one snapshot) also decodes every record, digests it
anew, and compares the collection's fingerprint with the snapshot's.

Damage is collected and reported, not raised, so that one bad file does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec

from recollect.catalog.catalog import Catalog
from recollect.engines.base import Source
from recollect.errors import (
    FormatVersionError,
    IntegrityError,
    RecollectError,
    RequestError,
)
from recollect.operations.reading import vanished
from recollect.operations.scan import digested
from recollect.pipeline import map_ordered
from recollect.repository import layout
from recollect.repository.repository import Repository
from recollect.segments.compare import Comparison, differences
from recollect.segments.reader import RunsReader
from recollect.values.digest import digest_records
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.schema import layout_difference
from recollect.values.snapshot import ChangeCounts, CollectionEntry, ObjectRef, Snapshot

NO_CHANGES = ChangeCounts()
READ_WORKERS = 2
READ_WINDOW = 4


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Which objects to read: those whose digest, as a number, falls into part `number` of `count`.

    The parts 1/t … t/t together are all objects, so a schedule of them covers everything.
    """

    number: int = 1
    count: int = 1

    def holds(self, digest: str) -> bool:
        """Tell whether an object belongs to this part."""
        return int(digest[:15], 16) % self.count == self.number - 1


class VerifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to verify.

    Attributes:
        snapshot: Selector of one snapshot; empty means all.
        share: Objects to read; None reads none.
    """

    snapshot: str = ""
    share: Share | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was written.

    Attributes:
        kind: "missing", "damaged", "size", "snapshot", "unsupported" or "fingerprint".
        what: The key, or the collection.
        message: What was found.
        snapshots: Ids of the snapshots that it affects.
    """

    kind: Literal["missing", "damaged", "size", "snapshot", "unsupported", "fingerprint"]
    what: str
    message: str
    snapshots: tuple[str, ...] = ()


class CollectionCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One collection's fingerprint, as stored and as found."""

    snapshot_id: str
    name: str
    record_count: int
    fingerprint: str
    found: str
    is_match: bool
    changes: ChangeCounts = ChangeCounts()


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and what was found."""

    snapshot_count: int = 0
    object_count: int = 0
    read_count: int = 0
    read_bytes: int = 0
    problems: tuple[Problem, ...] = ()
    collections: tuple[CollectionCheck, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing was found wrong."""
        return not self.problems and all(check.is_match for check in self.collections)


def run(repository: Repository, *, options: VerifyOptions, on_event: OnEvent = ignore_events) -> VerifyReport:
    """Verify the repository, or one snapshot of it. Reads only.

    Raises:
        NotFoundError: The snapshot does not exist. Damage is in the report, never raised.
        ConflictError: The snapshot was forgotten, and its data deleted, meanwhile.
    """
    snapshots, problems = _readable_snapshots(repository, options.snapshot)
    users = _users(snapshots)
    checked = _Objects(repository, users, on_event)
    problems += checked.present()
    if options.share is not None:
        problems += checked.read(options.share)
    checks: list[CollectionCheck] = []
    if options.share == Share() and not problems:
        # Decoding every snapshot would read shared segments over and over: one proves the rest's format.
        chosen = snapshots if options.snapshot else snapshots[-1:]
        for snapshot in chosen:
            for entry in snapshot.collections:
                try:
                    checks.append(_check_records(repository, snapshot, entry, on_event))
                except RecollectError as error:
                    problems.append(_snapshot_problem(entry.name, error, snapshot.id))
    problems = _of_present_snapshots(repository, problems, options.snapshot)
    return VerifyReport(
        snapshot_count=len(snapshots),
        object_count=len(users),
        read_count=checked.read_count,
        read_bytes=checked.read_bytes,
        problems=tuple(problems),
        collections=tuple(checks),
    )


def against(
    repository: Repository,
    snapshot: Snapshot,
    source: Source,
    *,
    collections: tuple[str, ...] = (),
    on_event: OnEvent = ignore_events,
) -> VerifyReport:
    """Compare a live source with a snapshot, record by record. Reads only.

    Raises:
        RequestError: A collection that was asked for is not in the snapshot.
    """
    known = {entry.name: entry for entry in snapshot.collections}
    unknown = [name for name in collections if name not in known]
    if unknown:
        raise RequestError(
            f"snapshot {snapshot.id} has no collection {unknown[0]!r}; it has: {', '.join(known)}"
        )
    checks: list[CollectionCheck] = []
    problems: list[Problem] = []
    with source.hold() as view:
        live = set(view.collections())
        for name, entry in known.items():
            if collections and name not in collections:
                continue
            if name not in live:
                message = f"collection {name!r} is not in {source.info().url}"
                problems.append(Problem(kind="missing", what=name, message=message, snapshots=(snapshot.id,)))
                continue
            description = view.describe(name)
            difference = layout_difference(entry.schema, description.schema)
            if difference:
                message = f"collection {name!r} holds other vectors: {difference}"
                problems.append(
                    Problem(kind="fingerprint", what=name, message=message, snapshots=(snapshot.id,))
                )
                continue
            totals = Comparison()
            stored = RunsReader(repository, entry.schema, entry.runs).index()
            records = digested(view, description, source.capabilities, on_event)
            for _ in differences(stored, records, entry.schema, totals):
                pass
            checks.append(_check(snapshot, entry, totals.after, totals.changes))
    return VerifyReport(snapshot_count=1, problems=tuple(problems), collections=tuple(checks))


def _readable_snapshots(repository: Repository, selector: str) -> tuple[list[Snapshot], list[Problem]]:
    catalog = Catalog(repository)
    if selector:
        return [catalog.find(selector)], []
    snapshots, unreadable = catalog.survey()
    problems = [_snapshot_problem(key, error) for key, error in unreadable]
    named = {key for key, _ in unreadable}
    for key, damage in catalog.damaged_tags():
        if key in named:
            continue
        problems.append(Problem(kind="damaged", what=key, message=f"{key}: {damage}"))
    return snapshots, problems


def _of_present_snapshots(repository: Repository, problems: list[Problem], selector: str) -> list[Problem]:
    """Leave out what is missing because all its snapshots were forgotten, and pruned, during the reading.

    Raises:
        ConflictError: The only snapshot that was to be verified is among them.
    """
    catalog = Catalog(repository)
    gone = {each for problem in problems for each in problem.snapshots if not catalog.has(each)}
    if gone and selector:
        raise vanished(catalog, min(gone))
    return [problem for problem in problems if not problem.snapshots or set(problem.snapshots) - gone]


def _snapshot_problem(what: str, error: RecollectError, *snapshots: str) -> Problem:
    kind: Literal["snapshot", "unsupported"] = "snapshot"
    if isinstance(error, FormatVersionError):
        kind = "unsupported"
    return Problem(kind=kind, what=what, message=str(error), snapshots=snapshots)


def _users(snapshots: list[Snapshot]) -> dict[ObjectRef, tuple[str, ...]]:
    """Map every listed object to the snapshots that need it."""
    users: dict[ObjectRef, list[str]] = {}
    for snapshot in snapshots:
        for reference in set(snapshot.objects()):
            users.setdefault(reference, []).append(snapshot.id)
    return {reference: tuple(ids) for reference, ids in users.items()}


class _Objects:
    """Checks of the objects that snapshots list."""

    def __init__(
        self, repository: Repository, users: dict[ObjectRef, tuple[str, ...]], on_event: OnEvent
    ) -> None:
        self._repository = repository
        self._users = users
        self._on_event = on_event
        self._known_bad: set[ObjectRef] = set()
        self.read_count = 0
        self.read_bytes = 0

    def present(self) -> list[Problem]:
        """Find objects that are missing or of another size, by one listing."""
        sizes: dict[str, int] = {}
        problems = []
        for item in self._repository.store.list(layout.OBJECTS):
            digest = layout.object_digest(item.key)
            if digest is None:
                message = f"{item.key} is not the name of an object"
                problems.append(Problem(kind="damaged", what=item.key, message=message))
            else:
                sizes[digest] = item.byte_size
        for reference, users in self._users.items():
            key = layout.object_key(reference.digest)
            size = sizes.get(reference.digest)
            if size is None:
                problems.append(
                    Problem(kind="missing", what=key, message=f"{key} is missing", snapshots=users)
                )
            elif size != reference.byte_size:
                message = f"{key} has {size} bytes, not {reference.byte_size}"
                problems.append(Problem(kind="size", what=key, message=message, snapshots=users))
            else:
                continue
            self._known_bad.add(reference)
        return problems

    def read(self, share: Share) -> list[Problem]:
        """Read a share of the objects and compare each with its name."""
        chosen = [
            reference
            for reference in self._users
            if share.holds(reference.digest) and reference not in self._known_bad
        ]
        return list(self._read_all(chosen))

    def _read_all(self, chosen: list[ObjectRef]) -> Iterator[Problem]:
        def check(reference: ObjectRef) -> str:
            try:
                self._repository.get_object(reference)
            except IntegrityError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(READ_WORKERS) as executor:
            results = map_ordered(check, chosen, executor=executor, window=READ_WINDOW)
            for reference, message in zip(chosen, results, strict=True):
                self.read_count += 1
                self.read_bytes += reference.byte_size
                self._on_event(
                    Progress(
                        stage="read",
                        subject="objects",
                        done=self.read_count,
                        total=len(chosen),
                        unit="objects",
                    )
                )
                if message:
                    key = layout.object_key(reference.digest)
                    users = self._users[reference]
                    yield Problem(kind="damaged", what=key, message=message, snapshots=users)


def _check_records(
    repository: Repository, snapshot: Snapshot, entry: CollectionEntry, on_event: OnEvent
) -> CollectionCheck:
    """Decode every record of a stored collection and compute its fingerprint from the values."""
    found = Fingerprint()
    for batch in RunsReader(repository, entry.schema, entry.runs).records():
        found += fingerprint_batch(digest_records(batch, entry.schema))
        on_event(
            Progress(stage="verify", subject=entry.name, done=found.record_count, total=entry.record_count)
        )
    return _check(snapshot, entry, found)


def _check(
    snapshot: Snapshot, entry: CollectionEntry, found: Fingerprint, changes: ChangeCounts = NO_CHANGES
) -> CollectionCheck:
    return CollectionCheck(
        snapshot_id=snapshot.id,
        name=entry.name,
        record_count=entry.record_count,
        fingerprint=entry.fingerprint,
        found=str(found),
        is_match=str(found) == entry.fingerprint,
        changes=changes,
    )
