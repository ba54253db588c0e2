"""The flags of capture, as users give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from recollect.cli.main import main
from recollect.testing.qdrant_server import QdrantCluster, QdrantServer
from tests.qdrant_production.conftest import ask, client, count, drop, make, write


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
        lines = self.lines(*arguments, status=status)
        return lines if status else json.loads(lines.strip().splitlines()[-1])

    def lines(self, *arguments: str, status: int = 0) -> str:
        """Return all that a command says in JSON lines, or the message that it fails with."""
        assert main([*arguments, "-r", self._repository, "--json"]) == status
        told = self._capsys.readouterr()
        return told.out if status == 0 else told.err + told.out

    def text(self, *arguments: str) -> str:
        """Return what a command says to people."""
        assert main([*arguments, "-r", self._repository]) == 0
        return self._capsys.readouterr().out


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
    for way in ("--fast", "--logical"):
        told = line("restore", "latest", server.url, "--ids", "1", way, status=2)
        assert "for whole collections" in told


def test_files_of_a_source_that_has_none(line: Line) -> None:
    assert line("backup", "memory:none", "--physical", status=4)


@pytest.mark.usefixtures("filled")
def test_a_live_collection_compares_as_it_was_captured(line: Line, server: QdrantServer) -> None:
    line("backup", server.url)

    assert line("diff", "latest", server.url)["is_same"]
    assert line("verify", "latest", "--against", server.url)["is_sound"]


def test_show_tells_way_node_and_consistency_of_every_shard(line: Line, cluster: QdrantCluster) -> None:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=2, replication_factor=2)
        write(rest, range(40))
    (collection,) = line("backup", cluster.url, "--physical")["collections"]
    peers = [str(node.peer_id) for node in cluster.nodes]

    assert [shard["replicas"] for shard in collection["shards"]] == [peers[:2], peers[1:]]
    shown = line.text("show", "latest")
    rows = [row.split() for row in shown.splitlines() if "point-in-time" in row]
    assert [row[0] for row in rows] == ["0", "1"]
    assert [row[1] for row in rows] == [shard["replica"] for shard in collection["shards"]]
    assert "per-shard" in shown


def test_a_cluster_that_loses_a_node_is_backed_up_and_comes_back_by_files(
    line: Line, cluster: QdrantCluster, tmp_path: Path
) -> None:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=3, replication_factor=2)
        write(rest, range(90))
    cluster.nodes[2].stop()

    (collection,) = line("backup", cluster.url, "--physical")["collections"]

    assert (collection["consistency"], collection["record_count"]) == ("per-shard", 90)
    assert str(cluster.nodes[2].peer_id) not in {shard["replica"] for shard in collection["shards"]}
    with QdrantCluster(tmp_path / "second", 2) as second, QdrantServer(tmp_path / "single") as single:
        for url in (second.url, single.url):
            (restored,) = line("restore", "latest", url, "--fast")["collections"]
            assert (restored["method"], restored["record_count"]) == ("files", 90)


@pytest.mark.usefixtures("filled")
def test_files_of_another_version_are_refused_and_it_is_said(
    line: Line, server: QdrantServer, tmp_path: Path
) -> None:
    line("backup", server.url, "--physical")
    with QdrantServer(tmp_path / "other") as other:
        other.faults.version = "1.21.3"
        told = line("restore", "latest", other.url, "--fast", status=2)
        assert "they are of version 1.19.0, and the server has 1.21.3" in told

        (step,) = line("restore", "latest", other.url, "--dry-run")["collections"]
        assert (step["method"], "the same or the next minor reads them" in step["reason"]) == (
            "records",
            True,
        )
        assert line("restore", "latest", other.url)["fingerprint_matched"]


def test_records_come_back_into_a_live_collection(
    line: Line, server: QdrantServer, filled: httpx.Client
) -> None:
    line("backup", server.url)
    drop(filled, [5, 6])
    write(filled, [7], seed=4)

    lines = line.lines("diff", "latest", server.url, "--records", status=0).splitlines()
    seen = [json.loads(each) for each in lines]
    changed = {each["record_id"]: each["change"] for each in seen if each["message_type"] == "record"}
    assert changed == {5: "removed", 6: "removed", 7: "changed"}
    told = line("restore", "latest", server.url, "--ids", "5,6,7")
    assert (told["restored_count"], told["kept_count"]) == (2, 1)
    assert count(filled) == 300


@pytest.mark.usefixtures("filled")
def test_a_drill_on_a_server_uses_the_files(line: Line, server: QdrantServer, tmp_path: Path) -> None:
    line("backup", server.url, "--physical")
    with QdrantServer(tmp_path / "other") as other:
        told = line("drill", "--target", other.url)

        (collection,) = told["collections"]
        assert (told["is_passed"], collection["is_match"], collection["method"]) == (True, True, "files")
        with client(other.rest_url) as rest:
            assert ask(rest, "GET", "/collections")["collections"] == []
