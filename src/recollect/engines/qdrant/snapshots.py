"""The server's own snapshots of collections: make, list, fetch, delete, and restore from one.

Every transfer is checked: length, SHA-256 where the server tells one, and the archive's structure. A
download stands under its name only when it is complete and on disk. One thread at a time.
Source: https://qdrant.tech/documentation/concepts/snapshots/ and qdrant, src/actix/api/snapshot_api.rs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec

from recollect.clock import Clock
from recollect.engines.qdrant.address import Secrets, parse_address
from recollect.engines.qdrant.archive import SnapshotArchive, check_archive
from recollect.engines.qdrant.connection import PATIENCE_S, Connection, collection_path, refusal_text
from recollect.engines.qdrant.failures import from_status, from_transport
from recollect.engines.qdrant.inventory import Inventory, read_inventory
from recollect.engines.qdrant.library import qdrant_library
from recollect.engines.qdrant.source import server_info
from recollect.errors import IntegrityError, NotFoundError, RecollectError, StorageFullError, UnavailableError

IDLE_S = 60.0
"""A transfer that brings no byte for so long is given up; the server holds a lock while it sends."""

PIECE_BYTES = 1 << 20
POLL_S = 1.0
ENOSPC = 28


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of one snapshot.

    Attributes:
        created_at: `YYYY-MM-DDTHH:MM:SS` in UTC without a zone; None where the server does not know.
        checksum: SHA-256 in hex; None where the server does not know, as with snapshots on S3.
    """

    name: str
    byte_size: int
    created_at: str | None = None
    checksum: str | None = None


class FetchedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was downloaded and checked.

    Attributes:
        sha256: Of the bytes that arrived.
        is_proven: The server's own checksum was equal; False where it tells none.
    """

    sha256: str
    byte_size: int
    is_proven: bool
    archive: SnapshotArchive


class QdrantSnapshots:
    """Snapshot calls to one server.

    Args:
        url: See `address`; `http://host:6333` as a rule.
        secrets: Gives the value of `api_key_env`.
        clock: Waits between attempts.
        api_key: Takes the place of the URL's, for callers that have it already.
        idle_s: Seconds without a byte after which a transfer is given up.
    """

    def __init__(
        self, url: str, *, secrets: Secrets, clock: Clock, api_key: str = "", idle_s: float = IDLE_S
    ) -> None:
        address, key = parse_address(url, secrets)
        self._connection = Connection(address, api_key or key, clock)
        self._clock = clock
        self._idle_s = idle_s

    @property
    def url(self) -> str:
        """The server's REST address, without credentials."""
        return self._connection.address.rest_url

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._connection.close()

    def version(self) -> str:
        """Return the server's version."""
        return server_info(self._connection).version

    def wait_until_ready(self, attempts: int) -> int:
        """Ask `/healthz` once a second until it answers; return how often it was asked.

        Raises:
            UnavailableError: It did not answer in so many attempts.
        """
        for attempt in range(1, attempts + 1):
            if self.is_healthy():
                return attempt
            if attempt < attempts:
                self._clock.sleep(POLL_S)
        raise UnavailableError(
            f"Qdrant not responding after {attempts} seconds: {self.url}/healthz gave no answer",
            "start Qdrant, check the host and port, and try again",
        )

    def is_healthy(self) -> bool:
        """Tell whether the server answers `/healthz` now, within two seconds."""
        httpx = qdrant_library().httpx
        try:
            return bool(self._connection.http.get("/healthz", timeout=2.0).is_success)
        except httpx.HTTPError:
            return False

    def inventory(self) -> Inventory:
        """Ask for the collections and aliases."""
        return self._connection.retry(lambda: read_inventory(self._connection))

    def info(self, collection: str) -> dict[str, Any]:
        """Return the answer of `GET /collections/{c}`."""
        action = f"describing the collection {collection!r}"
        found: Any = self._get(collection_path(collection), action)
        if not isinstance(found, dict):
            raise _strange(f"described the collection {collection!r} as {str(found)[:200]!r}")
        return found

    def remote_shards(self, collection: str) -> set[int]:
        """Return the shards that this node does not hold itself: its snapshots lack them."""
        action = f"asking for the shards of {collection!r}"
        cluster = self._get(collection_path(collection, "/cluster"), action)
        try:
            local = {shard["shard_id"] for shard in cluster.get("local_shards", [])}
            return {shard["shard_id"] for shard in cluster.get("remote_shards", [])} - local
        except (AttributeError, KeyError, TypeError) as error:
            raise _strange(f"described the shards of {collection!r} as {str(cluster)[:200]!r}") from error

    def count(self, collection: str) -> int:
        """Count the records exactly."""
        path = collection_path(collection, "/points/count")
        action = f"counting the records of {collection!r}"
        answer = self._rest("POST", path, {"exact": True}, action)
        try:
            return int(answer["count"])
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(f"counted the records of {collection!r} as {str(answer)[:200]!r}") from error

    def list(self, collection: str) -> list[SnapshotFacts]:
        """List the snapshots of a collection, oldest first: by time of creation, then by name."""
        listed = self._get(
            collection_path(collection, "/snapshots"), f"listing the snapshots of {collection!r}"
        )
        if not isinstance(listed, list):
            raise _strange(f"listed the snapshots of {collection!r} as {str(listed)[:200]!r}")
        found = [_facts(each) for each in listed]
        return sorted(found, key=lambda facts: (facts.created_at or "", facts.name))

    def create(self, collection: str) -> SnapshotFacts:
        """Make a snapshot and wait until it is complete. Not repeated on failure: it is costly."""
        action = f"creating a snapshot of {collection!r}"
        path = collection_path(collection, "/snapshots?wait=true")
        return _facts(self._connection.rest("POST", path, action=action, timeout_s=PATIENCE_S))

    def delete(self, collection: str, snapshot: str) -> None:
        """Delete a snapshot on the server; one that is gone is no error."""
        path = collection_path(collection, f"/snapshots/{quote(snapshot, safe='')}?wait=true")

        def attempt() -> None:
            try:
                self._connection.rest("DELETE", path, action=f"deleting the snapshot {snapshot}")
            except NotFoundError:
                return

        self._connection.retry(attempt)

    def download(self, collection: str, facts: SnapshotFacts, target: Path) -> FetchedSnapshot:
        """Fetch a snapshot into a file; it stands there only when it is whole, checked and on disk.

        Raises:
            IntegrityError: Length, checksum or archive are not what they must be; no file is left.
            UnavailableError: The transfer broke off or went silent; no file is left.
        """
        part = part_of(target)
        try:
            with _disk_errors(target), part.open("wb") as file:
                sha256 = self._receive(collection, facts, file)
            return self.accept(facts, part, target, sha256=sha256)
        finally:
            part.unlink(missing_ok=True)

    def accept(self, facts: SnapshotFacts, part: Path, target: Path, *, sha256: str = "") -> FetchedSnapshot:
        """Check a file that arrived as `part_of(target)`, and put it in place durably.

        Raises:
            IntegrityError: It is not the snapshot that the server spoke of, or no whole archive.
        """
        if part.is_symlink() or not part.is_file():
            raise IntegrityError(f"what arrived as the snapshot {facts.name} is no file", "try again")
        sha256 = sha256 or sha256_of(part)
        size = part.stat().st_size
        self._compare(facts, size, sha256)
        archive = check_archive(part)
        with _disk_errors(target):
            _sync(part)
            part.replace(target)
            _sync(target.parent)
        return FetchedSnapshot(sha256=sha256, byte_size=size, is_proven=bool(facts.checksum), archive=archive)

    def upload(self, collection: str, path: Path, *, sha256: str) -> None:
        """Restore a collection from a local file, as it was; other replicas follow it.

        What the collection holds is replaced. The server compares the checksum before it begins.
        """
        address = self._connection.address
        action = f"restoring {collection!r} from {path.name}"
        query = f"?priority=snapshot&wait=true&checksum={sha256}"
        httpx = qdrant_library().httpx
        try:
            with path.open("rb") as file:
                response = self._connection.http.post(
                    collection_path(collection, "/snapshots/upload" + query),
                    files={"snapshot": (path.name, file)},
                    timeout=httpx.Timeout(PATIENCE_S, connect=address.timeout_s),
                )
        except httpx.RequestError as error:
            raise from_transport(error, action, address) from error
        if response.status_code >= 300:
            raise from_status(response.status_code, refusal_text(response), action, address)

    def recover(self, collection: str, location: str, *, sha256: str | None = None) -> None:
        """Restore a collection from a file that the server can reach: `file://` on its side, or a URL."""
        body = {"location": location, "priority": "snapshot", "checksum": sha256}
        path = collection_path(collection, "/snapshots/recover?wait=true")
        action = f"restoring {collection!r} from {location}"
        self._connection.rest("PUT", path, body, action=action, timeout_s=PATIENCE_S)

    def create_aliases(self, aliases: dict[str, str]) -> None:
        """Make aliases, by alias the collection that it leads to; in one call."""
        actions = [
            {"create_alias": {"collection_name": to, "alias_name": alias}} for alias, to in aliases.items()
        ]
        if actions:
            self._rest("POST", "/collections/aliases", {"actions": actions}, "creating aliases")

    def _receive(self, collection: str, facts: SnapshotFacts, file: BinaryIO) -> str:
        """Stream one snapshot into an open file; return its SHA-256."""
        address, httpx = self._connection.address, qdrant_library().httpx
        action = f"downloading the snapshot {facts.name}"
        path = collection_path(collection, f"/snapshots/{quote(facts.name, safe='')}")
        digest = hashlib.sha256()
        timeout = httpx.Timeout(self._idle_s, connect=address.timeout_s)
        try:
            with self._connection.http.stream(
                "GET", path, headers={"accept-encoding": "identity"}, timeout=timeout
            ) as response:
                if response.status_code >= 300:
                    response.read()
                    raise from_status(response.status_code, refusal_text(response), action, address)
                for piece in response.iter_raw(PIECE_BYTES):
                    digest.update(piece)
                    file.write(piece)
        except httpx.ReadTimeout as error:
            raise UnavailableError(
                f"{action} from {self.url}: no byte came for {self._idle_s:g} s",
                "see the server's log and its disk, then try again",
            ) from error
        except httpx.RequestError as error:
            raise from_transport(error, action, address) from error
        return digest.hexdigest()

    def _compare(self, facts: SnapshotFacts, size: int, sha256: str) -> None:
        if size != facts.byte_size:
            raise IntegrityError(
                f"the snapshot {facts.name} of {self.url} has {facts.byte_size} bytes, and {size} arrived",
                "try again; the server's log tells why it stopped sending",
            )
        if facts.checksum and facts.checksum.lower() != sha256:
            raise IntegrityError(
                f"the snapshot {facts.name} arrived with the SHA-256 {sha256}; "
                f"{self.url} says {facts.checksum}",
                "try again; if it happens twice, check the server's disk",
            )

    def _get(self, path: str, action: str) -> Any:
        return self._rest("GET", path, None, action)

    def _rest(self, method: str, path: str, body: Any, action: str) -> Any:
        return self._connection.retry(lambda: self._connection.rest(method, path, body, action=action))


