from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from recollect.clock import ManualClock
from recollect.compat.codeweaver import QdrantSnapshotBackupService
from recollect.errors import RequestError
from recollect.testing.qdrant_server import QdrantServer
from tests.codeweaver.conftest import COLLECTION, close, fill, held, open_client, run, store_of

Steps = Callable[[QdrantSnapshotBackupService], Coroutine[Any, Any, Any]]


class Bench:
    """Runs steps with a service around one kind of client."""

    def __init__(self, server: QdrantServer, kind: str, storage: Path | str, clock: ManualClock) -> None:
        self.server, self.kind, self.storage, self.clock = server, kind, storage, clock

    def __call__(self, steps: Steps, *, retention_count: int = 12) -> Any:
        async def work() -> Any:
            client = open_client(self.server, self.kind)
            service = QdrantSnapshotBackupService(
                store_of(client), self.storage, retention_count, clock=self.clock
            )
            try:
                return await steps(service)
            finally:
                await close(client)

        return run(work())


@pytest.fixture(params=["sync", "async", "sync-grpc", "async-grpc"])
def bench(
    qdrant: QdrantServer,
    direct: QdrantClient,
    tmp_path: Path,
    clock: ManualClock,
    request: pytest.FixtureRequest,
) -> Bench:
    assert direct is not None
    return Bench(qdrant, request.param, tmp_path / "kept", clock)


@pytest.fixture
def plain(qdrant: QdrantServer, direct: QdrantClient, tmp_path: Path, clock: ManualClock) -> Bench:
    assert direct is not None
    return Bench(qdrant, "async", tmp_path / "kept", clock)


def on_server(direct: QdrantClient) -> list[str]:
    return sorted(each.name for each in direct.list_snapshots(COLLECTION))


