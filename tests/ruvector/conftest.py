"""Small databases, managers over stores that can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect.clock import ManualClock
from recollect.compat.ruvector import SnapshotConfig, SnapshotManager
from recollect.database import Database
from recollect.storage.base import ObjectStore
from recollect.wiring import Context
from tests.ruvector.samples import DIMENSION


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """300 records with ids of every type, with and without metadata."""
    generator = np.random.default_rng(11)
    with Database.open(tmp_path / "database", fsync="off") as opened:
        ids: list[Any] = [number if number % 3 else f"id-ü-{number}" for number in range(300)]
        metadata = [
            None if number % 5 == 0 else {"n": number, "t": "x" * (number % 40)} for number in range(300)
        ]
        opened.vectors.set_many(ids, generator.normal(size=(300, DIMENSION)).astype(np.float32), metadata)
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_manager(tmp_path: Path, clock: ManualClock) -> Callable[..., SnapshotManager]:
    """Return a function that makes managers with a still clock and seeded ids."""
    seeded = np.random.default_rng(3)

    def make(store: ObjectStore | None = None, **settings: Any) -> SnapshotManager:
        config = SnapshotConfig(**{"snapshot_dir": tmp_path / "snapshots", **settings})
        return SnapshotManager(config, context=Context(clock=clock, random_bytes=seeded.bytes), store=store)

    return make


@pytest.fixture
def manager(make_manager: Callable[..., SnapshotManager]) -> SnapshotManager:
    return make_manager()
