"""A repository to write runs to, and segments and row groups so small that every test has several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from recollect.repository.repository import Repository, create_repository
from recollect.segments import reader, writer
from recollect.storage.memory import MemoryStore
from recollect.values import batch as columns


@pytest.fixture(scope="session")
def new_repository() -> Callable[[], Repository]:
    """Return a function that makes an empty repository."""

    def make() -> Repository:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return create_repository(MemoryStore(), now=now, random_bytes=bytes)

    return make


@pytest.fixture(scope="session")
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture(scope="module")
def small_segments() -> Iterator[None]:
    """Cut segments after 5 rows, row groups after 2, and what a reader yields after 2 as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SEGMENT_ROWS_MAX", 5)
        patch.setattr(columns, "BATCH_ROWS", 2)
        patch.setattr(reader, "PART_BYTES", 32)
        yield
