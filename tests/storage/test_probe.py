"""The probe sees through stores that claim more than they do."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.errors import ConflictError, UnavailableError, UnsupportedError
from recollect.storage.base import ObjectStore, StoreCapabilities
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from recollect.storage.probe import probe
from recollect.testing.faults import (
    OPERATIONS,
    Corruption,
    FaultPlan,
    FaultyStore,
    attempt,
    count_operations,
    fault_plans,
)

ALL_THERE = StoreCapabilities(create_only=True, read_after_write=True, list_after_write=True)


class OverwritingStore(MemoryStore):
    """Ignores the condition and says "done", as `rclone serve s3` does."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.put(key, data)


class RacyStore(MemoryStore):
    """Looks first and writes then, as an eventually consistent server does: two can win."""

    def __init__(self) -> None:
        super().__init__()
        self._looked = threading.Barrier(2)

    def put_if_absent(self, key: str, data: bytes) -> None:
        present = any(entry.key == key for entry in self.list(""))
        if "race" in key and not present:
            try:
                self._looked.wait(timeout=2)
            except threading.BrokenBarrierError:
                present = any(entry.key == key for entry in self.list(""))
        if present:
            raise ConflictError("exists")
        self.put(key, data)


class RefusingStore(MemoryStore):
    """Says that it cannot, as servers answer 501."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        raise UnsupportedError(f"cannot create {key}: 501 Not Implemented ({len(data)} bytes)")


class ReplacingStore(MemoryStore):
    """Reports the conflict, and replaces the value all the same."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        try:
            super().put_if_absent(key, data)
        finally:
            self.put(key, data)


def probed(store: ObjectStore) -> StoreCapabilities:
    return probe(store, random.Random(3).randbytes)


def test_a_good_store_passes(tmp_path: Path) -> None:
    assert probed(MemoryStore()) == ALL_THERE
    assert probed(LocalStore(tmp_path)) == ALL_THERE


def test_s3_passes(open_bucket: Callable[..., ObjectStore]) -> None:
    assert probed(open_bucket()) == ALL_THERE


@pytest.mark.parametrize("broken", [OverwritingStore, RacyStore, RefusingStore, ReplacingStore])
def test_a_store_that_does_not_refuse_is_found_out(broken: type[MemoryStore]) -> None:
    store = broken()

    assert probed(store) == ALL_THERE._replace(create_only=False)
    assert list(store.list("")) == []


def test_a_stale_listing_is_found_out() -> None:
    stale = FaultyStore(MemoryStore(), FaultPlan(stale_operations=3))

    assert probed(stale) == ALL_THERE._replace(list_after_write=False)


def test_a_value_that_reads_back_otherwise_is_found_out() -> None:
    corrupting = FaultyStore(MemoryStore(), FaultPlan(corruptions=(Corruption(),)))

    assert not probed(corrupting).read_after_write


def test_nothing_is_left_and_nothing_else_is_touched() -> None:
    store = MemoryStore()
    store.put("probe/other", b"value")

    probed(store)

    assert [entry.key for entry in store.list("")] == ["probe/other"]


def test_an_outage_is_no_answer() -> None:
    """Wherever it comes, the probe raises: it never takes a failure for a missing capability."""
    count = count_operations(probed, MemoryStore(), counted=OPERATIONS)

    for plan in fault_plans(count, effects=("fail",), moments=("before",), counted=OPERATIONS):
        assert isinstance(attempt(probed, MemoryStore(), plan), UnavailableError)
