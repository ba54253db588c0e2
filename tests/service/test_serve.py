from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recollect.clock import ManualClock, SystemClock
from recollect.database import CheckpointOptions, Database, DatabaseOptions, LogOptions
from recollect.database.archive import Archiver
from recollect.errors import NotFoundError, RecollectError, RequestError
from recollect.repository.repository import Repository, create_repository
from recollect.service.daemon import Daemon
from recollect.service.options import ServeOptions, load_options
from recollect.storage.base import StoredObject
from recollect.storage.memory import MemoryStore

LOCAL = "statehouse.address=127.0.0.1:0"
LOCAL_NVECD = "nvecd.address=127.0.0.1:0"


def options(
    *settings: str, data: str = "", config: str = "", environment: dict[str, str] | None = None
) -> ServeOptions:
    return load_options(
        data=data, config=config, settings=(LOCAL_NVECD, *settings), environment=environment or {}
    )


def daemon(found: ServeOptions, repository: Repository | None = None) -> Daemon:
    def opened(_url: str) -> Repository:
        assert repository is not None
        return repository

    return Daemon(found, clock=SystemClock(), random_bytes=os.urandom, open_repository=opened)


def test_statehouses_environment_is_honoured() -> None:
    found = options(
        environment={
            "STATEHOUSE_DATA_DIR": "/data",
            "STATEHOUSE_FSYNC_ON_COMMIT": "0",
            "STATEHOUSE_SNAPSHOT_INTERVAL": "500",
            "STATEHOUSE_MAX_LOG_SIZE": "1000",
            "STATEHOUSE_TX_TIMEOUT_MS": "250",
            "STATEHOUSE_ADDR": "0.0.0.0:1",
            "STATEHOUSE_LISTEN_ADDR": "0.0.0.0:2",
            "STATEHOUSE_USE_MEMORY": "0",
        }
    )
    assert (found.data, found.fsync, found.use_memory) == ("/data", "interval", False)
    assert found.checkpoints.commit_interval == 500
    assert found.log.segment_bytes_max == 1000
    assert found.statehouse.address == "0.0.0.0:2"
    assert found.database_options().transaction_timeout_s == 0.25
    assert options(environment={"STATEHOUSE_USE_MEMORY": "1"}).use_memory
    assert options(data="/d", environment={"STATEHOUSE_FSYNC_ON_COMMIT": ""}).fsync == "commit"
    assert options("log.fsync_interval_s=2", data="/d").log.segment_bytes_max == 104_857_600


@pytest.mark.parametrize("name", ["server.toml", "server.yaml"])
def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, name: str) -> None:
    config = tmp_path / name
    if name.endswith("toml"):
        config.write_text(
            'fsync = "off"\n[checkpoints]\nkeep_last = 7\ncommit_interval = 1\n[events]\ndecay_alpha = 0.5\n'
        )
    else:
        config.write_text(
            "fsync: 'off'\ncheckpoints: {keep_last: 7, commit_interval: 1}\nevents: {decay_alpha: 0.5}\n"
        )

    found = options(
        "checkpoints.commit_interval=3",
        data="/d",
        config=str(config),
        environment={"RECOLLECT_SERVE_CHECKPOINTS_COMMIT_INTERVAL": "2", "RECOLLECT_SERVE_FSYNC": "interval"},
    )

    assert (found.fsync, found.checkpoints.keep_last, found.checkpoints.commit_interval) == ("interval", 7, 3)
    assert found.events is not None
    assert found.events.decay_alpha == 0.5


