"""The contract of engines, on the Qdrant adapter over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recollect.engines.base import Source, Target
from recollect.testing.engine_contract import EngineContract
from recollect.testing.engine_harness import EngineFeatures
from recollect.testing.qdrant_server import QdrantServer
from tests.qdrant.conftest import open_source, open_target


class QdrantHarness:
    """A test server, reached by its URL."""

    name = "docs"
    features = EngineFeatures()

    def __init__(self, server: QdrantServer) -> None:
        self._server = server

    def open_source(self) -> Source:
        return open_source(self._server)

    def open_target(self) -> Target:
        return open_target(self._server)


class TestQdrant(EngineContract):
    """Everything that every engine must do."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[QdrantHarness]:
        with QdrantServer(tmp_path / "server") as server:
            yield QdrantHarness(server)
