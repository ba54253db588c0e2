"""The table of state: every version of every key, in rows that are only ever appended.

A row is 64 bytes in a block, its value a slice of a chunk; neither moves or is overwritten. So a
frozen view is a number of rows, and what a checkpoint has to write is the rows since the last one.
The rows of one key, and those of one agent, are chained backwards; besides these chains the only
index is a dict from key to number. Compact on purpose: millions of versions are no
Python objects, so the garbage collector has nothing to walk.

One writer at a time, under the database's table lock; so are lookups by name. Rows, once
their number is known, can be read without it.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from recollect.errors import RequestError

NO_ROW = 0  # row numbers begin at 1, so that 0 can mean none
NO_TRANSACTION = bytes(16)

# commit_ts, row of the version before, row that the agent wrote before, key, chunk, offset, size,
# version, transaction
_ROW = struct.Struct("<QQQIIIIQ16s")
_SIZE_AND_VERSION = struct.Struct("<IQ")
_SIZE_OFFSET = 36
_BLOCK_BITS = 14
_BLOCK_ROWS = 1 << _BLOCK_BITS
_ROW_MASK = _BLOCK_ROWS - 1
_ROW_SIZE = _ROW.size
_CHUNK_BYTES = 1 << 20
_TOMBSTONE = 0xFFFFFFFF
_SORT_ALL = 64  # more new keys than this: sorting all is cheaper than inserting each
_MILESTONE = 32  # every 32nd version of a key is found without walking its chain


class Version(NamedTuple):
    """One version of one key. `value` is JSON, None for a tombstone; `transaction` may be NO_TRANSACTION."""

    namespace: str
    agent: str
    key: str
    value: bytes | None
    version: int
    commit_ts: int
    transaction: bytes


class _Agent:
    """The keys of one agent in one namespace, dead ones included."""

    __slots__ = ("agent", "dead_count", "keys", "namespace", "newest_row", "ordered", "unordered")

    def __init__(self, namespace: str, agent: str) -> None:
        self.namespace = namespace
        self.agent = agent
        self.keys: dict[str, int] = {}
        self.newest_row = NO_ROW
        self.dead_count = 0
        self.ordered: list[str] = []
        self.unordered: list[str] = []

    def sorted_keys(self) -> list[str]:
        """Return all keys ascending by code point; the caller must not change the list."""
        if len(self.unordered) > _SORT_ALL:
            self.ordered.extend(self.unordered)
            self.ordered.sort()
        else:
            for key in self.unordered:
                insort(self.ordered, key)
        self.unordered = []
        return self.ordered


class StateTable:
    """All versions of all keys. See the module for the rules of locking."""

    def __init__(self) -> None:
        self._agents: dict[tuple[str, str], _Agent] = {}
        self._agent_list: list[_Agent] = []
        self._agent_numbers: dict[tuple[str, str], int] = {}
        self._key_agents = array("I")
        self._key_texts: list[str] = []
        self._newest = array("Q")
        self._milestones: dict[int, array[int]] = {}
        self._blocks: list[bytearray] = []
        self._chunks: list[bytearray] = []
        self._chunk_used = _CHUNK_BYTES
        self._row_count = 0
        self._live_count = 0
        self._settled_row = 0

    @property
    def row_count(self) -> int:
        """Versions held, tombstones included; also the number of the newest row."""
        return self._row_count

    @property
    def live_count(self) -> int:
        """Keys whose newest version is a value."""
        return self._live_count

    def write(
        self,
        name: tuple[str, str, str],
        value: bytes | None,
        commit_ts: int,
        transaction: bytes,
        version: int = 0,
    ) -> int:
        """Append a version, a tombstone if `value` is None; return its number.

        A `version` other than 0 is taken as it is; it must be larger than the key's newest.
        """
        # Written out without helpers: a replay comes through here a million times.
        namespace, agent, key = name
        group = self._agents.get((namespace, agent)) or self._add_agent(namespace, agent)
        number = group.keys.get(key)
        newest, last, was_live = NO_ROW, 0, False
        if number is None:
            number = self._add_key(group, key)
        else:
            newest = self._newest[number]
            place = ((newest - 1) & _ROW_MASK) * _ROW_SIZE + _SIZE_OFFSET
            size, last = _SIZE_AND_VERSION.unpack_from(self._blocks[(newest - 1) >> _BLOCK_BITS], place)
            was_live = size != _TOMBSTONE
        if not version:
            version = last + 1
        elif version <= last:
            raise RequestError(f"state key {key!r} has version {last}; version {version} is not newer")
        chunk, offset, size = (0, 0, _TOMBSTONE) if value is None else self._store(value)
        index = self._row_count
        if not index & _ROW_MASK:
            self._blocks.append(bytearray(_BLOCK_ROWS * _ROW_SIZE))
        _ROW.pack_into(
            self._blocks[-1], (index & _ROW_MASK) * _ROW_SIZE,
            commit_ts, newest, group.newest_row, number, chunk, offset, size, version, transaction,
        )  # fmt: skip
        if not version % _MILESTONE:
            self._milestones.setdefault(number, array("Q")).append(index + 1)
        self._newest[number] = group.newest_row = self._row_count = index + 1
        is_live = value is not None
        if is_live != was_live:
            self._live_count += is_live - was_live
        if is_live != (was_live or not newest):
            group.dead_count += 1 if not is_live else -1
        return version

    def newest(self, namespace: str, agent: str, key: str) -> Version | None:
        """Return the newest version, which may be a tombstone; None if the key never existed."""
        row = self._newest_row(namespace, agent, key)
        return None if row == NO_ROW else self.read(row)

    def at_version(self, namespace: str, agent: str, key: str, version: int) -> Version | None:
        """Return one version, which may be a tombstone; None if there is none of this number."""
        row = self._newest_row(namespace, agent, key)
        if row == NO_ROW:
            return None
        group = self._agents[namespace, agent]
        milestones = self._milestones.get(group.keys[key])
        if milestones is not None:
            index = bisect_left(milestones, version, key=self._version_of)
            if index < len(milestones):
                row = milestones[index]
        while row != NO_ROW and self._version_of(row) > version:
            row = self._previous_of(row)
        return self.read(row) if row != NO_ROW and self._version_of(row) == version else None

    def history(self, namespace: str, agent: str, key: str) -> list[Version]:
        """Return all versions of a key, oldest first."""
        found, row = [], self._newest_row(namespace, agent, key)
        while row != NO_ROW:
            found.append(self.read(row))
            row = self._previous_of(row)
        return found[::-1]

    def agents(self) -> list[tuple[str, str]]:
        """Return every (namespace, agent) that ever wrote, sorted."""
        return sorted(self._agents)

    def keys(self, namespace: str, agent: str, prefix: str = "") -> list[str]:
        """Return the live keys of an agent that begin with `prefix`, ascending by code point."""
        group = self._agents.get((namespace, agent))
        if group is None:
            return []
        ordered = group.sorted_keys()
        start = bisect_left(ordered, prefix)
        end = bisect_right(ordered, prefix, start, key=lambda key: key[: len(prefix)])
        found = ordered[start:end] if prefix else list(ordered)
        if not group.dead_count:
            return found
        return [key for key in found if self._is_live(group.keys[key])]

    def live_rows(self, namespace: str, agent: str, prefix: str) -> list[int]:
        """Return the newest rows of what `keys` returns, in its order; `read` them without the lock."""
        group = self._agents.get((namespace, agent))
        if group is None:
            return []
        numbers, newest = group.keys, self._newest
        return [newest[numbers[key]] for key in self.keys(namespace, agent, prefix)]

    def newest_row_of(self, namespace: str, agent: str) -> int:
        """Return the newest row of an agent, where a walk with `agent_rows` begins."""
        group = self._agents.get((namespace, agent))
        return NO_ROW if group is None else group.newest_row

    def agent_rows(self, row: int, start_ts: int, end_ts: int) -> list[int]:
        """Return the rows of an agent from `row` backwards whose commits lie in the range, oldest first."""
        found = []
        while row != NO_ROW:
            commit_ts, _, earlier, *_ = _ROW.unpack_from(*self._place(row))
            if commit_ts < start_ts:
                break
            if commit_ts <= end_ts:
                found.append(row)
            row = earlier
        return found[::-1]

    def read(self, row: int) -> Version:
        """Return one row. Needs no lock."""
        commit_ts, _, _, number, chunk, offset, size, version, transaction = _ROW.unpack_from(
            *self._place(row)
        )
        group = self._agent_list[self._key_agents[number]]
        value = None if size == _TOMBSTONE else bytes(self._chunks[chunk][offset : offset + size])
        return Version(
            group.namespace, group.agent, self._key_texts[number], value, version, commit_ts, transaction
        )

    def name(self, row: int) -> tuple[str, str, str, int]:
        """Return namespace, agent, key and version of one row. Needs no lock."""
        _, _, _, number, _, _, _, version, _ = _ROW.unpack_from(*self._place(row))
        group = self._agent_list[self._key_agents[number]]
        return group.namespace, group.agent, self._key_texts[number], version

    def mark_all_changed(self) -> None:
        """Let the next checkpoint write every row: it goes to another place."""
        self._settled_row = 0

    def mark_clean(self) -> None:
        """Note that a checkpoint holds every row: the table was just loaded from it."""
        self._settled_row = self._row_count

    def newest_rows(self, end: int) -> Iterator[int]:
        """Yield the newest row, up to and with row `end`, of every key that existed there. Needs no lock."""
        for number in range(len(self._key_texts)):
            row = self._newest[number]
            while row > end:
                row = self._previous_of(row)
            if row != NO_ROW:
                yield row

    def freeze(self) -> FrozenState:
        """Return the rows that exist now and where those begin that no settled checkpoint holds."""
        return FrozenState(self, self._settled_row + 1, self._row_count, self._live_count)

    def peek(self) -> FrozenState:
        """Return all rows that exist now, for a reader."""
        return FrozenState(self, 1, self._row_count, self._live_count)

    def first_row_after(self, commit_ts: int) -> int:
        """Return the first row that a later commit wrote; one more than there are rows if none did."""
        low, high = 1, self._row_count + 1
        while low < high:
            middle = (low + high) // 2
            if _ROW.unpack_from(*self._place(middle))[0] > commit_ts:
                high = middle
            else:
                low = middle + 1
        return low

    def settle(self, frozen: FrozenState) -> None:
        """Note that a checkpoint holds all rows up to the frozen end."""
        self._settled_row = frozen.end

    def _place(self, row: int, within: int = 0) -> tuple[bytearray, int]:
        index = row - 1
        return self._blocks[index >> _BLOCK_BITS], (index & _ROW_MASK) * _ROW_SIZE + within

    def _store(self, value: bytes) -> tuple[int, int, int]:
        size, offset = len(value), self._chunk_used
        if offset + size > _CHUNK_BYTES:
            self._chunks.append(bytearray(max(size, _CHUNK_BYTES)))
            offset = 0
        self._chunks[-1][offset : offset + size] = value
        self._chunk_used = offset + size
        return len(self._chunks) - 1, offset, size

    def _add_agent(self, namespace: str, agent: str) -> _Agent:
        group = self._agents[namespace, agent] = _Agent(namespace, agent)
        self._agent_numbers[namespace, agent] = len(self._agent_list)
        self._agent_list.append(group)
        return group

    def _add_key(self, group: _Agent, key: str) -> int:
        number = group.keys[key] = len(self._key_texts)
        self._key_texts.append(key)
        self._key_agents.append(self._agent_numbers[group.namespace, group.agent])
        self._newest.append(NO_ROW)
        group.unordered.append(key)
        return number

    def _newest_row(self, namespace: str, agent: str, key: str) -> int:
        group = self._agents.get((namespace, agent))
        number = None if group is None else group.keys.get(key)
        return NO_ROW if number is None else self._newest[number]

    def _version_of(self, row: int) -> int:
        return int(_SIZE_AND_VERSION.unpack_from(*self._place(row, _SIZE_OFFSET))[1])

    def _previous_of(self, row: int) -> int:
        return int(_ROW.unpack_from(*self._place(row))[1])

    def _is_live(self, number: int) -> bool:
        size, _ = _SIZE_AND_VERSION.unpack_from(*self._place(self._newest[number], _SIZE_OFFSET))
        return bool(size != _TOMBSTONE)


class FrozenState(msgspec.Struct, frozen=True):
    """The state at a freeze: rows up to and with `end`; those from `start` on are in no checkpoint yet."""

    table: StateTable
    start: int
    end: int
    live_count: int
