"""Capture one shard: from one live replica, whole or what changed, and from the next one where that fails.

From the cheapest to the plainest: changed files only, with the manifest of what we have; all files, with the
manifest of nothing, so that the archive tells what it must hold; the stream without manifests, for
servers before 1.14.1.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from recollect.clock import Clock
from recollect.engines.base import FileKeeper
from recollect.engines.qdrant.capture.cluster import Nodes, Replica, ShardLayout
from recollect.engines.qdrant.capture.kept import KeptShard, ShardState, boot_id
from recollect.engines.qdrant.capture.manifest import ALWAYS, HistoryError, Manifest, check_complete
from recollect.engines.qdrant.capture.receive import Call, StreamLimits, receive
from recollect.engines.qdrant.capture.spool import Claim, Spool, disk_errors
from recollect.engines.qdrant.capture.unpack import SEGMENTS, Unpacked, unpack
from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.errors import (
    IntegrityError,
    NotFoundError,
    RecollectError,
    RequestError,
    StorageFullError,
    UnavailableError,
    UnsupportedError,
)
from recollect.values.snapshot import FileRef, ShardEntry

ATTEMPTS = 3
"""Of each replica, before the next one is tried."""
PAUSE_S = 1.0
CHANGES_MAX = 50
"""So often changes alone are taken in; then all files come once, whatever may have gone wrong unseen."""


class HeldShard(msgspec.Struct, kw_only=True):
    """A shard whose files are here, as of one instant."""

    layout: ShardLayout
    kept: KeptShard
    entry: ShardEntry


class ShardCapture:
    """Captures shards of one collection, one at a time from each node. Safe to share between threads."""

    def __init__(
        self,
        nodes: Nodes,
        spool: Spool,
        *,
        collection: str,
        source: str,
        limits: StreamLimits,
        clock: Clock,
        keeper: FileKeeper | None = None,
        anew: bool = False,
        preferred: Mapping[int, int],
    ) -> None:
        self._nodes = nodes
        self._spool = spool
        self._collection = collection
        self._source = source
        self._limits = limits
        self._clock = clock
        self._keeper = keeper
        self._anew = anew
        self._preferred = preferred
        self._turns: Mapping[int, threading.Lock] = {peer: threading.Lock() for peer in nodes.peer_ids}

    @contextmanager
    def hold(self, layout: ShardLayout) -> Iterator[HeldShard]:
        """Have a shard's files here, until the context ends.

        Raises:
            UnavailableError: No replica gave a whole archive. UnsupportedError: None of them can.
            AccessError: The key may not read snapshots. StorageFullError: The spool has no room.
        """
        with self._spool.kept(self._source, self._collection, str(layout.shard_id)) as place:
            kept = KeptShard(place, boot_id())
            yield HeldShard(layout=layout, kept=kept, entry=self._capture(layout, kept))

    def _capture(self, layout: ShardLayout, kept: KeptShard) -> ShardEntry:
        problems: list[RecollectError] = []
        for replica in _in_order(layout, kept.state, self._preferred[layout.shard_id]):
            for attempt in range(ATTEMPTS):
                try:
                    return self._from_replica(layout, replica, kept)
                except StorageFullError:
                    raise
                except (UnavailableError, IntegrityError) as error:
                    problems.append(error)
                    if attempt + 1 < ATTEMPTS:
                        self._clock.sleep(PAUSE_S)
                except NotFoundError as error:
                    problems.append(error)
                    break
        raise _failure(layout, self._collection, problems)

    def _from_replica(self, layout: ShardLayout, replica: Replica, kept: KeptShard) -> ShardEntry:
        with self._turn(replica.peer_id), closing(self._nodes.connect(replica.peer_id)) as connection:
            base = self._base(kept, replica)
            try:
                return self._transfer(layout, replica, kept, connection, base)
            except HistoryError:
                return self._transfer(layout, replica, kept, connection, {})

    @contextmanager
    def _turn(self, peer_id: int) -> Iterator[None]:
        lock = self._turns.get(peer_id)
        if lock is None:
            yield
            return
        with lock:
            yield

    def _base(self, kept: KeptShard, replica: Replica) -> Manifest:
        """Return the manifest of what need not travel again."""
        state = kept.state
        if self._anew or state is None or state.change_count >= CHANGES_MAX:
            return {}
        if state.replica != str(replica.peer_id) or not kept.is_whole():
            return {}
        if self._keeper is not None:
            is_here = state.repository == self._keeper.repository_id
            if not is_here or not all(self._keeper.has(file) for file in state.files.values()):
                return {}
        return state.manifest

    def _transfer(
        self, layout: ShardLayout, replica: Replica, kept: KeptShard, connection: Connection, base: Manifest
    ) -> ShardEntry:
        archive, incoming = self._spool.new_path(".tar"), self._spool.new_path()
        what = f"the snapshot of shard {layout.shard_id} of {self._collection!r} from node {replica.peer_id}"
        with self._spool.budget.claim() as streamed, self._spool.budget.claim() as files:
            try:
                size = self._stream(layout, connection, base, archive, streamed)
                if size is None:
                    return self._unchanged(layout, replica, kept, base, what)
                unpacked = unpack(archive, incoming, what=what, budget=files)
                check_complete(unpacked.manifest, base, unpacked.arrived)
                if base and not unpacked.manifest:
                    raise IntegrityError(f"{what} has no manifests", "back up again")
                state = self._state_after(unpacked, replica, kept.state if base else None, kept)
                kept.take_in(unpacked, state)
                files.keep()
                return self._entry(layout, replica, state, "changes" if base else "all", size)
            finally:
                with disk_errors("removing", archive):
                    archive.unlink(missing_ok=True)
                shutil.rmtree(incoming, ignore_errors=True)

    def _unchanged(
        self, layout: ShardLayout, replica: Replica, kept: KeptShard, base: Manifest, what: str
    ) -> ShardEntry:
        if not base or kept.state is None:
            raise IntegrityError(f"{what}: the node says that nothing changed, and nothing was here before")
        return self._entry(layout, replica, kept.state, "none", 0)

    def _stream(
        self, layout: ShardLayout, connection: Connection, base: Manifest, archive: Path, budget: Claim
    ) -> int | None:
        shard = collection_path(self._collection, f"/shards/{layout.shard_id}/snapshot")
        action = f"streaming shard {layout.shard_id} of {self._collection!r}"
        body = msgspec.to_builtins(base)
        call = Call(method="POST", path=shard + "/partial/create", body=body, action=action)
        try:
            return self._receive(connection, call, archive, budget)
        except (NotFoundError, RequestError) as error:
            call = Call(method="GET", path=shard, action=action)
            try:
                size = self._receive(connection, call, archive, budget)
            except RequestError as plain:
                raise UnsupportedError(f"{error.message}; {plain.message}") from plain
            if base:
                raise HistoryError("the node does not tell what changed any more") from error
            return size

    def _receive(self, connection: Connection, call: Call, archive: Path, budget: Claim) -> int | None:
        return receive(connection, call, archive, limits=self._limits, clock=self._clock, budget=budget)

    def _state_after(
        self, unpacked: Unpacked, replica: Replica, before: ShardState | None, kept: KeptShard
    ) -> ShardState:
        """Say what is known once these files are taken in; marks of the same replica stay."""
        old = kept.state
        state = ShardState(
            replica=str(replica.peer_id),
            manifest=unpacked.manifest,
            marks=old.marks if old is not None and old.replica == str(replica.peer_id) else [],
            change_count=0 if before is None else before.change_count + 1,
        )
        if self._keeper is not None:
            state.repository = self._keeper.repository_id
            state.files = _carried(unpacked.manifest, before) | _stored(unpacked, self._keeper)
        return state

    def _entry(
        self, layout: ShardLayout, replica: Replica, state: ShardState, transfer: str, size: int
    ) -> ShardEntry:
        files: tuple[FileRef, ...] = ()
        if self._keeper is not None:
            files = tuple(state.files[path] for path in sorted(state.files))
        return ShardEntry(
            shard_id=layout.shard_id,
            shard_key=layout.shard_key,
            replica=str(replica.peer_id),
            replicas=layout.peers,
            consistency="point-in-time",
            transfer=transfer,
            transferred_bytes=size,
            files=files,
        )


def _carried(manifest: Manifest, before: ShardState | None) -> dict[str, FileRef]:
    """Return the stored files that are as they were."""
    known = {} if before is None else before.files
    names = [f"{SEGMENTS}/{segment}/{file}" for segment, files in _files_of(manifest) for file in files]
    return {name: known[name] for name in names if name in known}


def _files_of(manifest: Manifest) -> list[tuple[str, list[str]]]:
    return [(segment, [*facts.file_versions, *ALWAYS]) for segment, facts in manifest.items()]


def _stored(unpacked: Unpacked, keeper: FileKeeper) -> dict[str, FileRef]:
    """Store what arrived, before an engine opens it."""
    paths = {
        f"{SEGMENTS}/{segment}/{file}": unpacked.directory / SEGMENTS / segment / file
        for segment, files in unpacked.arrived.items()
        for file in files
    }
    paths |= {file: unpacked.directory / "root" / file for file in unpacked.root}
    return {name: keeper.keep(name, path) for name, path in sorted(paths.items())}


def _in_order(layout: ShardLayout, state: ShardState | None, preferred: int) -> list[Replica]:
    """Put the replica first whose files we have, then the preferred one; only those that are whole."""

    def rank(replica: Replica) -> tuple[bool, bool, int]:
        is_known = state is not None and str(replica.peer_id) == state.replica
        return not is_known, replica.peer_id != preferred, replica.peer_id

    return sorted((replica for replica in layout.replicas if replica.is_active), key=rank)


def _failure(layout: ShardLayout, collection: str, problems: list[RecollectError]) -> RecollectError:
    what = f"shard {layout.shard_id} of {collection!r}"
    if not problems:
        states = ", ".join(f"{each.peer_id}: {each.state}" for each in layout.replicas)
        return UnavailableError(f"{what} has no active replica ({states})", "recover the replica first")
    told = list(dict.fromkeys(problem.message for problem in problems))
    may_pass = any(not isinstance(problem, NotFoundError) for problem in problems)
    kind = UnavailableError if may_pass else UnsupportedError
    return kind(f"no replica gave a whole snapshot of {what}: {'; '.join(told)}", problems[-1].next_step)
