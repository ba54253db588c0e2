"""The catalog of a repository: commit, list, find, tag and forget snapshots."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

import msgspec

from recollect.codec.document import open_document, seal_document
from recollect.codec.snapshot import decode_snapshot, encode_snapshot
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    RequestError,
)
from recollect.repository import layout
from recollect.repository.garbage import Marks
from recollect.repository.lease import Lease
from recollect.repository.repository import Repository
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import is_ulid

ID_PREFIX_LENGTH_MIN = 4
# Inside the class, `list` is the method.
Snapshots = list[Snapshot]
Ids = list[str]

_GIVE_UP = (
    "put that file back from a copy of the repository, or move it away to give this one snapshot up; "
    "the others do not need it"
)
_RELATIVE = re.compile(r"latest(?:~([0-9]+))?")
_TAG = re.compile(r"[^\s,]{1,64}")


class Catalog:
    """Snapshots of one repository. Reads the store at every call; safe to share between threads."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

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
        found = [self._read(identity) for identity in self.ids()]
        return sorted(
            (snapshot for snapshot in found if snapshot is not None),
            key=lambda snapshot: (snapshot.created_at, snapshot.id),
        )

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
            exact = selector.lower()
            if exact in self.ids():
                return self.read(exact)
        snapshots = self.list()
        if relative is not None:
            back = int(relative[1] or 0)
            if back >= len(snapshots):
                raise self._not_found(selector, f"the repository has {len(snapshots)} snapshots")
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
        snapshot = self.read(identity)
        while True:
            revision, tags = self._tags(snapshot)
            wanted = tuple(sorted((set(tags) | added) - removed))
            if wanted != tags:
                try:
                    record = _TagRecord(identity, revision + 1, wanted)
                    self.repository.store.put_if_absent(
                        layout.tags_key(identity, record.revision), _encode_tags(record)
                    )
                except ConflictError:
                    continue  # another revision came first: apply the change to that one
            return msgspec.structs.replace(snapshot, tags=wanted)

    def forget(self, identity: str) -> None:
        """Remove a snapshot from the catalog; its objects stay until `prune`.

        The snapshot goes first: a crash in between leaves tags without a snapshot, which the
        next garbage collection drops.
        """
        self.repository.store.delete(layout.snapshot_key(identity))
        self._drop_tags(identity)

    def mark(self, *, without: Collection[str] = ()) -> Marks:
        """Read every snapshot but those `without` and return what all list; failing to read is an error."""
        identities = [identity for identity in self.ids() if identity not in without]
        objects: set[str] = set()
        for identity in identities:
            snapshot = self.read_committed(identity)
            objects.update(reference.digest for reference in snapshot.objects())
        return Marks(snapshots=frozenset(identities), objects=frozenset(objects))

    def drop_orphan_tags(self) -> None:
        """Remove tag objects whose snapshot is gone.

        Each owner is asked for by itself: a listing that is short or older than the tags must not
        make an orphan of them.
        """
        owners = {item.key.split("/")[1] for item in self.repository.store.list(layout.TAGS)}
        for identity in sorted(filter(is_ulid, owners)):
            if not self._exists(identity):
                self._drop_tags(identity)

    def damaged_tags(self) -> Iterator[tuple[str, IntegrityError]]:
        """Yield every revision of tags, older ones included, that is damaged or missing, and what it has."""
        owner, expected = "", 1
        for item in self.repository.store.list(layout.TAGS):
            try:
                snapshot, revision = layout.tags_revision(item.key)
                missing = range(expected if snapshot == owner else 1, revision)
                if missing and self._exists(snapshot):
                    yield layout.tags_key(snapshot, missing[0]), IntegrityError("it is missing")
                owner, expected = snapshot, revision + 1
                _decode_tags(item.key, self.repository.store.get(item.key))
            except NotFoundError:
                continue  # its snapshot was forgotten meanwhile
            except IntegrityError as error:
                yield item.key, error

    def _drop_tags(self, identity: str) -> None:
        for item in list(self.repository.store.list(layout.tags_prefix(identity))):
            self.repository.store.delete(item.key)

    def _exists(self, identity: str) -> bool:
        try:
            self.repository.store.size(layout.snapshot_key(identity))
        except NotFoundError:
            return False
        return True

    def _read(self, identity: str) -> Snapshot | None:
        snapshot = self._read_committed(identity)
        if snapshot is None:
            return None
        return msgspec.structs.replace(snapshot, tags=self._tags(snapshot)[1])

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

    def _tags(self, snapshot: Snapshot) -> tuple[int, tuple[str, ...]]:
        keys = [item.key for item in self.repository.store.list(layout.tags_prefix(snapshot.id))]
        if not keys:
            return 0, tuple(sorted(snapshot.tags))
        try:
            record = _decode_tags(keys[-1], self.repository.store.get(keys[-1]))
        except (NotFoundError, IntegrityError) as error:
            if isinstance(error, NotFoundError) and not self._exists(snapshot.id):
                return 0, tuple(sorted(snapshot.tags))  # forgotten since the listing
            raise IntegrityError(
                f"{keys[-1]} in {self.repository.url} is damaged: {error}",
                "delete that file to fall back to the tags before it",
            ) from error
        return record.revision, record.tags

    def _by_prefix(self, selector: str, snapshots: Snapshots) -> Snapshot:
        wanted = selector.lower()
        fitting = [snapshot for snapshot in snapshots if snapshot.id.startswith(wanted)]
        if len(wanted) < ID_PREFIX_LENGTH_MIN or not fitting:
            raise self._not_found(selector, f"the repository has {len(snapshots)} snapshots")
        if len(fitting) > 1:
            ids = ", ".join(snapshot.id for snapshot in fitting[:3])
            raise RequestError(f"{selector!r} fits {len(fitting)} snapshots: {ids}", "give more of the id")
        return fitting[0]

    def _not_found(self, selector: str, found: str) -> NotFoundError:
        return NotFoundError(
            f"there is no snapshot {selector!r} in {self.repository.url}; {found}",
            f"list them with `recollect snapshots -r {self.repository.url}`",
        )


class _TagRecord(msgspec.Struct, frozen=True):
    snapshot: str
    revision: int
    tags: tuple[str, ...]


def _encode_tags(record: _TagRecord) -> bytes:
    return seal_document(msgspec.json.encode(record))


def _decode_tags(key: str, encoded: bytes) -> _TagRecord:
    """Decode one revision of tags and check that it stands where it belongs."""
    try:
        record = msgspec.json.decode(open_document(encoded), type=_TagRecord)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"not a tag record: {error}") from error
    if layout.tags_key(record.snapshot, record.revision) != key:
        raise IntegrityError(f"it is revision {record.revision} of the tags of {record.snapshot}")
    return record


def check_tag(tag: str) -> str:
    """Return the tag if it is well-formed: 1 to 64 characters, no space, no comma."""
    if not _TAG.fullmatch(tag):
        raise RequestError(f"{tag!r} is not a valid tag", "use 1 to 64 characters without spaces and commas")
    return tag


def check_name(name: str) -> str:
    """Return a snapshot's name, or the empty one, unless it means something else as a selector."""
    if _RELATIVE.fullmatch(name):
        raise RequestError(f"{name!r} cannot be a snapshot's name: it selects by age", "choose another name")
    return name
