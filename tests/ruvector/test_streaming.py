"""Streams, progress, stopping half-way, and an event loop that is never kept waiting."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect.compat.ruvector import SnapshotManager
from recollect.database import Database
from recollect.database.vectors import VectorTable
from recollect.errors import IntegrityError, RequestError
from recollect.storage.memory import MemoryStore
from recollect.values.event import Event, Progress
from tests.ruvector.lateness import longest_wait
from tests.ruvector.samples import change, content, run

ROWS = 12_000
WIDE = 384


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """18 MB of vectors: some 18 blocks."""
    generator = np.random.default_rng(4)
    with Database.open(tmp_path_factory.mktemp("large") / "db", fsync="off") as database:
        rows = generator.normal(size=(ROWS, WIDE)).astype(np.float32)
        database.vectors.set_many(list(range(ROWS)), rows, [{"n": number} for number in range(ROWS)])
        yield database


def test_a_stream_gives_every_record_once_as_the_newest_snapshot_has_it(
    manager: SnapshotManager, database: Database
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    for step in range(3):
        change(database, step)
        base = run(manager.create_incremental_snapshot(database, f"inc-{step}", base.id))

    async def collect() -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        async for batch in manager.stream_snapshot(base.id):
            for record_id, row, metadata in zip(batch.ids, batch.vectors, batch.metadata, strict=True):
                assert (type(record_id), record_id) not in found
                found[type(record_id), record_id] = (row.tobytes(), metadata)
            assert batch.done_count == len(found)
            assert batch.total_count == len(database.vectors)
        return found

    assert run(collect()) == content(database)


def test_a_stream_needs_memory_for_a_few_blocks_only(
    make_manager: Callable[..., SnapshotManager], large: Database, tmp_path: Path
) -> None:
    manager = make_manager(None, snapshot_dir=tmp_path / "s", max_concurrent_io=2)
    snapshot = run(manager.create_snapshot(large, "one"))

    async def consume() -> int:
        count = 0
        async for batch in manager.stream_snapshot(snapshot.id):
            count += len(batch.ids)
        return count

    run(consume())
    tracemalloc.start()
    assert run(consume()) == ROWS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # At worst: 4 MiB read ahead, two blocks being decoded (member, content, matrix, scratch: 4.1 MiB
    # each), three members or matrices on their way, one at the consumer: 17 MiB, whatever the size.
    assert peak < ROWS * WIDE * 4


def test_a_stream_tells_damage_at_its_end_at_the_latest(
    make_manager: Callable[..., SnapshotManager], database: Database
) -> None:
    store = MemoryStore()
    manager = make_manager(store)
    snapshot = run(manager.create_snapshot(database, "one"))
    key = f"snapshot-{snapshot.id}/metadata.bin.gz"
    data = bytearray(store.get(key))
    data[5] ^= 1  # gzip's time: no decoder minds, SHA-256 does
    store.put(key, bytes(data))

    async def consume() -> None:
        async for _ in manager.stream_snapshot(snapshot.id):
            pass

    with pytest.raises(IntegrityError, match="SHA-256"):
        run(consume())


def test_a_stream_that_is_left_early_ends_its_threads(manager: SnapshotManager, large: Database) -> None:
    snapshot = run(manager.create_snapshot(large, "one"))

    async def first() -> int:
        stream = manager.stream_snapshot(snapshot.id)
        batch = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return len(batch.ids)

    assert run(first()) > 0


def test_records_can_be_searched_while_the_rest_arrives(
    manager: SnapshotManager, large: Database, tmp_path: Path
) -> None:
    snapshot = run(manager.create_snapshot(large, "one"))

    async def work() -> tuple[list[int], Database]:
        counts = []
        async with manager.stream_restore(snapshot.id, tmp_path / "r") as restore:
            async for progress in restore:
                known = len(restore.database.vectors)
                assert known == progress.done <= progress.total == ROWS
                counts.append(known)
                record = large.vectors.get(known - 1)
                assert record is not None
                assert restore.database.vectors.search(record.vector, 1)[0].id == record.id
                assert not (tmp_path / "r").exists()
        return counts, restore.database

    counts, database = run(work())
    with database:
        assert len(counts) > 5
        assert database.path == tmp_path / "r"
        assert content(database) == content(large)


def test_a_streaming_restore_that_is_left_early_leaves_nothing(
    manager: SnapshotManager, large: Database, tmp_path: Path
) -> None:
    snapshot = run(manager.create_snapshot(large, "one"))

    async def work() -> None:
        async with manager.stream_restore(snapshot.id, tmp_path / "place" / "r") as restore:
            async for _ in restore:
                break

    run(work())
    assert [*(tmp_path / "place").iterdir()] == []


def test_progress_is_told(manager: SnapshotManager, large: Database, tmp_path: Path) -> None:
    events: list[Event] = []
    snapshot = run(manager.create_snapshot(large, "one", on_event=events.append))
    run(manager.restore_snapshot(snapshot.id, tmp_path / "r", on_event=events.append)).close()
    run(manager.check_snapshot(snapshot.id, on_event=events.append))

    for stage in ("store", "restore", "verify"):
        done = [event.done for event in events if isinstance(event, Progress) and event.stage == stage]
        assert done == sorted(done)
        assert done[-1] == ROWS


@pytest.mark.parametrize("verb", ["create", "restore", "verify"])
def test_a_cancelled_call_stops_and_leaves_nothing(
    manager: SnapshotManager, large: Database, tmp_path: Path, verb: str
) -> None:
    snapshot = run(manager.create_snapshot(large, "one"))
    begun = asyncio.Event()

    async def cancel() -> None:
        loop = asyncio.get_running_loop()

        def on_event(_event: Event) -> None:
            loop.call_soon_threadsafe(begun.set)

        work: dict[str, Any] = {
            "create": lambda: manager.create_snapshot(large, "two", on_event=on_event),
            "restore": lambda: manager.restore_snapshot(snapshot.id, tmp_path / "r", on_event=on_event),
            "verify": lambda: manager.check_snapshot(snapshot.id, on_event=on_event),
        }
        task = asyncio.create_task(work[verb]())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())
    assert [one.name for one in run(manager.list_snapshots())] == ["one"]
    assert len([*(tmp_path / "snapshots").iterdir()]) == 1
    assert not [*tmp_path.glob("*r*.restoring*"), *tmp_path.glob("r")]


def test_a_step_that_holds_the_interpreter_is_seen_by_the_measure() -> None:
    async def block() -> None:
        await asyncio.to_thread(sum, range(5_000_000))

    assert run(longest_wait(block)) > 0.010


@pytest.mark.parametrize(
    "verb", ["full", "incremental", "verify", "list", "stream", "restore", "cleanup", "delete"]
)
def test_the_event_loop_is_never_kept_waiting_longer_than_10_ms(
    manager: SnapshotManager, large: Database, tmp_path: Path, verb: str
) -> None:
    snapshot = run(manager.create_snapshot(large, "base"))
    numbers = iter(range(100))

    async def restore() -> None:
        (await manager.restore_snapshot(snapshot.id, tmp_path / f"r{next(numbers)}")).close()

    async def stream() -> None:
        async for _ in manager.stream_snapshot(snapshot.id):
            pass

    work: dict[str, Callable[[], Any]] = {
        "full": lambda: manager.create_snapshot(large, "x"),
        "incremental": lambda: manager.create_incremental_snapshot(large, "x", snapshot.id),
        "verify": lambda: manager.verify_snapshot(snapshot.id),
        "list": manager.list_snapshots,
        "stream": stream,
        "restore": restore,
        "cleanup": lambda: manager.cleanup_old_snapshots(0),
        "delete": lambda: manager.delete_snapshot(snapshot.id),
    }
    assert run(longest_wait(work[verb])) <= 0.010


def test_a_restore_leaves_no_rows_to_the_garbage_collector(
    manager: SnapshotManager, large: Database, tmp_path: Path
) -> None:
    """It would free the preliminary database at once, and keep the event loop waiting."""
    snapshot = run(manager.create_snapshot(large, "one"))
    gc.collect()
    gc.disable()
    try:
        known = {id(one) for one in gc.get_objects() if isinstance(one, VectorTable)}
        with run(manager.restore_snapshot(snapshot.id, tmp_path / "r")):
            tables = [
                one for one in gc.get_objects() if isinstance(one, VectorTable) and id(one) not in known
            ]
            assert sorted(len(table) for table in tables) == [0, ROWS]
    finally:
        gc.enable()


def test_the_interval_between_threads_is_put_back(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    before, during = sys.getswitchinterval(), []
    work = manager.create_snapshot(database, "one", on_event=lambda _: during.append(sys.getswitchinterval()))
    snapshot = run(work)
    with pytest.raises(RequestError):
        run(manager.create_snapshot(database, ""))
    run(manager.restore_snapshot(snapshot.id, tmp_path / "r")).close()

    assert sys.getswitchinterval() == before
    assert during == [pytest.approx(0.001)] * len(during) != []