def part_of(target: Path) -> Path:
    """Return the hidden name under which a snapshot arrives before it is checked."""
    return target.with_name(f".{target.name}.part")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with _disk_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file_name(name: str) -> bool:
    """Tell whether a snapshot's name is one of a file: it becomes one here, and a step of a path there."""
    return name not in {"", ".", ".."} and not any(each in name for each in "/\\\0")


def _facts(described: Any) -> SnapshotFacts:
    """Read what a server tells of a snapshot.

    Raises:
        UnavailableError: It is no description. IntegrityError: The name would lead out of its directory.
    """
    try:
        found = SnapshotFacts(
            name=str(described["name"]),
            byte_size=int(described.get("size") or 0),
            created_at=described.get("creation_time"),
            checksum=described.get("checksum") or None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _strange(f"described a snapshot as {str(described)[:200]!r}") from error
    if not is_file_name(found.name):
        raise IntegrityError(
            f"the server calls a snapshot {found.name!r}, which is no name of a file",
            "check that the address is that of your Qdrant",
        )
    return found


def _strange(answer: str) -> UnavailableError:
    return UnavailableError(f"the server {answer}", "check that the address is that of a Qdrant, and its log")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RecollectError:
        raise
    except OSError as error:
        kind = StorageFullError if error.errno == ENOSPC else UnavailableError
        raise kind(
            f"writing {path}: {error.strerror or error}", "free some space, or choose another directory"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
