from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from recollect.clock import ManualClock
from recollect.compat.statehouse.server import StatehouseServer
from recollect.compat.statehouse.service import StatehouseService
from recollect.database import Database


class Served(NamedTuple):
    """A database behind the API; time stands still."""

    database: Database
    service: StatehouseService
    address: str
    clock: ManualClock


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    clock = ManualClock()
    with Database.open(tmp_path / "data", fsync="off", clock=clock) as database:
        service = StatehouseService(database)
        server = StatehouseServer(service, "127.0.0.1:0")
        server.start()
        try:
            yield Served(database, service, f"127.0.0.1:{server.port}", clock)
        finally:
            server.stop(1.0)
