from __future__ import annotations

import json
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from recollect.cli.main import main
from recollect.compat.arcaneum import load
from recollect.testing.qdrant_server import QdrantServer
from tests.arcaneum.conftest import count


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("QDRANT_HOST", "BACKUP_DIR", "CONTAINER_NAME"):
        monkeypatch.delenv(name, raising=False)


def dumps_below(directory: Path) -> list[Path]:
    return sorted(directory.glob("qdrant-snapshots-*"))


def summary(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text.splitlines()[-1])
    assert found["message_type"] == "summary"
    return found


@pytest.mark.usefixtures("client")
def test_the_scripts_variables_are_honoured(
    qdrant: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QDRANT_HOST", qdrant.rest_url)
    monkeypatch.setenv("BACKUP_DIR", str(tmp_path / "elsewhere"))

    assert main(["dump"]) == 0

    (made,) = dumps_below(tmp_path / "elsewhere")
    assert f"dumped 2 collections into {made}" in capsys.readouterr().out


@pytest.mark.usefixtures("client")
def test_without_variables_dumps_stand_below_the_home_directory(qdrant: QdrantServer, tmp_path: Path) -> None:
    assert main(["dump", qdrant.rest_url, "--quiet"]) == 0

    assert len(dumps_below(tmp_path / "home" / ".arcaneum" / "backups")) == 1


def test_a_dump_loads_into_the_same_server(
    qdrant: QdrantServer, client: QdrantClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", qdrant.rest_url, "-o", str(tmp_path / "b"), "--collection", "pearldiver"]) == 0
    client.delete_collection("pearldiver")
    (made,) = dumps_below(tmp_path / "b")
    capsys.readouterr()

    assert main(["load", str(made), qdrant.rest_url, "--dry-run", "--json"]) == 0
    assert summary(capsys.readouterr().out)["is_dry_run"] is True
    assert main(["load", str(made), qdrant.rest_url, "--json"]) == 0

    assert summary(capsys.readouterr().out)["is_complete"] is True
    assert count(client, "pearldiver") == 30


@pytest.mark.usefixtures("client")
def test_a_partial_dump_exits_with_3(
    qdrant: QdrantServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qdrant.faults.refuse("POST /collections/{name}/snapshots", status=500, count=1)

    assert main(["dump", qdrant.rest_url, "-o", str(tmp_path / "b")]) == 3
    assert "NOT dumped: my code" in capsys.readouterr().out


def test_an_empty_server_exits_with_4(
    qdrant: QdrantServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", qdrant.rest_url, "-o", str(tmp_path / "b")]) == 4
    assert "No collections found" in capsys.readouterr().err


@pytest.mark.usefixtures("client")
def test_differing_counts_exit_with_22(
    qdrant: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["dump", qdrant.rest_url, "-o", str(tmp_path / "b"), "--collection", "my code"])
    (made,) = dumps_below(tmp_path / "b")
    manifest = (made / "manifest.json").read_text("utf-8")
    (made / "manifest.json").write_text(manifest.replace('": 5,', '": 6,'), "utf-8")

    monkeypatch.setattr(load, "SETTLE_S", 0.0)  # the right number may take a moment to appear
    assert main(["load", str(made), qdrant.rest_url]) == 22


def test_a_damaged_dump_exits_with_20_and_a_missing_one_with_4(qdrant: QdrantServer, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "docs-1-2025-01-01-00-00-00.snapshot").write_bytes(b"no archive at all")

    assert main(["load", str(tmp_path / "b"), qdrant.rest_url]) == 20
    assert main(["load", str(tmp_path / "nowhere"), qdrant.rest_url]) == 4