def test_wrong_options_are_named(tmp_path: Path) -> None:
    for setting, message in (
        ("nonsense=1", "'nonsense' is unknown"),
        ("statehouse.port=1", "'statehouse.port' is unknown"),
        ("fsync=never", "fsync"),
        ("checkpoints.keep_last=many", "keep_last"),
        ("data", "sets nothing"),
        ("checkpoints.commit_interval=-1", "checkpoints.commit_interval must be 0 or more"),
        ("log.segment_bytes_max=0", "log.segment_bytes_max must be positive"),
        ("vectors.metric=manhattan", "vectors.metric"),
        ("events.ctx_buffer_size=0", "events.ctx_buffer_size must be positive"),
        ("statehouse.transaction_timeout_ms=0", "transaction_timeout_ms must be positive"),
        ("statehouse.address=localhost", "statehouse.address is 'localhost', which is no address"),
        ("statehouse.address=localhost:70000", "no address"),
        ("drain_s=-1", "drain_s"),
        ("drain_s=nan", "drain_s"),
        ("archive.interval_s=1e300", "archive.interval_s"),
    ):
        with pytest.raises(RequestError, match=message):
            options(setting, data="/d")
    with pytest.raises(RequestError, match="no data directory"):
        options()
    with pytest.raises(RequestError, match="STATEHOUSE_FSYNC_ON_COMMIT is 'sure', which is neither"):
        options(data="/d", environment={"STATEHOUSE_FSYNC_ON_COMMIT": "sure"})
    with pytest.raises(NotFoundError, match="no configuration file"):
        options(config=str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("= 1")
    with pytest.raises(RequestError, match="not well-formed"):
        options(config=str(broken))


def test_a_server_ends_with_a_checkpoint_and_its_json(tmp_path: Path) -> None:
    server = daemon(options(LOCAL, data=str(tmp_path)))
    server.start()
    assert server.database is not None
    server.database.state.set("default", "a", "k", {"v": 1})
    server.stop()

    assert json.loads((tmp_path / "snapshots" / "snapshot-1.json").read_text())["commit_ts"] == 1
    with Database.open(tmp_path) as db:
        assert db.commit_ts == 1
        assert db.newest_checkpoint is not None


def test_a_server_archives_what_it_has_at_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    repository = create_repository(MemoryStore(), now=clock.now(), random_bytes=os.urandom)
    server = daemon(
        options(LOCAL, "archive.repository=x", "archive.interval_s=60", data=str(tmp_path)), repository
    )
    server.start()
    assert server.database is not None
    for number in range(5):
        server.database.state.set("default", "a", "k", number)
    server.stop()

    assert [item.key[-20:] for item in repository.store.list("journal")] == ["00000000000000000005"]


def test_what_fails_at_the_end_does_not_keep_the_rest_from_being_done(tmp_path: Path) -> None:
    clock = ManualClock()
    repository = create_repository(MemoryStore(), now=clock.now(), random_bytes=os.urandom)
    server = daemon(
        options(LOCAL, LOCAL_NVECD, "archive.repository=x", "archive.interval_s=60", data=str(tmp_path)),
        repository,
    )
    server.start()
    assert server.database is not None
    server.database.state.set("default", "a", "k", 1)
    (tmp_path / "snapshots").write_text("in the way")

    with pytest.raises(RecollectError, match="JSON snapshot"):
        server.stop()

    assert len(list(repository.store.list("journal"))) == 1
    Database.open(tmp_path).close()


def test_archiving_goes_on_after_a_failure_of_any_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Watched(fails_at=1)
    repository = create_repository(store, now=ManualClock().now(), random_bytes=os.urandom)
    server = daemon(
        options(LOCAL, LOCAL_NVECD, "archive.repository=x", "archive.interval_s=0.01", data=str(tmp_path)),
        repository,
    )
    server.start()
    assert server.database is not None
    server.database.state.set("default", "a", "k", 1)

    assert store.was_shipped.wait(30)  # so there was a pass after the one that failed
    server.stop()
    assert "archive failed and is tried again" in caplog.text


def test_a_gap_of_the_archive_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Watched()
    repository = create_repository(store, now=ManualClock().now(), random_bytes=os.urandom)
    short = DatabaseOptions(
        log=LogOptions(segment_bytes_max=300),
        checkpoints=CheckpointOptions(commit_interval=0, log_window_s=0.0, keep_last=1),
    )
    with Database.open(tmp_path, fsync="off", options=short) as db:
        archiver = Archiver(tmp_path, repository, clock=SystemClock(), random_bytes=os.urandom)
        db.state.set("n", "a", "k", 0)
        archiver.run_once()
        for number in range(30):
            db.state.set("n", "a", "k", number)
        db.checkpoint()
        assert archiver.run_once().gaps
        archiver.close()
    server = daemon(
        options(LOCAL, LOCAL_NVECD, "archive.repository=x", "archive.interval_s=0.01", data=str(tmp_path)),
        repository,
    )
    server.start()
    assert server.database is not None
    for number in range(3):  # each by a pass of its own
        store.was_shipped.clear()
        server.database.state.set("n", "a", "k", number)
        assert store.was_shipped.wait(30)
    server.stop()

    assert caplog.text.count("The archive lacks commits") == 1


class Watched(MemoryStore):
    """Tells when a piece was shipped; one listing of the journal fails by what nobody foresaw."""

    def __init__(self, fails_at: int = 0) -> None:
        super().__init__()
        self._fails_at = fails_at
        self._count = 0
        self.was_shipped = threading.Event()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        if prefix.startswith("journal"):
            self._count += 1
            if self._count == self._fails_at:
                raise ZeroDivisionError
        return super().list(prefix)

    def put_if_absent(self, key: str, data: bytes) -> None:
        super().put_if_absent(key, data)
        if key.startswith("journal"):
            self.was_shipped.set()


def test_in_memory_nothing_stays(tmp_path: Path) -> None:
    server = daemon(options(LOCAL, environment={"STATEHOUSE_USE_MEMORY": "1"}))
    server.start()
    assert server.database is not None
    path = server.database.path
    server.database.state.set("default", "a", "k", 1)
    server.stop()

    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_the_command_in_order(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "recollect",
        "serve",
        "--data",
        str(tmp_path / "db"),
        "--set",
        LOCAL,
        "--set",
        LOCAL_NVECD,
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["message_type"] == "ready"
        assert ready["statehouse_port"] > 0
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "Listening on" in errors
    assert "Stopped" in errors


def test_counters_are_logged_when_they_changed_and_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="recollect.service")
    server = daemon(options(LOCAL, data=str(tmp_path)))
    server.start()
    assert server.database is not None
    assert server._counters is not None
    server._counters.write()
    server.database.state.set("default", "a", "k", 1)
    server._counters.write()
    server._counters.write()
    server.database.state.set("default", "a", "k", 2)
    server.stop()

    lines = [one.getMessage() for one in caplog.records if one.getMessage().startswith("Counters")]
    assert [line.split(" commit_ts=")[1].split()[0] for line in lines] == ["1", "2"]
    assert "transactions_committed=0" in lines[0]
