"""Statehouse's JSON snapshots: `snapshots/snapshot-<commit_ts>.json`, written and read.

The documented shape is `{"version": 1, "created_at": s, "commit_ts": n, "state": {"ns:agent:key":
{"value": …, "version": v, "commit_ts": t}}}`. It has no place for deleted keys, whose version counters
must not begin anew, and names with a `:` in them run together. So `recollect` adds, beside
`state`, a list `entries` with every key's parts apart, deleted ones included; readers of
the documented shape pass over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from recollect.clock import Clock
from recollect.database.checkpoint.pacing import pause
from recollect.database.checkpoint.write import microseconds
from recollect.database.limits import check_name
from recollect.database.log.files import DiskFiles, Files
from recollect.database.recovery import Recovered, make_database
from recollect.database.state import NO_TRANSACTION, FrozenState, Version
from recollect.database.tables import Tables
from recollect.errors import FormatVersionError, IntegrityError, NotFoundError
from recollect.system_error import storage_error
from recollect.values.ulid import RandomBytes

VERSION = 1

_NO_VALUE = msgspec.Raw(b"null")
_STEP = 512  # keys between two pauses
_NAME = re.compile(r"snapshot-([0-9]+)\.json")


_Commit = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class StateValue(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the documented shape."""

    value: msgspec.Raw
    version: _Version
    commit_ts: _Commit


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key of the extension; a deleted one has no value."""

    namespace: str
    agent_id: str
    key: str
    version: _Version
    commit_ts: _Commit
    deleted: bool = False
    value: msgspec.Raw = _NO_VALUE


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """What the documented shape has no place for."""

    entries: list[Entry]


class JsonSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file; one that another program wrote may lack `recollect`."""

    version: int
    created_at: int
    commit_ts: _Commit
    state: dict[str, StateValue]
    recollect: Extension | None = None


class ImportedKey(NamedTuple):
    """One key of a snapshot; `value` is JSON, None for a deleted one."""

    namespace: str
    agent: str
    key: str
    value: bytes | None
    version: int
    commit_ts: int


def write_snapshot(
    state: FrozenState, commit_ts: int, directory: Path, *, now: datetime, files: Files | None = None
) -> Path:
    """Write the newest version of every key as of a commit; the file appears whole or not at all."""
    files = files or DiskFiles()
    head = {"version": VERSION, "created_at": int(now.timestamp()), "commit_ts": commit_ts}
    parts = [msgspec.json.encode(head)[:-1], b',"state":{', *_joined(_documented(state))]
    parts += [b'},"recollect":{"entries":[', *_joined(_extension(state)), b"]}}\n"]
    path = directory / f"snapshot-{commit_ts}.json"
    try:
        files.make_directory(directory)
        files.replace(path, parts)
    except OSError as error:
        raise storage_error(error, f"cannot write the JSON snapshot {path}") from error
    return path


def _joined(items: Iterator[bytes]) -> Iterator[bytes]:
    """Join items by commas, some at a time, and let writers run in between."""
    separator = b""
    while part := list(islice(items, _STEP)):
        yield separator + b",".join(part)
        separator = b","
        pause()


def _documented(state: FrozenState) -> Iterator[bytes]:
    for found in _newest(state):
        if found.value is not None:
            name = msgspec.json.encode(f"{found.namespace}:{found.agent}:{found.key}")
            value = StateValue(
                value=msgspec.Raw(found.value), version=found.version, commit_ts=found.commit_ts
            )
            yield name + b":" + msgspec.json.encode(value)


def _extension(state: FrozenState) -> Iterator[bytes]:
    return (msgspec.json.encode(_entry(found)) for found in _newest(state))


def _newest(state: FrozenState) -> Iterator[Version]:
    return map(state.table.read, state.table.newest_rows(state.end))


def drop_old_snapshots(directory: Path, keep_last: int, *, files: Files | None = None) -> list[Path]:
    """Delete all but the newest `keep_last` JSON snapshots (at least one stays); return what was deleted."""
    files = files or DiskFiles()
    numbers = sorted(int(match[1]) for name in files.list(directory) if (match := _NAME.fullmatch(name)))
    dropped = [directory / f"snapshot-{number}.json" for number in numbers[: -max(1, keep_last)]]
    for path in dropped:
        try:
            files.remove(path)
        except OSError as error:
            raise storage_error(error, f"cannot delete the JSON snapshot {path}") from error
    return dropped


def read_snapshot(path: Path) -> tuple[int, list[ImportedKey]]:
    """Read a JSON snapshot: its commit, and its keys in the order of their commits.

    Without the extension a name is cut at its first two colons, as Statehouse writes it.

    Raises:
        FormatVersionError: Its version is not 1.
        IntegrityError: It is no such snapshot.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise storage_error(error, f"cannot read the JSON snapshot {path}") from error
    try:
        raw: Any = msgspec.json.decode(data)
        version = raw.get("version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version != VERSION:
            raise FormatVersionError(
                f"Snapshot version mismatch: expected {VERSION}, got {version} in {path}"
            )
        snapshot = msgspec.json.decode(data, type=JsonSnapshot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{path} is not a JSON snapshot: {error}") from error
    return snapshot.commit_ts, sorted(_keys(snapshot, path), key=lambda key: key.commit_ts)


def import_snapshot(
    path: Path, into: Path, *, clock: Clock, random_bytes: RandomBytes, files: Files | None = None
) -> Recovered:
    """Make a new database of a JSON snapshot; it numbers its commits on from the snapshot's.

    Each key has its newest version only: the file holds no history.

    Raises:
        ConflictError: `into` exists. What is wrong with the file: see `read_snapshot`.
    """
    commit_ts, keys = read_snapshot(path)
    tables = Tables()
    for key in keys:
        name = (
            check_name("a namespace", key.namespace),
            check_name("an agent", key.agent),
            check_name("a key", key.key),
        )
        tables.state.write(name, key.value, min(key.commit_ts, commit_ts), NO_TRANSACTION, key.version)
    tables.commit_ts, tables.time_us = commit_ts, microseconds(clock.now())
    return make_database(
        tables,
        into,
        origin=f"imported from {path.name}",
        files=files or DiskFiles(),
        clock=clock,
        random_bytes=random_bytes,
    )


def _keys(snapshot: JsonSnapshot, path: Path) -> Iterator[ImportedKey]:
    if snapshot.recollect is not None:
        for one in snapshot.recollect.entries:
            value = None if one.deleted else bytes(one.value)
            yield ImportedKey(one.namespace, one.agent_id, one.key, value, one.version, one.commit_ts)
        return
    for name, found in snapshot.state.items():
        parts = name.split(":", 2)
        if len(parts) != 3:
            raise IntegrityError(f"{path} has the key {name!r}, which is not namespace:agent:key")
        yield ImportedKey(parts[0], parts[1], parts[2], bytes(found.value), found.version, found.commit_ts)


def _entry(found: Version) -> Entry:
    return Entry(
        namespace=found.namespace,
        agent_id=found.agent,
        key=found.key,
        version=found.version,
        commit_ts=found.commit_ts,
        deleted=found.value is None,
        value=_NO_VALUE if found.value is None else msgspec.Raw(found.value),
    )
