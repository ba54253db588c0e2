"""The catalog of a repository: commit, list, find, tag and forget snapshots."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import msgspec

from recollect.catalog.tags import TagRevision, TagRevisions, check_tag
from recollect.codec.document import open_document, seal_document
from recollect.codec.snapshot import decode_snapshot, encode_snapshot
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    RequestError,
)
from recollect.pipeline import map_ordered
from recollect.repository import layout
from recollect.repository.garbage import Marks
from recollect.repository.lease import Lease
from recollect.repository.repository import Repository
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import is_ulid

ID_PREFIX_LENGTH_MIN = 4
READ_WORKERS = 16  # a snapshot is one small read, so a listing waits for round trips and nothing else
READ_WINDOW = 32
# Inside the class, `list` is the method.
Snapshots = list[Snapshot]
Ids = list[str]
Result = TypeVar("Result")
Unreadable: TypeAlias = list[tuple[str, IntegrityError | FormatVersionError]]

_GIVE_UP = (
    "put that file back from a copy of the repository, or move it away to give this one snapshot up; "
    "the others do not need it"
)
_RELATIVE = re.compile(r"latest(?:~([0-9]+))?")


class Catalog:
    """Snapshots of one repository. Reads the store at every call; safe to share between threads."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._tags = TagRevisions(repository)

    def commit(self, snapshot: Snapshot, lease: Lease) -> int:
        """Make a snapshot exist; all its objects must have been put under `lease`. Returns its bytes.

        Atomic: a crash leaves it committed or absent. If the lease was revoked while this process
        stood still, a garbage collection may have deleted objects that only this snapshot lists, or may be
        about to; then it is not committed, or taken back.

        Raises:
            ConflictError: The lease was lost.
        """
        encoded = seal_document(encode_snapshot(snapshot))
        lease.assert_held()
        self.repository.store.put_if_absent(layout.snapshot_key(snapshot.id), encoded)
        try:
            lease.assert_held()
        except ConflictError:
            self.forget(snapshot.id)
            raise
        return len(encoded)

    def list(self) -> Snapshots:
        """Return all snapshots with their present tags, oldest first.

        Raises:
            IntegrityError: One is damaged; the message names it.
            FormatVersionError: One was written by a newer release.
        """
        snapshots, unreadable = self.survey()
        if unreadable:
            raise unreadable[0][1]
        return snapshots

    def survey(self) -> tuple[Snapshots, Unreadable]:
        """Return the snapshots that can be read, oldest first, and the key and the failure of what cannot.

        A snapshot whose tags cannot be read is among the first, with the tags that it was committed with.
        For looking around in a damaged repository; what decides by all snapshots takes `list`.
        """
        newest = self._tags.newest_keys()

        def read(identity: str) -> tuple[Snapshot | None, Unreadable]:
            snapshot, key = None, layout.snapshot_key(identity)
            try:
                snapshot = self._read_committed(identity)
                key = newest.get(identity, "")
                return snapshot and self._with_tags(snapshot, key), []
            except (IntegrityError, FormatVersionError) as error:
                return snapshot, [(key, error)]

        snapshots: Snapshots = []
        unreadable: Unreadable = []
        identities: Ids = []
        for item in self.repository.store.list(layout.SNAPSHOTS):
            try:
                identities.append(layout.snapshot_id(item.key))
            except IntegrityError as error:
                unreadable.append((item.key, error))
        for snapshot, failures in self._each(read, identities):
            if snapshot is not None:
                snapshots.append(snapshot)
            unreadable += failures
        snapshots.sort(key=lambda snapshot: (snapshot.created_at, snapshot.id))
        return snapshots, unreadable

    def ids(self) -> Ids:
        """Return the ids of all snapshots, ascending."""
        return [layout.snapshot_id(item.key) for item in self.repository.store.list(layout.SNAPSHOTS)]

    def find(self, selector: str) -> Snapshot:
        """Find one snapshot: `latest`, `latest~N` (N before it), an id, an id prefix, or a name.

        A name that several snapshots share means the newest of them.

        Raises:
            NotFoundError: Nothing fits; RequestError: a prefix fits several snapshots.
        """
        relative = _RELATIVE.fullmatch(selector)
        if relative is None:
            # Asked for by its key: what else lies among the snapshots, damaged or foreign, is not in the way.
            exact = selector.lower()
            snapshot = self._read(exact) if is_ulid(exact) else None
            if snapshot is not None:
                return snapshot
        snapshots = self.list()
        if relative is not None:
            back = int(relative[1] or 0)
            if back >= len(snapshots):
                raise self._not_found(selector, _count_text(snapshots))
            return snapshots[-1 - back]
        named = [snapshot for snapshot in snapshots if snapshot.name and snapshot.name == selector]
        if named:
            return named[-1]
        return self._by_prefix(selector, snapshots)

    def read(self, identity: str) -> Snapshot:
        """Read one snapshot by its full id; NotFoundError if there is none."""
        snapshot = self._read(identity)
        if snapshot is None:
            raise self._not_found(identity, "it may have been forgotten")
        return snapshot

    def read_committed(self, identity: str) -> Snapshot:
        """Read one snapshot as it was committed, without the tags that came later."""
        snapshot = self._read_committed(identity)
        if snapshot is None:
            raise self._not_found(identity, "it may have been forgotten")
        return snapshot

    def tag(self, identity: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Snapshot:
        """Change the tags of a snapshot and return it. The snapshot object itself is never rewritten.

        Each change is a new revision, written only if absent, so two at once both take effect
        where the store has conditional writes.
        """
        added, removed = {check_tag(tag) for tag in add}, set(remove)
        snapshot = self.read_committed(identity)
        while True:
            present = self._present(snapshot, self._tags.newest_key(identity))
            tags = tuple(sorted(snapshot.tags)) if present is None else present.tags
            wanted = tuple(sorted((set(tags) | added) - removed))
            if wanted != tags:
                number = 1 if present is None else present.revision + 1
                try:
                    self._tags.write(TagRevision(identity, number, wanted))
                except ConflictError:
                    continue  # another revision came first: apply the change to that one
            return msgspec.structs.replace(snapshot, tags=wanted)

    def tags_now(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Return the tags of a snapshot that was read earlier, as they are now, sorted."""
        return self._with_tags(snapshot, self._tags.newest_key(snapshot.id)).tags

    def forget(self, identity: str) -> None:
        """Remove a snapshot from the catalog; its objects stay until `prune`.

        The snapshot goes first: a crash in between leaves tags without a snapshot, which the
        next garbage collection drops.
        """
        self.repository.store.delete(layout.snapshot_key(identity))
        self._tags.drop(identity)

    def mark(self, *, without: Collection[str] = ()) -> Marks:
        """Read every snapshot but those `without` and return what all list; failing to read is an error."""
        identities = [identity for identity in self.ids() if identity not in without]
        objects: set[str] = set()
        for snapshot in self._each(self.read_committed, identities):
            objects.update(reference.digest for reference in snapshot.objects())
        return Marks(snapshots=frozenset(identities), objects=frozenset(objects))

    def drop_orphan_tags(self) -> None:
        """Remove tag objects whose snapshot is gone."""
        self._tags.drop_orphans(self.has)

    def damaged_tags(self) -> Iterator[tuple[str, IntegrityError]]:
        """Yield every revision of tags, older ones included, that is damaged or missing, and what it has."""
        return self._tags.damaged(self.has)

    @staticmethod
    def _each(function: Callable[[str], Result], identities: Sequence[str]) -> Iterator[Result]:
        """Call it for each snapshot, many at once: what takes time is the way to the store and back."""
        with ThreadPoolExecutor(READ_WORKERS) as executor:
            yield from map_ordered(function, identities, executor=executor, window=READ_WINDOW)

    def has(self, identity: str) -> bool:
        """Tell whether there is a snapshot of this id, readable or not."""
        try:
            self.repository.store.size(layout.snapshot_key(identity))
        except NotFoundError:
            return False
        return True

    def _read(self, identity: str) -> Snapshot | None:
        snapshot = self._read_committed(identity)
        if snapshot is None:
            return None
        return self._with_tags(snapshot, self._tags.newest_key(identity))

    def _read_committed(self, identity: str) -> Snapshot | None:
        key = layout.snapshot_key(identity)
        try:
            encoded = self.repository.store.get(key)
        except NotFoundError:
            return None
        place = f"{key} in {self.repository.url}"
        try:
            snapshot = decode_snapshot(open_document(encoded))
        except FormatVersionError as error:
            raise FormatVersionError(f"{place}: {error}", error.next_step) from error
        except IntegrityError as error:
            raise IntegrityError(f"{place}: {error}", _GIVE_UP) from error
        if snapshot.id != identity:
            raise IntegrityError(f"{place} holds the snapshot {snapshot.id}", _GIVE_UP)
        return snapshot

    def _with_tags(self, snapshot: Snapshot, newest_key: str) -> Snapshot:
        present = self._present(snapshot, newest_key)
        tags = tuple(sorted(snapshot.tags)) if present is None else present.tags
        return msgspec.structs.replace(snapshot, tags=tags)

    def _present(self, snapshot: Snapshot, newest_key: str) -> TagRevision | None:
        """Return the tags that count now; None if they are those that it was committed with."""
        if not newest_key:
            return None
        try:
            return self._tags.read(newest_key)
        except (NotFoundError, IntegrityError) as error:
            if isinstance(error, NotFoundError) and not self.has(snapshot.id):
                return None  # forgotten since the listing
            raise IntegrityError(
                f"{newest_key} in {self.repository.url} is damaged: {error}",
                "delete that file to fall back to the tags before it",
            ) from error

    def _by_prefix(self, selector: str, snapshots: Snapshots) -> Snapshot:
        wanted = selector.lower()
        fitting = [snapshot for snapshot in snapshots if snapshot.id.startswith(wanted)]
        if len(wanted) < ID_PREFIX_LENGTH_MIN or not fitting:
            raise self._not_found(selector, _count_text(snapshots))
        if len(fitting) > 1:
            ids = ", ".join(snapshot.id for snapshot in fitting[:3])
            raise RequestError(f"{selector!r} fits {len(fitting)} snapshots: {ids}", "give more of the id")
        return fitting[0]

    def _not_found(self, selector: str, found: str) -> NotFoundError:
        return NotFoundError(
            f"there is no snapshot {selector!r} in {self.repository.url}; {found}",
            f"list them with `recollect snapshots -r {self.repository.url}`",
        )


def check_name(name: str) -> str:
    """Return a snapshot's name, or the empty one, unless it means something else as a selector."""
    if _RELATIVE.fullmatch(name):
        raise RequestError(f"{name!r} cannot be a snapshot's name: it selects by age", "choose another name")
    return name


def _count_text(snapshots: Snapshots) -> str:
    return f"the repository has {len(snapshots)} snapshot{'' if len(snapshots) == 1 else 's'}"
