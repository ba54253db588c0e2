"""Tags of snapshots: numbered revisions beside the snapshots, each written once; the highest one counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from recollect.codec.document import open_document, seal_document
from recollect.errors import IntegrityError, NotFoundError, RequestError
from recollect.repository import layout
from recollect.repository.repository import Repository
from recollect.values.ulid import is_ulid

_TAG = re.compile(r"[^\s,]{1,64}")


class TagRevision(msgspec.Struct, frozen=True):
    """All tags that a snapshot has as of one change of them, sorted."""

    snapshot: str
    revision: int
    tags: tuple[str, ...]


class TagRevisions:
    """The revisions of one repository. Reads the store at every call; safe to share between threads."""

    def __init__(self, repository: Repository) -> None:
        self._store = repository.store

    def newest_keys(self) -> dict[str, str]:
        """Return the key of the newest revision of each snapshot that has one, by one listing."""
        return {item.key.split("/")[1]: item.key for item in self._store.list(layout.TAGS)}

    def newest_key(self, snapshot: str) -> str:
        """Return the key of a snapshot's newest revision; empty if its tags were never changed."""
        keys = [item.key for item in self._store.list(layout.tags_prefix(snapshot))]
        return keys[-1] if keys else ""

    def read(self, key: str) -> TagRevision:
        """Read one revision and check that it stands where it belongs.

        Raises:
            NotFoundError: It is gone. IntegrityError: It is damaged, or another's.
        """
        try:
            found = msgspec.json.decode(open_document(self._store.get(key)), type=TagRevision)
        except msgspec.DecodeError as error:
            raise IntegrityError(f"not a tag record: {error}") from error
        if layout.tags_key(found.snapshot, found.revision) != key:
            raise IntegrityError(f"it is revision {found.revision} of the tags of {found.snapshot}")
        return found

    def write(self, revision: TagRevision) -> None:
        """Write a revision; ConflictError if there is one of its number."""
        key = layout.tags_key(revision.snapshot, revision.revision)
        self._store.put_if_absent(key, seal_document(msgspec.json.encode(revision)))

    def drop(self, snapshot: str) -> None:
        """Remove all revisions of a snapshot."""
        for item in list(self._store.list(layout.tags_prefix(snapshot))):
            self._store.delete(item.key)

    def drop_orphans(self, exists: Callable[[str], bool]) -> None:
        """Remove the revisions of snapshots that are gone.

        Each owner is asked for by itself: a listing that is short or older than the tags must not
        make an orphan of them.
        """
        for snapshot in sorted(filter(is_ulid, self.newest_keys())):
            if not exists(snapshot):
                self.drop(snapshot)

    def damaged(self, exists: Callable[[str], bool]) -> Iterator[tuple[str, IntegrityError]]:
        """Yield every revision, older ones included, that is damaged or missing, and what it has."""
        owner, expected = "", 1
        for item in self._store.list(layout.TAGS):
            try:
                snapshot, revision = layout.tags_revision(item.key)
                missing = range(expected if snapshot == owner else 1, revision)
                if missing and exists(snapshot):
                    yield layout.tags_key(snapshot, missing[0]), IntegrityError("it is missing")
                owner, expected = snapshot, revision + 1
                self.read(item.key)
            except NotFoundError:
                continue  # its snapshot was forgotten meanwhile
            except IntegrityError as error:
                yield item.key, error


def check_tag(tag: str) -> str:
    """Return the tag if it is well-formed: 1 to 64 characters, no space, no comma."""
    if not _TAG.fullmatch(tag):
        raise RequestError(f"{tag!r} is not a valid tag", "use 1 to 64 characters without spaces and commas")
    return tag
