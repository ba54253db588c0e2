"""A driven repository, and one with two collections and some history."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.testing.strategies import EVERY_VECTOR, SOME_VECTORS
from recollect.values.schema import CollectionSchema, VectorSpec

WIDE = CollectionSchema(vectors=(VectorSpec(name="v", dimension=64, metric="dot"),))


@pytest.fixture
def driver() -> Driver:
    """Return a driver with an empty repository and an empty engine."""
    made = Driver()
    made.init()
    return made


@pytest.fixture
def filled(driver: Driver) -> Driver:
    """Return a driver with two collections and three snapshots, of which the last list several runs."""
    noise = np.random.default_rng(1)
    rows = [
        Row(id=each, payload={"n": each, "text": noise.bytes(400).hex()}, vectors={"": [1.0, float(each)]})
        for each in range(30)
    ]
    driver.create("docs", SOME_VECTORS, rows)
    driver.create(
        "more", EVERY_VECTOR, [Row(id="a", vectors={"bytes": [0, 1, 2, 255]}), Row(id="b", payload=None)]
    )
    driver.backup()
    driver.upsert("docs", [Row(id=3, payload={"n": "changed"}, vectors={"": [1.0, 3.0]}), Row(id=99)])
    driver.delete("docs", [7])
    driver.backup()
    driver.delete("more", ["a"])
    driver.backup()
    return driver


@pytest.fixture
def wide_row() -> Callable[..., Row]:
    """Return a function that makes a record of `wide` from its number, and from that of its payload."""

    def make(number: int, *, payload: int = 0) -> Row:
        vector = np.random.default_rng(number).standard_normal(64).astype(np.float32)
        return Row(id=number, payload={"n": payload}, vectors={"v": vector.tolist()})

    return make


@pytest.fixture
def wide(driver: Driver, wide_row: Callable[..., Row]) -> Driver:
    """Return a driver with 400 records whose vectors weigh far more than their payloads, backed up once."""
    driver.create("wide", WIDE, [wide_row(each) for each in range(400)])
    driver.backup()
    return driver
