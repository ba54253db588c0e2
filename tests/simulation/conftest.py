"""Prepared repositories for simulations."""

from __future__ import annotations

import numpy as np
import pytest

from recollect.operations.backup import BackupOptions
from recollect.repository import lease
from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS


@pytest.fixture(autouse=True)
def _long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the end of a wait in few steps; manual clocks only count them."""
    monkeypatch.setattr(lease, "POLL_INTERVAL_S", 30)


def row(number: int, turn: int) -> Row:
    noise = np.random.default_rng([number, turn])
    vectors = {"": noise.standard_normal(2).astype(np.float32).tolist(), "words": {number: 0.5}}
    return Row(id=number, payload={"turn": turn, "text": noise.bytes(100).hex()}, vectors=vectors)


@pytest.fixture(scope="session")
def _prepared() -> Driver:
    driver = Driver()
    driver.init()
    driver.create("docs", SOME_VECTORS, [row(each, 0) for each in range(12)])
    driver.create("more", SOME_VECTORS, [row(each, 1) for each in range(3)])
    driver.backup(BackupOptions(name="first", tags=("keep",)))
    driver.upsert("docs", [row(3, 2), row(20, 2)])
    driver.backup()
    driver.delete("docs", [5])
    driver.backup(BackupOptions(compare="nothing"))  # objects of its own: forgetting it makes garbage
    driver.catalog().tag(driver.catalog().ids()[0], add=["a"])
    driver.catalog().tag(driver.catalog().ids()[1], add=["b"])
    driver.upsert("docs", [row(6, 3), row(21, 3)])
    driver.delete("more", [1])
    return driver


@pytest.fixture
def prepared(_prepared: Driver) -> Driver:
    """Return a driver with three snapshots, tags, and an engine that has changed since; fork it."""
    return _prepared


@pytest.fixture(scope="session")
def _littered(_prepared: Driver) -> Driver:
    driver = _prepared.fork()
    driver.forget(driver.catalog().ids()[2])
    return driver


@pytest.fixture
def littered(_littered: Driver) -> Driver:
    """Return a driver whose repository has two snapshots and garbage; fork it."""
    return _littered
