"""The snapshots of one store: finding them, what depends on what, deleting.

A snapshot exists from the moment its `checksum.sha256` is written until that file is deleted.
Writers and deleters of a chain look at each other after they have acted, never only before: an
incremental snapshot checks its base again after its commit, a deletion checks for dependants again after
it took the checksum away. So whatever the order, at least one of two that meet gives way.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from typing import NamedTuple

from recollect.compat.ruvector import layout
from recollect.compat.ruvector.layout import SnapshotDocument
from recollect.errors import ConflictError, IntegrityError, NotFoundError, RecollectError, RequestError
from recollect.storage.base import ObjectStore, remove_empty_directory

_LOG = logging.getLogger("recollect.ruvector")


class Listing(NamedTuple):
    """Everything that was found.

    Attributes:
        documents: Committed snapshots, newest first; of one moment, the larger id first.
        damaged: Snapshots whose `checksum.sha256` or `metadata.json` cannot be read, with the reason.
        unfinished: Directories without `checksum.sha256`: being written, or left by a writer that died.
        byte_sizes: Of every file, by key.
    """

    documents: list[SnapshotDocument]
    damaged: dict[str, RecollectError]
    unfinished: list[str]
    byte_sizes: dict[str, int]

    def find(self, snapshot_id: str) -> SnapshotDocument | None:
        """Return one of the documents."""
        return next((one for one in self.documents if one.snapshot.id == snapshot_id), None)

    def is_complete(self, document: SnapshotDocument) -> bool:
        """Tell whether every data file is there, as long as it was written."""
        key = layout.file_key
        return all(
            self.byte_sizes.get(key(document.snapshot.id, name)) == size
            for name, size in document.byte_sizes.items()
        )


class SnapshotCatalog:
    """Finds and deletes snapshots in a store. Safe to share between threads and processes."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def read(self) -> Listing:
        """List everything. A damaged snapshot hides no other; it is reported, and logged."""
        files: dict[str, set[str]] = {}
        sizes: dict[str, int] = {}
        for entry in self.store.list(""):
            place = layout.snapshot_id_of(entry.key)
            if place is not None:
                files.setdefault(place[0], set()).add(place[1])
                sizes[entry.key] = entry.byte_size
        committed = [one for one, names in files.items() if layout.CHECKSUMS in names]
        documents: list[SnapshotDocument] = []
        damaged: dict[str, RecollectError] = {}
        for snapshot_id in committed:
            try:
                self._check_commit(snapshot_id, sizes[layout.file_key(snapshot_id, layout.CHECKSUMS)])
                documents.append(self._read(snapshot_id))
            except (IntegrityError, NotFoundError) as error:
                if isinstance(error, NotFoundError) and not self._is_committed(snapshot_id):
                    continue  # deleted since it was listed
                damaged[snapshot_id] = error
                _LOG.warning("snapshot %s is left out of the list: %s", snapshot_id, error)
        documents.sort(key=lambda one: (one.snapshot.created_at, one.snapshot.id), reverse=True)
        unfinished = sorted(files.keys() - set(committed))
        return Listing(documents, damaged, unfinished, sizes)

    def find(self, snapshot_id: str) -> SnapshotDocument:
        """Return a snapshot's document; NotFoundError if there is none."""
        layout.check_id(snapshot_id)
        try:
            size = self.store.size(layout.file_key(snapshot_id, layout.CHECKSUMS))
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no snapshot {snapshot_id!r} in {self.store.url}",
                "list_snapshots() shows those that there are",
            ) from error
        self._check_commit(snapshot_id, size)
        return self._read(snapshot_id)

    def chain(self, snapshot_id: str) -> list[SnapshotDocument]:
        """Return a snapshot and its bases, newest first, down to a full one.

        Raises:
            IntegrityError: A base is missing or damaged, or the chain has no end.
        """
        chain = [self.find(snapshot_id)]
        seen = {snapshot_id}
        while (base_id := chain[-1].snapshot.base_id) is not None:
            if base_id in seen:
                raise IntegrityError(f"snapshot {base_id} is its own base")
            seen.add(base_id)
            try:
                chain.append(self.find(base_id))
            except NotFoundError as error:
                raise IntegrityError(
                    f"snapshot {chain[-1].snapshot.id} needs its base {base_id}, which is missing",
                    "restore an older or a full snapshot",
                ) from error
        return chain

    def digests(self, document: SnapshotDocument) -> dict[str, str]:
        """Return the SHA-256 of each file, checked against the document's own checksum."""
        key = layout.file_key(document.snapshot.id, layout.CHECKSUMS)
        where = f"{self.store.url}: {key}"
        try:
            found = layout.decode_checksums(self.store.get(key), where=where)
        except NotFoundError as error:
            raise IntegrityError(f"{where} is missing") from error
        if layout.data_checksum(found) != document.snapshot.checksum:
            raise IntegrityError(f"{where} and {layout.DOCUMENT} beside it do not agree")
        return found

    def delete(self, snapshot_id: str) -> None:
        """Delete a snapshot that no other one needs. The checksum goes first, the data last.

        Raises:
            NotFoundError: There is none.
            ConflictError: Others depend on it; the message names them.
            IntegrityError: Another snapshot cannot be read, so it may depend on this one.
        """
        layout.check_id(snapshot_id)
        if not self._is_committed(snapshot_id):
            raise NotFoundError(f"there is no snapshot {snapshot_id!r} in {self.store.url} to delete")
        self._refuse_dependants(snapshot_id)
        key = layout.file_key(snapshot_id, layout.CHECKSUMS)
        commit = self.store.get(key)
        self.store.delete(key)
        try:
            self._refuse_dependants(snapshot_id)
        except RecollectError:
            self.store.put(key, commit)
            raise
        self.remove_files(snapshot_id)

    def cleanup(self, keep: int) -> int:
        """Delete all but the newest `keep` whole snapshots and the bases that those need; return how many.

        Damaged and incomplete snapshots do not count as kept and are not deleted.
        """
        given: object = keep
        if not isinstance(given, int) or given < 0:
            raise RequestError(f"the number of snapshots to keep must be 0 or more, got {keep!r}")
        listing = self.read()
        whole = [one for one in listing.documents if listing.is_complete(one)]
        return self.delete_except({one.snapshot.id for one in whole[:keep]}, listing)

    def delete_except(self, kept: Collection[str], listing: Listing) -> int:
        """Delete every whole snapshot that is neither kept nor needed; return how many were deleted.

        Dependants go before their base, so an interruption never breaks a chain.
        """
        bases = {one.snapshot.id: one.snapshot.base_id for one in listing.documents}
        whole = {one.snapshot.id for one in listing.documents if listing.is_complete(one)}
        needed: set[str] = set()
        for start in [*kept, *(bases.keys() - whole)]:
            one: str | None = start
            while one is not None and one not in needed:
                needed.add(one)
                one = bases.get(one)
        doomed = whole - needed
        if doomed and listing.damaged:
            raise IntegrityError(
                f"nothing was deleted: what {sorted(listing.damaged)} depends on cannot be read",
                "delete these snapshots by their id first",
            )
        count = 0
        for snapshot_id in _dependants_first(doomed, bases):
            try:
                self.delete(snapshot_id)
            except (NotFoundError, ConflictError) as error:
                # Another process deleted it since, or made a snapshot that needs it.
                _LOG.info("snapshot %s is left to others: %s", snapshot_id, error)
            else:
                count += 1
        return count

    def remove_files(self, snapshot_id: str) -> None:
        """Delete the files of a snapshot, the ones that make it one first. Idempotent."""
        for name in (layout.CHECKSUMS, layout.DOCUMENT, *layout.DATA_FILES):
            self.store.delete(layout.file_key(snapshot_id, name))
        remove_empty_directory(self.store, layout.directory(snapshot_id))

    def discard(self, snapshot_id: str) -> None:
        """Delete what a failed writer wrote, as far as possible: the failure is reported, not this."""
        with contextlib.suppress(RecollectError):
            self.remove_files(snapshot_id)

    def _refuse_dependants(self, snapshot_id: str) -> None:
        listing = self.read()
        dependants = [one.snapshot.id for one in listing.documents if one.snapshot.base_id == snapshot_id]
        if dependants:
            raise ConflictError(
                f"snapshot {snapshot_id} cannot be deleted: {', '.join(dependants)} depends on it",
                "delete these first, newest first",
            )
        others = sorted(listing.damaged.keys() - {snapshot_id})
        if others:
            raise IntegrityError(
                f"snapshot {snapshot_id} was not deleted: {', '.join(others)} cannot be read and may need it",
                f"delete {others[0]} first",
            )

    def _check_commit(self, snapshot_id: str, size: int) -> None:
        if size != layout.CHECKSUMS_SIZE:
            key = layout.file_key(snapshot_id, layout.CHECKSUMS)
            raise IntegrityError(
                f"{self.store.url}: {key} has {size} bytes, not {layout.CHECKSUMS_SIZE}",
                "delete the snapshot; take another one",
            )

    def _is_committed(self, snapshot_id: str) -> bool:
        try:
            self.store.size(layout.file_key(snapshot_id, layout.CHECKSUMS))
        except NotFoundError:
            return False
        return True

    def _read(self, snapshot_id: str) -> SnapshotDocument:
        key = layout.file_key(snapshot_id, layout.DOCUMENT)
        where = f"{self.store.url}: {key}"
        try:
            if self.store.size(key) > layout.DOCUMENT_SIZE_MAX:
                raise IntegrityError(f"{where} is far too large", "delete the snapshot; take another one")
            document = layout.decode_document(self.store.get(key), where=where)
        except NotFoundError as error:
            raise IntegrityError(f"{where} is missing", "delete the snapshot; take another one") from error
        if document.snapshot.id != snapshot_id or sorted(document.byte_sizes) != sorted(layout.DATA_FILES):
            raise IntegrityError(f"{where} describes snapshot {document.snapshot.id!r}")
        return document


def _dependants_first(doomed: Collection[str], bases: dict[str, str | None]) -> list[str]:
    order: list[str] = []
    left = set(doomed)
    while left:
        free = sorted(one for one in left if all(bases[other] != one for other in left))
        if not free:
            raise IntegrityError(f"the snapshots {sorted(left)} are bases of one another")
        order.extend(free)
        left.difference_update(free)
    return order
