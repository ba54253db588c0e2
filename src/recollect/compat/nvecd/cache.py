"""Remembered search results, with nvecd's settings and counters.

A result is good as long as nothing was committed since: what a search would find now is what it
found then.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from recollect.clock import Clock
from recollect.compat.nvecd.config.settings import CacheSettings
from recollect.compat.nvecd.protocol import command as cmd

Found = list[tuple[str, float]]


class _Entry(msgspec.Struct, frozen=True):
    commit_ts: int
    found: Found
    cost_ms: float
    byte_size: int
    stored_at_s: float


class CacheCounts(msgspec.Struct, kw_only=True):
    """What happened so far."""

    query_count: int = 0
    hit_count: int = 0
    invalidated_count: int = 0
    absent_count: int = 0
    eviction_count: int = 0
    expiration_count: int = 0
    hit_ms: float = 0.0
    miss_ms: float = 0.0
    saved_ms: float = 0.0

    @property
    def miss_count(self) -> int:
        """Searches that were run."""
        return self.query_count - self.hit_count

    @property
    def hit_rate(self) -> float:
        """Hits per search."""
        return self.hit_count / self.query_count if self.query_count else 0.0


class SearchCache:
    """Results by command. Safe to share between threads.

    Attributes:
        is_enabled, min_query_cost_ms, ttl_s: Can be changed at any time.
    """

    def __init__(self, settings: CacheSettings, clock: Clock, commit_ts: Callable[[], int]) -> None:
        self._settings = settings
        self._clock = clock
        self._commit_ts = commit_ts
        self._lock = threading.Lock()
        self._entries: OrderedDict[cmd.Search, _Entry] = OrderedDict()
        self._byte_size = 0
        self.counts = CacheCounts()
        self.is_enabled = settings.enabled
        self.min_query_cost_ms = settings.min_query_cost_ms
        self.ttl_s = settings.ttl_seconds

    @property
    def entry_count(self) -> int:
        """Results remembered."""
        return len(self._entries)

    @property
    def byte_size(self) -> int:
        """About how much memory they take."""
        return self._byte_size

    def search(self, command: cmd.Search, run: Callable[[], Found]) -> tuple[Found, int]:
        """Return what a search finds, and how many microseconds it took; 0 if it was remembered.

        A search that is refused is not counted.
        """
        started = self._clock.monotonic()
        commit_ts = self._commit_ts()
        entry, outcome = self._lookup(command, commit_ts) if self.is_enabled else (None, "")
        if entry is not None:
            with self._lock:
                self.counts.query_count += 1
                self.counts.hit_count += 1
                self.counts.hit_ms += (self._clock.monotonic() - started) * 1000
                self.counts.saved_ms += entry.cost_ms
            return entry.found, 0
        found = run()
        cost_ms = (self._clock.monotonic() - started) * 1000
        if self.is_enabled:
            self._note_miss(outcome, cost_ms)
            if cost_ms >= self.min_query_cost_ms:
                self._store(command, _Entry(commit_ts, found, cost_ms, _size(found), started))
        return found, int(cost_ms * 1000)

    def clear(self) -> int:
        """Forget everything; return how many results that were."""
        with self._lock:
            count = len(self._entries)
            self._entries.clear()
            self._byte_size = 0
            return count

    def _lookup(self, command: cmd.Search, commit_ts: int) -> tuple[_Entry | None, str]:
        with self._lock:
            entry = self._entries.get(command)
            if entry is None:
                return None, "absent"
            if self.ttl_s and self._clock.monotonic() - entry.stored_at_s > self.ttl_s:
                self._drop(command)
                self.counts.expiration_count += 1
                return None, "absent"
            if entry.commit_ts != commit_ts:
                self._drop(command)
                return None, "invalidated"
            self._entries.move_to_end(command)
            return entry, ""

    def _note_miss(self, outcome: str, cost_ms: float) -> None:
        with self._lock:
            self.counts.query_count += 1
            self.counts.miss_ms += cost_ms
            if outcome == "invalidated":
                self.counts.invalidated_count += 1
            else:
                self.counts.absent_count += 1

    def _store(self, command: cmd.Search, entry: _Entry) -> None:
        limit = self._settings.max_memory_mb << 20
        with self._lock:
            self._drop(command)
            self._entries[command] = entry
            self._byte_size += entry.byte_size
            while self._byte_size > limit:
                for oldest in list(self._entries)[: self._settings.eviction_batch_size]:
                    self._drop(oldest)
                    self.counts.eviction_count += 1

    def _drop(self, command: cmd.Search) -> None:
        entry = self._entries.pop(command, None)
        if entry is not None:
            self._byte_size -= entry.byte_size


def _size(found: Found) -> int:
    return 200 + sum(sys.getsizeof(item) + 80 for item, _ in found)
