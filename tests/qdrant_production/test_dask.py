"""`--executor`: a Dask cluster of processes on this machine, and what goes wrong with one."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import distributed
import httpx
import pytest

from recollect.errors import RequestError
from recollect.executors import ExecutorPlace, parse_executor
from recollect.testing.qdrant_server import QdrantCluster, QdrantServer
from tests.qdrant_production.conftest import ask, client, drop, make, write
from tests.qdrant_production.test_command_line import Line

PARTIAL = "POST /collections/{name}/shards/{shard}/snapshot/partial/create"
PATIENCE_S = 60
Dask: TypeAlias = Any
"""A `distributed.LocalCluster`."""


@contextmanager
def dask(count: int, *, processes: bool, **more: Any) -> Iterator[Dask]:
    """Run a scheduler and workers on free ports of this machine."""
    make_cluster: Any = distributed.LocalCluster
    with make_cluster(
        n_workers=count,
        threads_per_worker=1,
        processes=processes,
        host="127.0.0.1",
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        **more,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """Two processes with a spool and a secret of their own, which the client does not have."""
    place = tmp_path_factory.mktemp("dask")
    environment = {"RECOLLECT_SPOOL": str(place / "spool"), "KEY_OF_WORKERS": "hush-hush"}
    with dask(2, processes=True, local_directory=str(place), env=environment) as running:
        yield running


@pytest.fixture
def executor(workers: Dask) -> str:
    return f"dask://{workers.scheduler_address.removeprefix('tcp://')}?timeout=20"


@pytest.fixture
def filled(cluster: QdrantCluster) -> Iterator[httpx.Client]:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=3, replication_factor=2)
        write(rest, range(200))
        yield rest


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("RECOLLECT_SPOOL", str(tmp_path / "spool"))
    return Line(tmp_path, capsys)


def collection(told: Any) -> Any:
    (found,) = told["collections"]
    return found


def test_a_cluster_backs_up_what_this_process_backs_up(
    line: Line, cluster: QdrantCluster, filled: httpx.Client, executor: str, tmp_path: Path
) -> None:
    first = collection(line("backup", cluster.url, "--executor", executor))
    assert not (tmp_path / "spool").exists() or not list((tmp_path / "spool" / "shards").iterdir())
    alone = collection(line("backup", cluster.url, "--scan"))
    assert first["fingerprint"] == alone["fingerprint"]
    assert (first["added"], alone["added"], alone["changed"], alone["removed"]) == (200, 0, 0, 0)
    write(filled, [3, 200], seed=4)
    drop(filled, [9])

    second = collection(line("backup", cluster.url, "--executor", executor))

    assert (second["added"], second["changed"], second["removed"]) == (1, 1, 1)
    assert second["fingerprint"] == collection(line("backup", cluster.url, "--full"))["fingerprint"]
    assert line("verify", "latest~1", "--read-data")["is_sound"]
    with QdrantServer(tmp_path / "target") as target, client(target.rest_url) as rest:
        restored = collection(line("restore", "latest~1", target.url))
        assert restored["fingerprint_matched"]
        assert ask(rest, "POST", "/collections/docs/points/count", {"exact": True})["count"] == 200


def test_a_worker_that_is_killed_is_replaced(
    line: Line, cluster: QdrantCluster, filled: httpx.Client, executor: str, workers: Dask
) -> None:
    del filled
    with killing(workers, cluster) as killed:
        found = collection(line("backup", cluster.url, "--executor", executor))

    assert len(killed) == 1
    assert found["record_count"] == 200
    assert line("verify", "latest", "--read-data")["is_sound"]


def test_workers_that_die_again_and_again_fail_the_backup(
    line: Line, cluster: QdrantCluster, filled: httpx.Client, executor: str, workers: Dask
) -> None:
    del filled
    scheduler: Any = workers.scheduler
    before, scheduler.allowed_failures = scheduler.allowed_failures, 0
    try:
        with killing(workers, cluster):
            told = line("backup", cluster.url, "--executor", executor, status=7)
    finally:
        scheduler.allowed_failures = before

    assert "died again and again" in told
    assert line("snapshots")["snapshot_count"] == 0


def test_a_worker_that_cannot_reach_the_repository_fails_the_backup(
    line: Line, cluster: QdrantCluster, filled: httpx.Client, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository in the client's memory is nowhere to the workers."""
    del filled
    monkeypatch.setattr(line, "_repository", "memory:of-this-process")
    line("init")

    told = line("backup", cluster.url, "--executor", executor, status=4)

    assert "the worker on" in told
    assert "there is no repository at memory:of-this-process" in told
    assert "a directory that they share, or a cloud store" in told
    assert line("snapshots")["snapshot_count"] == 0


