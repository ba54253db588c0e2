"""The contract of engines, on those that live in this process."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from recollect.clock import ManualClock
from recollect.engines.base import Source, Target
from recollect.engines.edge.source import EdgeSource
from recollect.engines.edge.target import EdgeTarget
from recollect.engines.memory import MemoryEngine
from recollect.testing.engine_contract import EngineContract
from recollect.testing.engine_harness import EngineFeatures
from recollect.values.ulid import new_ulid


class MemoryHarness:
    """One engine object that is source and target."""

    name = "docs"
    features = EngineFeatures(
        id_types=frozenset({"integer", "uuid", "string"}),
        datatypes=frozenset({"float32", "float16", "uint8", "int8"}),
        absent_payload=True,
    )

    def __init__(self) -> None:
        self._engine = MemoryEngine()

    def open_source(self) -> Source:
        return self._engine

    def open_target(self) -> Target:
        return self._engine


class EdgeHarness:
    """One shard directory."""

    name = "docs"
    features = EngineFeatures(aliases=False, collection_count_max=1)

    def __init__(self, directory: Path) -> None:
        self._path = directory / "docs"
        self._random = random.Random(1)
        self._clock = ManualClock()

    def open_source(self) -> Source:
        return EdgeSource(self._path, self.name, self._new_id)

    def open_target(self) -> Target:
        return EdgeTarget(self._path, self._new_id)

    def _new_id(self) -> str:
        return new_ulid(self._clock.now(), self._random.randbytes)


class TestMemory(EngineContract):
    """Everything that every engine must do."""

    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


class TestEdge(EngineContract):
    """Everything that every engine must do."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> EdgeHarness:
        pytest.importorskip("qdrant_edge")
        return EdgeHarness(tmp_path)
