"""Every store and every wrapper passes the same suite."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.clock import ManualClock
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from recollect.storage.retry import RetryingStore
from recollect.storage.throttle import ThrottledStore
from recollect.testing.faults import FaultyStore
from recollect.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return LocalStore(tmp_path / "store")


class TestLocalStoreWithoutHardLinks(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")  # what Linux says on FAT

        monkeypatch.setattr(os, "link", refuse)
        return LocalStore(tmp_path / "store")


class TestRetryingStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return RetryingStore(MemoryStore(), ManualClock(), random.Random(7).randbytes)


class TestThrottledStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return ThrottledStore(MemoryStore(), ManualClock(), bytes_per_second=1000)


class TestFaultyStoreWithoutFaults(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return FaultyStore(MemoryStore())


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, open_bucket: Callable[..., ObjectStore]) -> ObjectStore:
        return open_bucket()
