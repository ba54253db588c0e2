"""The flags of capture, as users give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from recollect.cli.main import main
from recollect.testing.qdrant_server import QdrantServer
from tests.qdrant_production.conftest import client, count, make, write


@pytest.fixture
def filled(rest: httpx.Client) -> httpx.Client:
    make(rest)
    for start in range(0, 300, 100):
        write(rest, range(start, start + 100))
    return rest


class Line:
    """Runs commands on one repository and reads their last JSON line."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._repository = str(directory / "repository")
        self._capsys = capsys
        assert main(["init", "-r", self._repository]) == 0
        capsys.readouterr()

    def __call__(self, *arguments: str, status: int = 0) -> Any:
        assert main([*arguments, "-r", self._repository, "--json"]) == status
        told = self._capsys.readouterr()
        return json.loads(told.out.strip().splitlines()[-1]) if status == 0 else told.err + told.out


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("RECOLLECT_SPOOL", str(tmp_path / "spool"))
    return Line(tmp_path, capsys)


@pytest.mark.usefixtures("filled")
def test_a_backup_tells_how_each_shard_was_had(line: Line, server: QdrantServer, tmp_path: Path) -> None:
    (collection,) = line("backup", server.url)["collections"]

    assert collection["consistency"] == "point-in-time"
    (shard,) = collection["shards"]
    assert (shard["transfer"], shard["consistency"]) == ("all", "point-in-time")
    assert not collection["has_files"]
    assert (tmp_path / "spool" / "shards").is_dir()


@pytest.mark.usefixtures("filled")
def test_physical_then_fast(line: Line, server: QdrantServer, tmp_path: Path) -> None:
    assert line("backup", server.url, "--physical")["collections"][0]["has_files"]
    with QdrantServer(tmp_path / "other") as other, client(other.rest_url) as rest:
        (step,) = line("restore", "latest", other.url, "--dry-run")["collections"]
        assert step["method"] in {"files", "records"}
        assert step["sent_bytes"] > 0
        (step,) = line("restore", "latest", other.url, "--dry-run", "--logical")["collections"]
        assert (step["method"], step["reason"]) == ("records", "asked for")

        (restored,) = line("restore", "latest", other.url, "--fast")["collections"]

        assert (restored["method"], restored["fingerprint_matched"]) == ("files", True)
        assert count(rest) == 300


@pytest.mark.usefixtures("filled")
def test_fast_without_files_says_why_not(line: Line, server: QdrantServer, tmp_path: Path) -> None:
    line("backup", server.url)
    with QdrantServer(tmp_path / "other") as other:
        told = line("restore", "latest", other.url, "--fast", status=2)

    assert "no snapshot of it has files" in told
    assert "--logical" in told


@pytest.mark.usefixtures("filled")
def test_files_by_age(line: Line, server: QdrantServer) -> None:
    found = [line("backup", server.url, "--physical-every", "7d")["collections"][0] for _ in range(2)]

    assert [each["has_files"] for each in found] == [True, False]


@pytest.mark.usefixtures("filled")
def test_flags_that_exclude_each_other(line: Line, server: QdrantServer) -> None:
    line("backup", server.url)

    assert "choose one" in line("restore", "latest", server.url, "--fast", "--logical", status=2)
    told = line("backup", server.url, "--physical", "--physical-every", "7d", status=2)
    assert "it is enough" in told


def test_files_of_a_source_that_has_none(line: Line) -> None:
    assert line("backup", "memory:none", "--physical", status=4)


@pytest.mark.usefixtures("filled")
def test_a_live_collection_compares_as_it_was_captured(line: Line, server: QdrantServer) -> None:
    line("backup", server.url)

    assert line("diff", "latest", server.url)["is_same"]
    assert line("verify", "latest", "--against", server.url)["is_sound"]
