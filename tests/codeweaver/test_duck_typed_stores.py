"""Stores that merely look like one: clients that let the caller choose names, blocking and asynchronous."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recollect.clock import ManualClock
from recollect.compat.codeweaver import QdrantSnapshotBackupService
from tests.codeweaver.conftest import run, store_of


class Client:
    """Keeps snapshots in a dictionary, under the names that it is given."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Any] = {}
        self.recovered: list[tuple[str, bool]] = []

    def create_snapshot(self, collection_name: str, snapshot_name: str) -> None:
        assert collection_name == "docs"
        created = f"2025-01-27T12:00:{len(self.snapshots):02d}Z"
        self.snapshots[snapshot_name] = SimpleNamespace(name=snapshot_name, size=10, creation_time=created)

    def list_snapshots(self, collection_name: str) -> list[Any]:
        assert collection_name == "docs"
        return list(self.snapshots.values())

    def delete_snapshot(self, collection_name: str, snapshot_name: str) -> None:
        assert collection_name == "docs"
        del self.snapshots[snapshot_name]

    def recover_snapshot(self, collection_name: str, snapshot_name: str, *, wait: bool) -> None:
        assert collection_name == "docs"
        if snapshot_name not in self.snapshots:
            raise LookupError(snapshot_name)
        self.recovered.append((snapshot_name, wait))


class AsyncClient:
    """The same, asynchronous."""

    def __init__(self) -> None:
        self.inner = Client()

    async def create_snapshot(self, collection_name: str, snapshot_name: str) -> None:
        self.inner.create_snapshot(collection_name, snapshot_name)

    async def list_snapshots(self, collection_name: str) -> list[Any]:
        return self.inner.list_snapshots(collection_name)

    async def delete_snapshot(self, collection_name: str, snapshot_name: str) -> None:
        self.inner.delete_snapshot(collection_name, snapshot_name)

    async def recover_snapshot(self, collection_name: str, snapshot_name: str, *, wait: bool) -> None:
        self.inner.recover_snapshot(collection_name, snapshot_name, wait=wait)


@pytest.fixture(params=["blocking", "asynchronous"])
def client(request: pytest.FixtureRequest) -> Client | AsyncClient:
    return Client() if request.param == "blocking" else AsyncClient()


def service_of(
    client: Any, tmp_path: Path, clock: ManualClock, retention_count: int = 3
) -> QdrantSnapshotBackupService:
    store = store_of(client, "docs")
    return QdrantSnapshotBackupService(store, tmp_path / "kept", retention_count, clock=clock)


def dictionary(client: Client | AsyncClient) -> Client:
    return client if isinstance(client, Client) else client.inner


def test_names_are_chosen_by_time_where_the_client_lets_us(
    client: Any, tmp_path: Path, clock: ManualClock
) -> None:
    name = run(service_of(client, tmp_path, clock).create_snapshot())

    assert name == "snapshot_docs_20260101_000000"
    assert list(dictionary(client).snapshots) == [name]


def test_retention_deletes_the_oldest(client: Any, tmp_path: Path, clock: ManualClock) -> None:
    service = service_of(client, tmp_path, clock)

    async def steps() -> Any:
        for _ in range(5):
            result = await service.snapshot_and_cleanup()
        return result

    assert run(steps())["cleanup_stats"] == {"total": 4, "kept": 3, "deleted": 1, "failed": 0}
    assert len(dictionary(client).snapshots) == 3
    assert "snapshot_docs_20260101_000000" not in dictionary(client).snapshots


def test_restore_and_delete_reach_the_client(client: Any, tmp_path: Path, clock: ManualClock) -> None:
    service = service_of(client, tmp_path, clock)

    async def steps() -> list[bool]:
        name = await service.create_snapshot()
        assert name is not None
        return [
            await service.restore_snapshot(name, wait=False),
            await service.restore_snapshot("other"),
            await service.delete_snapshot(name),
            await service.delete_snapshot(name),
        ]

    assert run(steps()) == [True, False, True, False]
    assert [wait for _, wait in dictionary(client).recovered] == [False]


