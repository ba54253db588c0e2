"""nvecd's face in `recollect serve`, over the durable database; import and export."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from recollect.cli.main import main
from recollect.clock import SystemClock
from recollect.repository.repository import Repository
from recollect.service.daemon import Daemon
from recollect.service.options import load_options
from tests.nvecd.clients import Client
from tests.nvecd.snapshots import GOLDEN


def no_repository(url: str) -> Repository:
    raise AssertionError(url)


def daemon(data: Path, *settings: str) -> Daemon:
    chosen = ("statehouse.enabled=false", "nvecd.address=127.0.0.1:0", *settings)
    options = load_options(data=str(data), config="", settings=chosen, environment={})
    return Daemon(options, clock=SystemClock(), random_bytes=os.urandom, open_repository=no_repository)


def test_what_the_face_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    for round_number in range(2):
        server = daemon(tmp_path / "data")
        server.start()
        try:
            assert server.nvecd is not None
            client = Client(server.nvecd.server.port)
            assert client.ask(f"VECSET v{round_number} 1 2") == "OK VECSET"
            assert client.ask("SIMV 5 1 2") == f"OK RESULTS {round_number + 1}"
            client.lines(round_number + 1)
            saved = client.ask("DUMP SAVE")
            assert saved.startswith(f"OK Snapshot saved: {tmp_path}/data/nvecd/dump_")
            assert client.lines(4)[1] == f"vector_store_vectors: {round_number + 1}"
            client.close()
        finally:
            server.stop()


def test_a_configuration_of_nvecd_can_say_everything(tmp_path: Path) -> None:
    config = tmp_path / "nvecd.yaml"
    config.write_text(
        f"""
api: {{tcp: {{port: 0}}}}
network: {{allow_cidrs: ["127.0.0.1/32"]}}
snapshot: {{dir: "{tmp_path / "s"}"}}
security: {{requirepass: secret}}
"""
    )
    server = daemon(tmp_path / "data", f"nvecd.config={config}")
    server.start()
    try:
        assert server.nvecd is not None
        client = Client(server.nvecd.server.port)
        assert client.ask("VECSET a 1 2") == "ERROR NOAUTH Authentication required"
        client.close()
    finally:
        server.stop()


def test_import_and_export_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private = tmp_path / "files"
    private.mkdir(mode=0o700)
    source, repository = private / "a.nvec", str(tmp_path / "repository")
    source.write_bytes((GOLDEN / "example_meta.nvec").read_bytes())
    assert main(["init", "-r", repository]) == 0
    assert main(["import", str(source), "-r", repository, "--name", "old"]) == 0
    capsys.readouterr()
    assert main(["export", "old", str(private / "b.nvec"), "-r", repository, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["vector_count"], summary["event_count"]) == (4, 5)
    assert (private / "b.nvec").stat().st_size == source.stat().st_size
    source.write_bytes(source.read_bytes()[:-1] + b"x")
    assert main(["import", str(source), "-r", repository]) == 20


def test_what_a_configuration_leaves_out_is_as_without_one(tmp_path: Path) -> None:
    config = tmp_path / "nvecd.yaml"
    config.write_text("snapshot: {interval_sec: 7200, retain: 5}\n")  # as the documentation prints it
    server = daemon(tmp_path / "data", f"nvecd.config={config}")
    server.start()
    try:
        assert server.nvecd is not None
        client = Client(server.nvecd.server.port)
        assert client.ask("VECSET a 1 2") == "OK VECSET"
        saved = client.ask("DUMP SAVE a.nvec")
        assert saved == f"OK Snapshot saved: {tmp_path}/data/nvecd/a.nvec"
        assert server.nvecd.face.settings.snapshot.retain == 5
        client.close()
    finally:
        server.stop()


def test_metric_and_events_of_a_configuration_are_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "nvecd.yaml"
    config.write_text(
        "vectors: {distance_metric: dot}\nevents: {ctx_buffer_size: 10}\n"
        f"wal: {{enabled: true, dir: {tmp_path / 'wal'}}}\n"
    )
    server = daemon(tmp_path / "data", f"nvecd.config={config}")
    with caplog.at_level("INFO"):
        server.start()
    try:
        assert server.nvecd is not None
        client = Client(server.nvecd.server.port)
        client.ask("VECSET a 3 4")
        assert client.ask("SIMV 1 1 1") == "OK RESULTS 1"
        assert client.line() == "a 7.0000"
        for number in range(12):
            client.ask(f"EVENT c ADD item{number} 1")
        client.ask("DUMP SAVE a.nvec")
        client.lines(4)
        assert client.ask("DUMP LOAD a.nvec") == "OK Snapshot loaded: 10 events, 1 vectors"
        client.close()
    finally:
        server.stop()
    assert "wal.enabled is without effect" in caplog.text


def test_a_check_of_the_options_reads_the_configuration_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "nvecd.yaml"
    config.write_text("snapshot: {retain: 101}\n")
    words = ["serve", "--data", str(tmp_path / "d"), "--set", f"nvecd.config={config}", "--check-config"]
    assert main(words) != 0
    assert "$.snapshot.retain" in capsys.readouterr().err
    config.write_text("snapshot: {retain: 100}\n")
    assert main(words) == 0


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository, missing = str(tmp_path / "repository"), tmp_path / "missing.nvec"
    assert main(["init", "-r", repository]) == 0
    capsys.readouterr()
    assert main(["import", str(missing), "-r", repository]) == 4
    assert f"next: check the path {missing}" in capsys.readouterr().err
