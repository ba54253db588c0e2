"""`recollect checkpoint` and `recollect checkpoints`: in a directory, and by its server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from recollect.clock import SystemClock
from recollect.database import CheckpointOptions, Database, DatabaseOptions
from recollect.service.daemon import Daemon
from recollect.service.options import load_options
from tests.cli.conftest import Run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A closed database of two commits."""
    path = tmp_path / "db"
    with Database.open(path, fsync="off") as database:
        database.state.set("ns", "a", "k", 1)
        database.vectors.set("v", [1, 2])
    return path


@pytest.fixture
def server(data: Path) -> Iterator[str]:
    """The address of a server that has the database."""
    settings = ["statehouse.address=127.0.0.1:0", "nvecd.enabled=false"]
    options = load_options(data=str(data), config="", settings=settings, environment={})

    def no_repository(url: str) -> None:
        raise AssertionError(url)

    daemon = Daemon(options, clock=SystemClock(), random_bytes=os.urandom, open_repository=no_repository)  # type: ignore[arg-type]
    daemon.start()
    assert daemon.statehouse is not None
    yield f"127.0.0.1:{daemon.statehouse.port}"
    daemon.stop()


def test_a_checkpoint_of_a_directory_has_every_commit_name_and_description(run: Run, data: Path) -> None:
    made = run(
        "checkpoint", str(data), "--name", "before-upgrade", "--description", "by hand", "--json"
    ).summary

    listed = run("checkpoints", str(data), "--json")
    assert (made["commit_ts"], made["name"], made["description"]) == (2, "before-upgrade", "by hand")
    assert [line["id"] for line in listed.of_type("checkpoint")] == [made["id"]]
    assert listed.summary["checkpoint_count"] == 1
    with Database.open(data) as database:
        assert [one.id for one in database.checkpoints()] == [made["id"]]
        assert database.state.get("ns", "a", "k").value == 1


def test_without_news_the_newest_checkpoint_is_shown(run: Run, data: Path) -> None:
    first = run("checkpoint", str(data), "--json").summary
    second = run("checkpoint", f"recollect://{data}", "--json").summary

    assert second == first
    shown = run("checkpoint", str(data)).stdout
    assert shown == f"checkpoint {first['id']} of commit 2\n"


def test_a_checkpoint_by_hand_drops_nothing_that_the_owner_keeps(run: Run, data: Path) -> None:
    options = DatabaseOptions(checkpoints=CheckpointOptions(keep_last=9))
    with Database.open(data, options=options) as database:
        for number in range(5):
            database.state.set("ns", "a", "k", number)
            database.checkpoint()

    run("checkpoint", str(data), "--name", "n")

    assert run("checkpoints", str(data), "--json").summary["checkpoint_count"] == 6


def test_a_directory_in_use_points_to_the_server(run: Run, data: Path, server: str) -> None:
    refused = run("checkpoint", str(data), "--json")
    assert refused.code == 11
    assert "--server HOST:PORT" in refused.error["next_step"]

    made = run("checkpoint", "--server", server, "--name", "live", "--json").summary
    assert (made["commit_ts"], made["name"]) == (2, "live")
    by_server = run("checkpoints", "--server", server, "--json").of_type("checkpoint")
    assert [line["name"] for line in by_server] == ["live"]
    assert run("checkpoints", str(data), "--json").of_type("checkpoint") == by_server


def test_wrong_places_are_named(run: Run, data: Path, server: str, tmp_path: Path) -> None:
    nothing = tmp_path / "none"
    assert run("checkpoint", str(nothing), "--json").code == 4
    assert run("checkpoints", str(nothing), "--json").code == 4
    assert not nothing.exists()
    for words in (["checkpoint"], ["checkpoint", str(data), "--server", server]):
        assert "either a data directory or a server" in run(*words, "--json").error["message"]
    assert run("checkpoint", "--server", "127.0.0.1:1", "--json").code == 7


def test_a_name_that_no_snapshot_can_have_is_refused(
    run: Run, data: Path, server: str, tmp_path: Path
) -> None:
    by_server = run("checkpoint", "--server", server, "--name", "latest", "--json")
    with Database.open(tmp_path / "other"):
        pass
    in_directory = run("checkpoint", str(tmp_path / "other"), "--name", "latest", "--json")

    assert (by_server.code, in_directory.code) == (2, 2)
    assert in_directory.error["message"] in by_server.error["message"]
    assert run("checkpoints", str(data), "--json").summary["checkpoint_count"] == 0


def test_a_database_without_checkpoints_lists_none(run: Run, data: Path) -> None:
    assert run("checkpoints", str(data), "--json").lines == [
        {"message_type": "summary", "checkpoint_count": 0}
    ]
