"""Snapshots of one Qdrant collection, made, kept and restored through the client of a vector store.

Nothing is raised: what fails is logged, and the result says so. What is reported as done was done and
looked at: a created snapshot is in the server's list, and its copy, where the client tells where
its server is, is in `storage_path`, complete and checked.
Source: https://docs.knitli.com/codeweaver/api/engine/services/snapshot_service/
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recollect.clock import Clock, SystemClock
from recollect.compat.codeweaver.client_calls import ClientCalls, rest_address
from recollect.compat.codeweaver.copies import Copies, CopyFacts, DirectoryCopies, StoreCopies
from recollect.compat.codeweaver.snapshot_values import (
    CleanupStatsDict,
    Described,
    SnapshotMetaDict,
    by_age,
    describe,
    is_of,
    no_cleanup,
)
from recollect.engines.qdrant.snapshots import QdrantSnapshots, is_file_name
from recollect.errors import IntegrityError, NotFoundError, RequestError
from recollect.settings import state_directory
from recollect.storage.url import open_store
from recollect.wiring import system_context

DEFAULT_RETENTION_COUNT = 12
DEFAULT_COLLECTION = "codeweaver_vectors"
WAIT_S = 60
POLL_S = 1.0
NAMES_APART_S = 1.0
"""Qdrant names snapshots by the second; two within one overwrite each other."""

_STORE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
logger = logging.getLogger(__name__)


class QdrantSnapshotBackupService:
    """Creates and manages snapshots of one collection. For one event loop at a time.

    Args:
        vector_store: Has `client` (a `QdrantClient`, an `AsyncQdrantClient`, or anything with their snapshot
            methods) and, unless it is given here, `collection_name`.
        storage_path: Directory or store URL (`s3://…`, `gs://…`, `az://…`) that receives the snapshots;
            by default `snapshots/<collection>` in the user's state directory.
        retention_count: How many snapshots stay, on the server and in `storage_path`, each by itself.
        collection_name: Instead of the store's own.
        clock: Waits between looks at the server's list.
    """

    def __init__(
        self,
        vector_store: Any,
        storage_path: Path | str | None = None,
        retention_count: int = DEFAULT_RETENTION_COUNT,
        collection_name: str | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        if retention_count < 1:
            raise RequestError(f"retention_count is {retention_count}", "keep at least 1 snapshot")
        named = getattr(vector_store, "collection_name", None)
        self.vector_store = vector_store
        self.retention_count = retention_count
        self.collection_name: str = collection_name or (
            named if isinstance(named, str) and named else DEFAULT_COLLECTION
        )
        self.storage_path = self._place(storage_path)
        self._clock: Clock = clock or SystemClock()
        self._copies = self._open_copies()
        self._last_created_at: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def create_snapshot(self, *, wait: bool = True) -> str | None:
        """Create a snapshot and return its name; None if there is none, or its copy could not be kept.

        With `wait` it is complete, listed by the server, and copied into `storage_path`. Without, it is
        asked for and returned as soon as the server lists it; the copy follows, see `settle`.
        """
        try:
            name = await self._create(wait=wait)
            if not wait:
                self._begin(self._copy(name))
            elif not await self._copy(name):
                return None
        except Exception as error:  # noqa: BLE001 - the contract: it never raises
            logger.warning("Failed to create snapshot for collection %s: %s", self.collection_name, error)
            return None
        logger.info("Successfully created snapshot: %s", name)
        return name

    async def list_snapshots(self) -> list[Described]:
        """List the server's snapshots of the collection; empty if that fails."""
        try:
            return await self._list()
        except Exception as error:  # noqa: BLE001 - the contract: it never raises
            logger.warning("Failed to list snapshots: %s", error)
            return []

    async def list_stored(self) -> list[str]:
        """List the names of the copies in `storage_path`, oldest first; empty if that fails."""
        try:
            names = await asyncio.to_thread(self._copies.names)
        except Exception as error:  # noqa: BLE001 - as above
            logger.warning("Failed to list the copies in %s: %s", self.storage_path, error)
            return []
        return sorted(names, key=lambda name: by_age({"name": name}))

    async def get_latest_snapshot(self) -> Described | None:
        """Return the most recent of the server's snapshots; None if there are none."""
        return max(await self.list_snapshots(), key=by_age, default=None)

    async def delete_snapshot(self, snapshot_name: str) -> bool:
        """Delete a snapshot on the server, and its copy; True only if the server did it."""
        arguments = {"collection_name": self.collection_name, "snapshot_name": snapshot_name}
        try:
            _require_file_name(snapshot_name)
            deleted = await self._calls.call("delete_snapshot", arguments)
            if deleted is False:
                logger.warning("Failed to delete snapshot %s: the server refused", snapshot_name)
                return False
            await asyncio.to_thread(self._copies.remove, snapshot_name)
        except Exception as error:  # noqa: BLE001 - the contract: it never raises
            logger.warning("Failed to delete snapshot %s: %s", snapshot_name, error)
            return False
        logger.info("Deleted snapshot: %s", snapshot_name)
        return True

    async def cleanup_old_snapshots(self) -> CleanupStatsDict:
        """Delete all but the newest `retention_count` snapshots; count what was really deleted."""
        try:
            snapshots = sorted(await self.list_snapshots(), key=by_age, reverse=True)
            old = snapshots[self.retention_count :]
            stats = CleanupStatsDict(
                total=len(snapshots), kept=len(snapshots) - len(old), deleted=0, failed=0
            )
            for snapshot in old:
                name = snapshot.get("name")
                if not name:
                    logger.warning("Skipping snapshot without name during cleanup: %r", snapshot)
                    stats["failed"] += 1
                elif await self.delete_snapshot(name):
                    stats["deleted"] += 1
                else:
                    stats["failed"] += 1
            await self._expire_copies()
        except Exception as error:  # noqa: BLE001 - the contract: it never raises
            logger.warning("Snapshot cleanup failed: %s", error)
            return no_cleanup()
        logger.info("Snapshot cleanup complete: deleted=%d, failed=%d", stats["deleted"], stats["failed"])
        return stats

    async def restore_snapshot(self, snapshot_name: str, *, wait: bool = True) -> bool:
        """Replace the whole collection by a snapshot: the server's own, or the copy in `storage_path`.

        With `wait`, True means that the server has restored it. Without, that the snapshot was found and
        its restore has begun; see `settle`.
        """
        try:
            if wait or not self._is_qdrant("recover_snapshot", "location"):
                await self._restore(snapshot_name, wait=wait)
            else:
                await self._require(snapshot_name)
                self._begin(self._restore(snapshot_name, wait=True))
        except Exception as error:  # noqa: BLE001 - the contract: it never raises
            logger.warning(
                "Failed to restore snapshot %s for collection %s: %s",
                snapshot_name,
                self.collection_name,
                error,
            )
            return False
        logger.info("Restoring collection %s from snapshot: %s", self.collection_name, snapshot_name)
        return True

    async def snapshot_and_cleanup(self, *, wait: bool = True) -> SnapshotMetaDict:
        """Create a snapshot, and if that succeeded delete old ones: the step of periodic maintenance."""
        name = await self.create_snapshot(wait=wait)
        if name is None:
            logger.warning("Failed to create snapshot, skipping cleanup")
            return SnapshotMetaDict(snapshot_created=False, snapshot_name=None, cleanup_stats=no_cleanup())
        stats = await self.cleanup_old_snapshots()
        return SnapshotMetaDict(snapshot_created=True, snapshot_name=name, cleanup_stats=stats)

    async def settle(self) -> bool:
        """Wait for everything that was begun without waiting; True if all of it succeeded."""
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                logger.warning("Work in the background failed for %s: %s", self.collection_name, result)
        return all(not isinstance(result, BaseException) and result is not False for result in results)

    @property
    def _calls(self) -> ClientCalls:
        return ClientCalls(self.vector_store.client)

    def _is_qdrant(self, method: str, parameter: str) -> bool:
        """Tell Qdrant's own form of a method from the one in which the caller chooses names."""
        return self._calls.takes(method, parameter) and not self._calls.takes(method, "snapshot_name")

    async def _create(self, *, wait: bool) -> str:
        """Make a snapshot and return its name once the server lists it.

        Raises:
            NotFoundError: It did not appear within a minute.
        """
        await self._keep_names_apart()
        if not self._is_qdrant("create_snapshot", "wait"):
            return await self._create_named(wait=wait)
        before = {snapshot.get("name") for snapshot in await self._list()}
        made = await self._calls.call(
            "create_snapshot", {"collection_name": self.collection_name, "wait": wait}
        )
        if made is None:
            return await self._wait_for_new(before)
        name = str(describe(made)["name"])
        if name in before:
            logger.warning("The snapshot %s took the place of one made within the same second", name)
        if not await self._wait_for_snapshot(name):
            raise NotFoundError(f"the server says it made {name}, and does not list it")
        return name

    async def _create_named(self, *, wait: bool) -> str:
        """Ask a client that lets the caller choose names; what it calls the snapshot counts."""
        name = f"snapshot_{self.collection_name}_{self._clock.now():%Y%m%d_%H%M%S}"
        logger.info("Creating snapshot: %s", name)
        arguments = {"collection_name": self.collection_name, "snapshot_name": name}
        made = describe(await self._calls.call("create_snapshot", arguments))["name"]
        name = made if isinstance(made, str) and made else name
        if wait and not await self._wait_for_snapshot(name):
            raise NotFoundError(f"the client made {name}, and does not list it")
        return name

    async def _keep_names_apart(self) -> None:
        """Wait for a second of our own; taken before the wait, so that no two callers get the same one."""
        now = turn = self._clock.monotonic()
        if self._last_created_at is not None:
            turn = max(now, self._last_created_at + NAMES_APART_S)
        self._last_created_at = turn
        if turn > now:
            await asyncio.to_thread(self._clock.sleep, turn - now)

    async def _wait_for_snapshot(self, snapshot_name: str, snapshot_timeout: float = WAIT_S) -> bool:
        """Look once a second whether the server lists a snapshot; False if it does not in time."""
        until = self._clock.monotonic() + snapshot_timeout
        while True:
            try:
                if any(snapshot.get("name") == snapshot_name for snapshot in await self._list()):
                    return True
            except Exception as error:  # noqa: BLE001 - a failed look is not the last one
                logger.warning("Error checking snapshot status: %s", error)
            if self._clock.monotonic() >= until:
                logger.warning("Snapshot creation timeout for: %s", snapshot_name)
                return False
            await asyncio.to_thread(self._clock.sleep, POLL_S)

    async def _wait_for_new(self, before: set[Any]) -> str:
        """Return the name that appears after an answer that names none (202)."""
        until = self._clock.monotonic() + WAIT_S
        while self._clock.monotonic() < until:
            new = [snapshot for snapshot in await self._list() if snapshot.get("name") not in before]
            if new:
                return str(max(new, key=by_age)["name"])
            await asyncio.to_thread(self._clock.sleep, POLL_S)
        raise NotFoundError("the server took the request, and lists no new snapshot")

    async def _list(self) -> list[Described]:
        found = await self._calls.call("list_snapshots", {"collection_name": self.collection_name})
        return [describe(snapshot) for snapshot in found or []]

    async def _require(self, name: str) -> None:
        listed = await self.list_snapshots()
        if all(snapshot.get("name") != name for snapshot in listed) and name not in await self.list_stored():
            raise NotFoundError(f"there is no snapshot {name}, on the server or in {self.storage_path}")

    def _server(self) -> QdrantSnapshots | None:
        """Open the snapshot calls that no client has (download, upload); None if nobody tells the address."""
        found = rest_address(self.vector_store.client) or rest_address(self.vector_store)
        if found is None:
            return None
        return QdrantSnapshots(found[0], secrets=lambda _: None, clock=self._clock, api_key=found[1])

    async def _copy(self, name: str) -> bool:
        """Bring a snapshot into `storage_path`; True also where there is no way to."""
        server = self._server()
        if server is None:
            logger.warning("The client does not tell its server's address: %s is not copied", name)
            return True
        try:
            await asyncio.to_thread(self._copy_from, server, name)
        except Exception as error:  # noqa: BLE001 - told by the result
            logger.warning("Failed to copy snapshot %s to %s: %s", name, self.storage_path, error)
            return False
        return True

    def _copy_from(self, server: QdrantSnapshots, name: str) -> None:
        with (
            closing(server),
            tempfile.TemporaryDirectory(prefix="recollect-", dir=self._scratch()) as scratch,
        ):
            facts = next((each for each in server.list(self.collection_name) if each.name == name), None)
            if facts is None:
                raise NotFoundError(f"{server.url} does not list the snapshot {name}")
            target = Path(scratch) / name
            fetched = server.download(self.collection_name, facts, target)
            self._copies.keep(
                target, CopyFacts(name=name, byte_size=fetched.byte_size, sha256=fetched.sha256)
            )

    async def _restore(self, name: str, *, wait: bool) -> bool:
        _require_file_name(name)
        if not self._is_qdrant("recover_snapshot", "location"):
            arguments = {"collection_name": self.collection_name, "snapshot_name": name, "wait": wait}
            done = await self._calls.call("recover_snapshot", arguments)
        elif (server := self._server()) is not None:
            await asyncio.to_thread(self._restore_into, server, name)
            done = True
        else:
            location = f"file://{quote(f'/qdrant/snapshots/{self.collection_name}/{name}')}"
            arguments = {"collection_name": self.collection_name, "location": location, "wait": wait}
            done = await self._calls.call("recover_snapshot", arguments)
        if done is False:
            raise NotFoundError("the server refused")
        logger.info("Successfully restored collection %s from snapshot: %s", self.collection_name, name)
        return True

    def _restore_into(self, server: QdrantSnapshots, name: str) -> None:
        """Upload a snapshot, checked: the copy if there is one, else the server's own by way of this machine.

        A path on the server or a URL of itself would save the way, and works on few servers only.
        """
        with (
            closing(server),
            tempfile.TemporaryDirectory(prefix="recollect-", dir=self._scratch()) as scratch,
        ):
            try:
                path, facts = self._copies.fetch(name, Path(scratch))
                sha256 = facts.sha256
            except (NotFoundError, IntegrityError):
                listed = {each.name: each for each in server.list(self.collection_name)}
                if name not in listed:
                    raise NotFoundError(f"neither {server.url} nor {self.storage_path} has it") from None
                path = Path(scratch) / name
                sha256 = server.download(self.collection_name, listed[name], path).sha256
            server.upload(self.collection_name, path, sha256=sha256)

    async def _expire_copies(self) -> None:
        own = [name for name in await self.list_stored() if is_of(self.collection_name, name)]
        for name in own[: -self.retention_count]:
            await asyncio.to_thread(self._copies.remove, name)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.warning("Work in the background failed for %s: %s", self.collection_name, task.exception())

    def _place(self, given: Path | str | None) -> Path | str:
        if not given:
            return state_directory("codeweaver") / "snapshots" / self.collection_name
        if isinstance(given, str) and _STORE_URL.match(given):
            return given
        return Path(given)

    def _open_copies(self) -> Copies:
        """Open the storage; a directory is made at once, so that a wrong one is noticed early."""
        if isinstance(self.storage_path, str):
            context = system_context()
            return StoreCopies(open_store(self.storage_path, context.clock, context.random_bytes))
        self.storage_path.mkdir(parents=True, exist_ok=True)
        return DirectoryCopies(self.storage_path)

    def _scratch(self) -> Path | None:
        """Return where files arrive: beside their place, so that moving them there is a rename."""
        return self.storage_path if isinstance(self.storage_path, Path) else None


def _require_file_name(name: str) -> None:
    if not is_file_name(name):
        raise NotFoundError("that is no name of a snapshot")
