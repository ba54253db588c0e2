from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from recollect.cli.main import main
from recollect.testing.qdrant_server import QdrantServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def client(server: QdrantServer) -> Iterator[QdrantClient]:
    stock = QdrantClient(url=server.rest_url, check_compatibility=False)
    stock.create_collection("docs", models.VectorParams(size=2, distance=models.Distance.DOT))
    cities = ("Rome", "Berlin")
    points = [
        models.PointStruct(id=n, vector=[1.0, float(n)], payload={"city": cities[n % 2], "n": n})
        for n in range(20)
    ]
    stock.upsert("docs", points)
    yield stock
    stock.close()


@pytest.fixture
def repository(
    server: QdrantServer, client: QdrantClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    assert client is not None
    monkeypatch.setenv("RECOLLECT_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["init", "--quiet"]) == 0
    assert main(["backup", server.url, "--quiet"]) == 0
    return str(tmp_path / "repository")


def ids(client: QdrantClient) -> list[Any]:
    return [record.id for record in client.scroll("docs", limit=100)[0]]


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.mark.usefixtures("repository")
def test_diff_tells_what_is_missing_and_restore_brings_it_back(
    server: QdrantServer, client: QdrantClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.delete("docs", [3, 7])
    capsys.readouterr()

    main(["diff", "latest", server.url, "--records"])
    told = capsys.readouterr().out
    assert main(["restore", "latest", server.url, "--ids", "3,7", "--json"]) == 0

    assert "3" in told
    assert "7" in told
    assert summary(capsys)["restored_count"] == 2
    assert ids(client) == list(range(20))


@pytest.mark.usefixtures("repository")
def test_filters_combine_and_a_dry_run_changes_nothing(
    server: QdrantServer, client: QdrantClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.delete("docs", list(range(20)))
    filters = ["--filter", "city=Berlin", "--filter", "n < 6"]
    capsys.readouterr()

    assert main(["restore", "latest", server.url, *filters, "--dry-run", "--json"]) == 0
    assert summary(capsys)["restored_count"] == 3
    assert ids(client) == []
    assert main(["restore", "latest", server.url, *filters]) == 0
    assert ids(client) == [1, 3, 5]
    assert main(["restore", "latest", server.url, "--filter", 'n in [0, 2, "x"]', "--quiet"]) == 0
    assert ids(client) == [0, 1, 2, 3, 5]


@pytest.mark.usefixtures("repository")
def test_changed_records_need_replace_and_absent_ids_exit_with_3(
    server: QdrantServer, client: QdrantClient, tmp_path: Path
) -> None:
    client.set_payload("docs", {"city": "Oslo"}, points=[4])
    (tmp_path / "ids").write_text("4\n99\n", "utf-8")

    assert main(["restore", "latest", server.url, "--ids", f"@{tmp_path / 'ids'}"]) == 3
    assert client.retrieve("docs", [4])[0].payload == {"city": "Oslo", "n": 4}
    assert main(["restore", "latest", server.url, "--ids", "4", "--replace"]) == 0
    assert client.retrieve("docs", [4])[0].payload == {"city": "Rome", "n": 4}


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    "words", [["--filter", "nonsense"], ["--ids", "1", "--collection", "a", "--collection", "b"]]
)
def test_what_is_not_understood_exits_with_2(server: QdrantServer, words: list[str]) -> None:
    assert main(["restore", "latest", server.url, *words]) == 2