def test_a_created_snapshot_is_on_the_server_and_in_the_storage(bench: Bench, direct: QdrantClient) -> None:
    name = bench(lambda service: service.create_snapshot())

    (listed,) = direct.list_snapshots(COLLECTION)
    assert name == listed.name
    content = (Path(bench.storage) / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == listed.checksum
    assert (Path(bench.storage) / f"{name}.sha256").read_text("utf-8") == f"{listed.checksum}  {name}\n"


def test_list_and_latest_tell_name_size_and_time(bench: Bench, qdrant: QdrantServer) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> tuple[Any, Any]:
        await service.create_snapshot()
        return await service.list_snapshots(), await service.get_latest_snapshot()

    qdrant.faults.snapshots.frozen_at = datetime(2025, 1, 27, 12, 0, 0, tzinfo=UTC)
    (listed,), latest = bench(steps)

    assert set(listed) == {"name", "size", "created_at"}
    assert listed["size"] > 0
    assert "2025-01-27" in str(listed["created_at"])
    assert latest == listed


def test_restore_brings_the_collection_back(bench: Bench, direct: QdrantClient) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> bool:
        name = await service.create_snapshot()
        assert name is not None
        fill(direct, range(100, 110))
        direct.delete(COLLECTION, [1, 2])
        return await service.restore_snapshot(name)

    assert bench(steps) is True
    assert set(held(direct)) == set(range(20))


def test_delete_really_deletes_and_an_unknown_name_is_false(bench: Bench, direct: QdrantClient) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> tuple[bool, bool]:
        name = await service.create_snapshot()
        assert name is not None
        return await service.delete_snapshot(name), await service.delete_snapshot("no-such.snapshot")

    assert bench(steps) == (True, False)
    assert on_server(direct) == []
    assert list(Path(bench.storage).glob("*.snapshot*")) == []


def test_retention_keeps_the_newest_and_counts_what_was_deleted(
    bench: Bench, qdrant: QdrantServer, direct: QdrantClient
) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> Any:
        for minute in range(4):
            qdrant.faults.snapshots.frozen_at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
            await service.create_snapshot()
        qdrant.faults.snapshots.frozen_at = None
        return await service.cleanup_old_snapshots()

    stats = bench(steps, retention_count=2)

    assert stats == {"total": 4, "kept": 2, "deleted": 2, "failed": 0}
    assert len(on_server(direct)) == 2
    assert [name.split("-")[-2] for name in on_server(direct)] == ["02", "03"]
    assert sorted(path.name for path in Path(bench.storage).glob("*.snapshot")) == on_server(direct)


def test_deletions_that_fail_are_counted_as_failed(
    plain: Bench, qdrant: QdrantServer, direct: QdrantClient
) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> Any:
        for minute in range(3):
            qdrant.faults.snapshots.frozen_at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
            await service.create_snapshot()
        qdrant.faults.refuse("DELETE", count=1)
        return await service.cleanup_old_snapshots()

    assert plain(steps, retention_count=1) == {"total": 3, "kept": 1, "deleted": 1, "failed": 1}
    assert len(on_server(direct)) == 2


def test_snapshot_and_cleanup_tells_what_it_did(bench: Bench) -> None:
    result = bench(lambda service: service.snapshot_and_cleanup())

    assert result["snapshot_created"] is True
    assert result["snapshot_name"].startswith("code-")
    assert result["cleanup_stats"] == {"total": 1, "kept": 1, "deleted": 0, "failed": 0}


def test_after_a_failed_creation_nothing_is_deleted(
    plain: Bench, qdrant: QdrantServer, direct: QdrantClient
) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> Any:
        for _ in range(2):
            await service.create_snapshot()
        qdrant.faults.refuse("POST /collections/{name}/snapshots")
        return await service.snapshot_and_cleanup()

    result = plain(steps, retention_count=1)

    assert result["snapshot_created"] is False
    assert result["snapshot_name"] is None
    assert result["cleanup_stats"] == {"total": 0, "kept": 0, "deleted": 0, "failed": 0}
    assert on_server(direct)


@pytest.mark.parametrize("fault", ["truncated_to", "is_silent", "omits_trailer", "without_shards"])
def test_a_snapshot_whose_copy_is_bad_is_no_success(
    plain: Bench, qdrant: QdrantServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(
        "recollect.engines.qdrant.snapshots.QdrantSnapshots.__init__.__kwdefaults__",
        {"api_key": "", "idle_s": 0.3},
    )
    setattr(qdrant.faults.snapshots, fault, 4000 if fault == "truncated_to" else True)

    assert plain(lambda service: service.create_snapshot()) is None
    assert list(Path(plain.storage).glob("*.snapshot*")) == []


def test_a_server_that_is_gone_gives_empty_answers_and_no_error(
    bench: Bench, qdrant: QdrantServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> list[Any]:
        qdrant.stop()
        return [
            await service.create_snapshot(),
            await service.list_snapshots(),
            await service.get_latest_snapshot(),
            await service.delete_snapshot("x"),
            await service.restore_snapshot("x"),
            await service.cleanup_old_snapshots(),
        ]

    with caplog.at_level(logging.WARNING):
        results = bench_without_grpc(bench)(steps)

    assert results == [None, [], None, False, False, {"total": 0, "kept": 0, "deleted": 0, "failed": 0}]
    assert "Failed to create snapshot for collection code" in caplog.text


def bench_without_grpc(bench: Bench) -> Bench:
    """Drop the gRPC variant: its channel retries for a minute by itself."""
    return Bench(bench.server, bench.kind.removesuffix("-grpc"), bench.storage, bench.clock)


def test_without_waiting_the_name_is_real_and_the_copy_follows(plain: Bench, direct: QdrantClient) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> tuple[Any, bool, list[str]]:
        name = await service.create_snapshot(wait=False)
        settled = await service.settle()
        return name, settled, await service.list_stored()

    name, settled, stored = plain(steps)

    assert settled
    assert [name] == on_server(direct) == stored


def test_a_restore_without_waiting_is_begun_only_for_what_exists(plain: Bench, direct: QdrantClient) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> tuple[bool, bool]:
        name = await service.create_snapshot()
        assert name is not None
        direct.delete(COLLECTION, [1])
        begun = await service.restore_snapshot(name, wait=False)
        await service.settle()
        return begun, await service.restore_snapshot("other", wait=False)

    assert plain(steps) == (True, False)
    assert len(held(direct)) == 20


def test_a_copy_restores_into_a_server_that_lost_everything(plain: Bench, direct: QdrantClient) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> tuple[bool, list[str]]:
        name = await service.create_snapshot()
        assert name is not None
        direct.delete_snapshot(COLLECTION, name)
        direct.delete_collection(COLLECTION)
        return await service.restore_snapshot(name), await service.list_stored()

    restored, stored = plain(steps)

    assert restored
    assert len(stored) == 1
    assert len(held(direct)) == 20


def test_a_damaged_copy_is_not_used(plain: Bench, direct: QdrantClient) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> bool:
        name = await service.create_snapshot()
        assert name is not None
        path = Path(plain.storage) / name
        path.write_bytes(path.read_bytes()[::-1])
        direct.delete(COLLECTION, [1])
        assert await service.restore_snapshot(name)  # from the server's own
        direct.delete_snapshot(COLLECTION, name)
        return await service.restore_snapshot(name)

    assert plain(steps) is False
    assert len(held(direct)) == 20


def test_copies_go_to_a_byte_store_in_pieces(
    qdrant: QdrantServer, direct: QdrantClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recollect.compat.codeweaver.copies.PART_BYTES", 10_000)
    bench = Bench(qdrant, "sync", "memory:codeweaver-copies", clock)

    async def steps(service: QdrantSnapshotBackupService) -> tuple[list[str], bool, list[str]]:
        name = await service.create_snapshot()
        assert name is not None
        direct.delete_snapshot(COLLECTION, name)
        direct.delete(COLLECTION, [1, 2, 3])
        stored = await service.list_stored()
        restored = await service.restore_snapshot(name)
        service._copies.remove(name)
        return stored, restored, await service.list_stored()

    stored, restored, left = bench(steps)

    assert restored
    assert len(stored) == 1
    assert left == []
    assert len(held(direct)) == 20


def test_two_snapshots_in_a_row_are_a_second_apart(plain: Bench, clock: ManualClock) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> None:
        await service.create_snapshot()
        await service.create_snapshot()

    plain(steps)

    assert clock.monotonic() >= 1.0


def test_the_default_storage_is_the_users_state_directory(qdrant: QdrantServer, state_home: Path) -> None:
    client = open_client(qdrant, "sync")
    service = QdrantSnapshotBackupService(store_of(client))

    assert service.storage_path == state_home / "codeweaver" / "snapshots" / COLLECTION
    assert service.storage_path.is_dir()
    assert service.retention_count == 12
    run(close(client))


def test_keeping_no_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="retention_count is 0"):
        QdrantSnapshotBackupService(store_of(object()), tmp_path, 0)


def test_collections_that_share_a_storage_keep_their_own_copies(plain: Bench, direct: QdrantClient) -> None:
    """A name that begins like another one's is another collection's all the same."""
    fill(direct, range(3), f"{COLLECTION}-2")

    async def make(service: QdrantSnapshotBackupService) -> list[str | None]:
        other = QdrantSnapshotBackupService(
            service.vector_store, plain.storage, 1, f"{COLLECTION}-2", clock=plain.clock
        )
        first = await other.create_snapshot()
        second = (await service.snapshot_and_cleanup())["snapshot_name"]
        return [first, second]

    first, second = plain(make, retention_count=1)

    assert {path.name for path in Path(plain.storage).glob("*.snapshot")} == {first, second}


@pytest.mark.parametrize("name", ["../precious", "..", ".", "", "a/b", "/precious", "a\0b"])
def test_no_name_leads_out_of_the_storage(plain: Bench, tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("precious", "utf-8")
    (tmp_path / "precious.sha256").write_text("precious", "utf-8")

    async def steps(service: QdrantSnapshotBackupService) -> list[bool]:
        return [
            await service.delete_snapshot(name),
            await service.restore_snapshot(name),
            await service.restore_snapshot(name, wait=False),
        ]

    assert plain(steps) == [False, False, False]
    assert (tmp_path / "precious").read_text("utf-8") == "precious"
    assert held(QdrantClient(url=plain.server.rest_url, check_compatibility=False))


def test_a_snapshot_that_is_listed_only_after_a_while_is_waited_for(
    plain: Bench, direct: QdrantClient, qdrant: QdrantServer
) -> None:
    async def steps(service: QdrantSnapshotBackupService) -> str | None:
        qdrant.faults.snapshots.lists_after = 3
        return await service.create_snapshot(wait=False)

    assert [plain(steps)] == on_server(direct)


def test_without_times_of_creation_the_names_tell_which_is_the_newest(
    plain: Bench, direct: QdrantClient, qdrant: QdrantServer
) -> None:
    qdrant.faults.snapshots.null_creation_time = True

    async def steps(service: QdrantSnapshotBackupService) -> tuple[list[str | None], Any]:
        made = []
        for minute in (1, 2, 3):
            qdrant.faults.snapshots.frozen_at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
            made.append(await service.create_snapshot())
        await service.cleanup_old_snapshots()
        return made, await service.get_latest_snapshot()

    made, latest = plain(steps, retention_count=2)

    assert latest["name"] == made[2]
    assert on_server(direct) == made[1:]
