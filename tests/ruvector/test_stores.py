"""`snapshot_dir` may be any store: what local directories do, memory and S3 do too."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from recollect.compat.ruvector import SnapshotConfig, SnapshotManager
from recollect.database import Database
from tests.ruvector.samples import change, content, run


def _round(manager: SnapshotManager, database: Database, tmp_path: Path) -> None:
    base = run(manager.create_snapshot(database, "base"))
    change(database, 1)
    snapshot = run(manager.create_incremental_snapshot(database, "inc", base.id))

    assert [one.name for one in run(manager.list_snapshots())] == ["inc", "base"]
    assert run(manager.verify_snapshot(snapshot.id))
    with run(manager.restore_snapshot(snapshot.id, tmp_path / "restored")) as restored:
        assert content(restored) == content(database)
    assert run(manager.cleanup_old_snapshots(0)) == 2
    assert run(manager.list_snapshots()) == []


@pytest.mark.parametrize("place", ["memory:", "memory:ruvector-tests"])
def test_memory(
    make_manager: Callable[..., SnapshotManager], database: Database, tmp_path: Path, place: str
) -> None:
    _round(make_manager(None, snapshot_dir=place), database, tmp_path)


def test_a_file_url(make_manager: Callable[..., SnapshotManager], database: Database, tmp_path: Path) -> None:
    _round(make_manager(None, snapshot_dir=(tmp_path / "by-url").as_uri()), database, tmp_path)


def test_two_managers_share_a_directory(
    make_manager: Callable[..., SnapshotManager], database: Database, tmp_path: Path
) -> None:
    snapshot = run(make_manager().create_snapshot(database, "one"))
    run(SnapshotManager(SnapshotConfig(snapshot_dir=tmp_path / "snapshots")).create_snapshot(database, "two"))

    assert {one.name for one in run(make_manager().list_snapshots())} == {"one", "two"}
    assert run(make_manager().get_snapshot(snapshot.id)) == snapshot


def test_s3(
    make_manager: Callable[..., SnapshotManager],
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    pytest.importorskip("obstore", reason="obstore is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)
        connection.request("PUT", "/ruvector")
        assert connection.getresponse().status == 200
        connection.close()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
        place = f"s3://ruvector/some/prefix?endpoint={endpoint}&region=us-east-1"
        _round(make_manager(None, snapshot_dir=place), database, tmp_path)
    finally:
        server.stop()
