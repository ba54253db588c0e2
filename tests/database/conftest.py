from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recollect.clock import ManualClock
from recollect.database import Database


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    """A database that does not wait for the disk; time stands still."""
    with Database.open(tmp_path / "data", fsync="off", clock=clock) as database:
        yield database