def test_a_snapshot_that_never_appears_is_no_success(tmp_path: Path, clock: ManualClock) -> None:
    client = Client()
    client.list_snapshots = lambda collection_name: []  # type: ignore[method-assign]  # noqa: ARG005
    service = service_of(client, tmp_path, clock)

    assert run(service.create_snapshot()) is None
    assert clock.monotonic() >= 60


def test_dictionaries_pass_with_all_they_hold(tmp_path: Path, clock: ManualClock) -> None:
    client = Client()
    client.snapshots = {"a": {"name": "a", "creation_time": "2025-01-01", "note": "mine"}}
    service = service_of(client, tmp_path, clock)

    (listed,) = run(service.list_snapshots())

    assert listed == {"name": "a", "creation_time": "2025-01-01", "created_at": "2025-01-01", "note": "mine"}


def test_without_times_the_names_tell_the_order(tmp_path: Path, clock: ManualClock) -> None:
    client = Client()
    names = [f"docs-1-2025-01-0{day}-00-00-00.snapshot" for day in (2, 1, 3)]
    client.snapshots = {name: SimpleNamespace(name=name, size=1, creation_time=None) for name in names}
    service = service_of(client, tmp_path, clock, retention_count=1)

    assert run(service.get_latest_snapshot())["name"] == names[2]
    assert run(service.cleanup_old_snapshots())["deleted"] == 2
    assert list(client.snapshots) == [names[2]]


def test_an_entry_without_a_name_counts_as_failed(tmp_path: Path, clock: ManualClock) -> None:
    client = Client()
    client.snapshots = {"a": {"name": "a", "created_at": "2025-01-02"}, "": {"created_at": "2025-01-01"}}
    service = service_of(client, tmp_path, clock, retention_count=1)

    assert run(service.cleanup_old_snapshots()) == {"total": 2, "kept": 1, "deleted": 0, "failed": 1}


def test_a_client_without_snapshots_raises_nothing(tmp_path: Path, clock: ManualClock) -> None:
    service = service_of(object(), tmp_path, clock)

    assert run(service.create_snapshot()) is None
    assert run(service.list_snapshots()) == []
    assert run(service.restore_snapshot("x")) is False


def agree(collection_name: str, snapshot_name: str) -> bool:
    return bool(collection_name and snapshot_name)


def test_a_client_that_deletes_whatever_it_is_told_removes_no_file_elsewhere(
    tmp_path: Path, clock: ManualClock
) -> None:
    client = SimpleNamespace(delete_snapshot=agree)
    for name in ("precious", "precious.sha256"):
        (tmp_path / name).write_text("precious", "utf-8")
    service = service_of(client, tmp_path, clock)
    (tmp_path / "kept" / "mine.txt").write_text("precious", "utf-8")

    assert not run(service.delete_snapshot("../precious"))
    assert run(service.delete_snapshot("mine.txt"))

    assert (tmp_path / "precious").is_file()
    assert (tmp_path / "precious.sha256").is_file()
    assert (tmp_path / "kept" / "mine.txt").is_file(), "it is no copy: it has no digest"


class StandingClock(ManualClock):
    """Writes down how long it was asked to sleep, and does not move."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def test_snapshots_that_are_asked_for_at_once_get_a_second_each(tmp_path: Path) -> None:
    clock = StandingClock()
    service = service_of(Client(), tmp_path, clock)

    async def steps() -> None:
        await asyncio.gather(*(service.create_snapshot(wait=False) for _ in range(4)))

    run(steps())
    assert sorted(clock.pauses) == [1.0, 2.0, 3.0]


def test_the_location_of_a_snapshot_is_a_url_whatever_the_collection_is_called(
    tmp_path: Path, clock: ManualClock
) -> None:
    """For clients with Qdrant's own signature that do not tell where their server is."""
    asked: list[str] = []

    def recover_snapshot(collection_name: str, location: str, *, wait: bool) -> bool:
        assert (collection_name, wait) == ("50% of #1", True)
        asked.append(location)
        return True

    store = store_of(SimpleNamespace(recover_snapshot=recover_snapshot), "50% of #1")
    service = QdrantSnapshotBackupService(store, tmp_path / "kept", clock=clock)

    assert run(service.restore_snapshot("a b.snapshot"))
    assert asked == ["file:///qdrant/snapshots/50%25%20of%20%231/a%20b.snapshot"]