def test_workers_look_up_the_key_themselves(
    line: Line, executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_WORKERS", "hush-hush")
    monkeypatch.setenv("KEY_OF_CLIENT", "hush-hush")
    headers = {"api-key": "hush-hush"}
    with QdrantServer(tmp_path / "keyed", api_key="hush-hush") as server:
        with httpx.Client(base_url=server.rest_url, trust_env=False, headers=headers) as rest:
            make(rest)
            write(rest, range(20))
        url = server.url

        found = line("backup", url + "&api_key_env=KEY_OF_WORKERS", "--executor", executor)
        assert collection(found)["record_count"] == 20
        told = line("backup", url + "&api_key_env=KEY_OF_CLIENT", "--executor", executor, status=6)
        assert "takes the API key from KEY_OF_CLIENT, which is not set" in told
        assert "the worker on" in told
        told = line("backup", url + "&api_key=hush-hush", "--executor", executor, status=2)
        assert "the URL has the API key in it" in told
        assert "hush-hush" not in told


def test_a_scheduler_that_is_not_there(line: Line, cluster: QdrantCluster) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        told = line("backup", cluster.url, "--executor", f"dask://{address}?timeout=0.5", status=7)

    assert f"there is no Dask scheduler at tcp://{address}" in told
    assert "dask scheduler" in told


def test_a_scheduler_without_workers(line: Line, cluster: QdrantCluster) -> None:
    with dask(0, processes=False) as empty:
        address = empty.scheduler_address.removeprefix("tcp://")
        told = line("backup", cluster.url, "--executor", f"dask://{address}", status=7)

    assert "has no workers" in told
    assert "dask worker tcp://" in told


def test_workers_that_all_go_away_fail_the_backup(
    line: Line, cluster: QdrantCluster, filled: httpx.Client
) -> None:
    """A scheduler would wait for new ones for ever."""
    del filled
    with dask(1, processes=False) as workers:
        address = workers.scheduler_address.removeprefix("tcp://")
        for node in cluster.nodes:
            node.faults.stall(PARTIAL, count=None)

        def leave() -> None:
            until(lambda: any(node.faults.calls[PARTIAL] for node in cluster.nodes))
            workers.scale(0)
            until(lambda: not workers.scheduler.workers)

        leaving = threading.Thread(target=leave)
        leaving.start()
        told = line("backup", cluster.url, "--executor", f"dask://{address}?timeout=4", status=7)
        leaving.join(PATIENCE_S)
        for node in cluster.nodes:
            node.faults.clear()

    assert "no snapshot was made" in told
    assert line("snapshots")["snapshot_count"] == 0


def test_processes_of_this_machine(line: Line, cluster: QdrantCluster, filled: httpx.Client) -> None:
    del filled
    found = collection(line("backup", cluster.url, "--executor", "processes:1"))

    assert found["record_count"] == 200
    assert found["fingerprint"] == collection(line("backup", cluster.url, "--scan"))["fingerprint"]


def test_a_source_without_shards_is_read_here(line: Line, tmp_path: Path) -> None:
    told = line("backup", f"edge://{tmp_path}/none", "--executor", "threads:2", status=4)

    assert "none" in told


def test_without_the_extra_it_says_what_to_install(
    line: Line, cluster: QdrantCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    told = line("backup", cluster.url, "--executor", "dask://127.0.0.1:8786", status=2)

    assert "recollect[dask]" in told


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("threads:3", ExecutorPlace(kind="threads", count=3)),
        ("processes:2", ExecutorPlace(kind="processes", count=2)),
        ("dask://host:8786", ExecutorPlace(kind="dask", address="tcp://host:8786")),
        ("dask://[::1]:1?timeout=2.5", ExecutorPlace(kind="dask", address="tcp://[::1]:1", timeout_s=2.5)),
        ("dask+tls://host:8786", ExecutorPlace(kind="dask", address="tls://host:8786")),
    ],
)
def test_forms_of_executors(text: str, place: ExecutorPlace) -> None:
    assert parse_executor(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "threads",
        "threads:0",
        "threads:-1",
        "threads:9999",
        "processes:two",
        "dask",
        "dask://",
        "dask://host",
        "dask://host:0",
        "dask://host:99999",
        "dask://user:word@host:8786",
        "dask://host:8786/path",
        "dask://host:8786?wait=3",
        "dask://host:8786?timeout=0",
        "ray://host:1",
        "",
    ],
)
def test_what_is_no_executor_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_executor(text)


@contextmanager
def killing(workers: Dask, cluster: QdrantCluster) -> Iterator[list[int]]:
    """Let the first stream of a node stall, and kill the process that waits for it."""
    killed: list[int] = []
    cluster.nodes[0].faults.stall(PARTIAL, count=1)

    def kill() -> None:
        until(lambda: cluster.nodes[0].faults.calls[PARTIAL] > 0 and len(busy(workers)) == 1)
        killed.extend(busy(workers))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        thread.join(PATIENCE_S)
        cluster.nodes[0].faults.clear()


def busy(workers: Dask) -> list[int]:
    """Return the process ids of the workers that have something to do."""
    states = dict(workers.scheduler.workers)
    nannies = [each for each in workers.workers.values() if each.worker_address in states]
    return [nanny.pid for nanny in nannies if states[nanny.worker_address].processing]


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that another process brings about."""
    waiting, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came about"
        waiting.wait(0.005)
