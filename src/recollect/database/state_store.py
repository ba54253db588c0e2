"""The state store as a program sees it: `db.state`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from recollect.database import stage
from recollect.database.state import NO_TRANSACTION, Version
from recollect.database.stores import CommitOperations
from recollect.database.tables import Tables
from recollect.database.transaction import Transaction
from recollect.errors import RequestError
from recollect.values.payload import decode_payload

_TS_MAX = 2**64 - 1


class StateRecord(NamedTuple):
    """One version of one key.

    Attributes:
        exists: Whether there is a value. False for a tombstone, which has a version and a commit, and for
            a key or version that never was, which has zeros.
        value: None if it does not exist (or if null was written).
    """

    namespace: str
    agent: str
    key: str
    value: Any
    version: int
    commit_ts: int
    exists: bool


class ReplayOperation(NamedTuple):
    """One write of a commit; a deletion has `is_delete` set and no value."""

    key: str
    value: Any
    version: int
    is_delete: bool


class ReplayEvent(NamedTuple):
    """What one commit did to one agent; `transaction_id` is empty for writes outside a transaction."""

    transaction_id: str
    commit_ts: int
    operations: tuple[ReplayOperation, ...]


class StateStore:
    """Versioned JSON values by namespace, agent and key. Safe to share between threads."""

    def __init__(
        self, tables: Tables, commit: CommitOperations, begin: Callable[[float | None], Transaction]
    ) -> None:
        self._tables = tables
        self._commit = commit
        self._begin = begin

    def __len__(self) -> int:
        """Return how many keys have a value."""
        with self._tables.lock:
            return self._tables.state.live_count

    @property
    def version_count(self) -> int:
        """Versions held of all keys, tombstones included."""
        with self._tables.lock:
            return self._tables.state.row_count

    def begin(self, timeout: float | None = None) -> Transaction:
        """Begin a transaction that expires after `timeout` seconds; see `Database.begin`."""
        return self._begin(timeout)

    def set(self, namespace: str, agent: str, key: str, value: Any) -> int:
        """Write one JSON value; return the commit."""
        return self._commit([stage.write_state(namespace, agent, key, value)]).commit_ts

    def set_many(self, namespace: str, agent: str, keys: Sequence[str], values: Sequence[Any]) -> int:
        """Write many values of one agent in one commit; return it."""
        return self._commit([stage.write_many_state(namespace, agent, keys, values)]).commit_ts

    def delete(self, namespace: str, agent: str, key: str) -> int:
        """Write a tombstone; return the commit."""
        return self._commit([stage.delete_state(namespace, agent, key)]).commit_ts

    def get(self, namespace: str, agent: str, key: str) -> StateRecord:
        """Return the newest version; `exists` tells whether it is a value."""
        with self._tables.lock:
            found = self._tables.state.newest(namespace, agent, key)
        return _record(found) if found is not None else _absent(namespace, agent, key)

    def get_at_version(self, namespace: str, agent: str, key: str, version: int) -> StateRecord:
        """Return one version; `exists` is False if it is a tombstone or never was."""
        if version < 0:
            raise RequestError(f"a version must not be negative, got {version}")
        with self._tables.lock:
            found = self._tables.state.at_version(namespace, agent, key, version)
        return _record(found) if found is not None else _absent(namespace, agent, key)

    def history(self, namespace: str, agent: str, key: str) -> list[StateRecord]:
        """Return all versions of a key, oldest first, tombstones included."""
        with self._tables.lock:
            found = self._tables.state.history(namespace, agent, key)
        return [_record(version) for version in found]

    def agents(self) -> list[tuple[str, str]]:
        """Return every (namespace, agent) that ever wrote, sorted."""
        with self._tables.lock:
            return self._tables.state.agents()

    def list_keys(self, namespace: str, agent: str) -> list[str]:
        """Return the keys of an agent that have a value, ascending by code point."""
        return self._keys(namespace, agent, "")

    def scan_prefix(self, namespace: str, agent: str, prefix: str) -> list[StateRecord]:
        """Return the newest versions of the keys that begin with `prefix` and have a value, ascending."""
        with self._tables.lock:
            state = self._tables.state
            rows = state.live_rows(namespace, agent, prefix)
        # Rows never change, so writers need not wait for all values to be read.
        return [_record(state.read(row)) for row in rows]

    def replay(
        self, namespace: str, agent: str, start_ts: int | None = None, end_ts: int | None = None
    ) -> Iterator[ReplayEvent]:
        """Yield what each commit did to one agent, oldest first; both ends included.

        Only commits that wrote something of this agent appear, and only with what they wrote
        of it. Commits after the call are not seen.
        """
        with self._tables.lock:
            state = self._tables.state
            newest = state.newest_row_of(namespace, agent)
        first, last = start_ts or 0, _TS_MAX if end_ts is None else end_ts
        return _events([state.read(row) for row in state.agent_rows(newest, first, last)])

    def _keys(self, namespace: str, agent: str, prefix: str) -> list[str]:
        with self._tables.lock:
            return self._tables.state.keys(namespace, agent, prefix)


def _events(versions: Sequence[Version]) -> Iterator[ReplayEvent]:
    start = 0
    for index, version in enumerate(versions):
        is_last = index + 1 == len(versions) or versions[index + 1].commit_ts != version.commit_ts
        if not is_last:
            continue
        group = versions[start : index + 1]
        start = index + 1
        operations = tuple(
            ReplayOperation(one.key, _value(one), one.version, one.value is None) for one in group
        )
        yield ReplayEvent(_transaction_id(version.transaction), version.commit_ts, operations)


def _record(version: Version) -> StateRecord:
    return StateRecord(
        version.namespace,
        version.agent,
        version.key,
        _value(version),
        version.version,
        version.commit_ts,
        version.value is not None,
    )


def _absent(namespace: str, agent: str, key: str) -> StateRecord:
    return StateRecord(namespace, agent, key, None, 0, 0, exists=False)


def _value(version: Version) -> Any:
    return None if version.value is None else decode_payload(version.value)


def _transaction_id(identity: bytes) -> str:
    return "" if identity == NO_TRANSACTION else str(UUID(bytes=identity))
