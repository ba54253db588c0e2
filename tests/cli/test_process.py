"""What only a real process shows: signals, pipes, terminals, start-up."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "recollect"]
DEADLINE_S = 60


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """An environment with nothing of the caller's in it but what a program needs."""
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **variables}


def call(tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words],
        env=environment(tmp_path, **variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_help_lists_every_command_without_loading_the_heavy_libraries(tmp_path: Path) -> None:
    probe = "import sys, recollect.cli.main as m; m.main(['--help']); print(sorted(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment(tmp_path), capture_output=True, text=True, check=True
    )

    assert "verify" in done.stdout
    assert not {"'pyarrow'", "'numpy'", "'qdrant_edge'", "'msgspec'"} & set(
        done.stdout.split("[")[-1].split(", ")
    )


def test_a_backup_of_a_shard_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Other adapters, and pandas, which Arrow would import unasked: most of a second between them."""
    edge = pytest.importorskip("qdrant_edge")
    shard, repository = tmp_path / "shard", tmp_path / "repository"
    shard.mkdir()
    vectors = edge.EdgeVectorParams(size=2, distance=edge.Distance.Dot)
    opened = edge.EdgeShard.create(str(shard), edge.EdgeConfig(vectors=vectors))
    opened.update(edge.UpdateOperation.upsert_points([edge.Point(1, [1.0, 2.0], {"n": 1})]))
    opened.close()
    assert call(tmp_path, "init", "-r", str(repository)).returncode == 0

    words = [
        "backup",
        f"edge://{shard}",
        "-r",
        str(repository),
        "--tag",
        "a",
        "--tag",
        "b",
        "--name",
        "first",
    ]
    done = call(tmp_path, *words, PYTHONPROFILEIMPORTTIME="1")

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "recollect.engines.edge.source" in loaded
    assert not loaded & {
        "pandas._libs",  # its own name stands there even when it is not found
        "grpc",
        "recollect.database",
        "recollect.engines.qdrant.source",
        "recollect.executors",
        "distributed",
        "pydantic",
    }


def test_exit_codes_reach_the_shell(tmp_path: Path) -> None:
    assert call(tmp_path, "snapshots", "-r", str(tmp_path / "none")).returncode == 10
    assert call(tmp_path, "snapshots").returncode == 2
    assert call(tmp_path).returncode == 0


# Tests that run in the background inherit "ignore interrupts", and so would what they start.
INTERRUPTIBLE = (
    sys.executable,
    "-c",
    (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    ),
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_130_and_says_what_is_safe(tmp_path: Path, number: signal.Signals) -> None:
    """The settings' command stands for any long wait; it tells when it has begun."""
    marker = tmp_path / "begun"
    command = f"sh -c 'touch {marker}; exec sleep {DEADLINE_S}'"
    process = subprocess.Popen(
        [*INTERRUPTIBLE, *PROGRAM, "backup", "memory:x", "--json"],
        env=environment(tmp_path, RECOLLECT_REPOSITORY_COMMAND=command),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + DEADLINE_S
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    # Until `subprocess.run` waits for the command, an interrupt does not end it.
    time.sleep(0.3)

    process.send_signal(number)
    _, stderr = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 130
    error = json.loads(stderr)
    assert (error["kind"], error["code"]) == ("cancelled", 130)
    assert "no snapshot was made" in error["next_step"]


def test_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [*PROGRAM, "completion", "bash"],
        env=environment(tmp_path),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    os.close(writer)

    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0)])
def test_a_closed_standard_stream_is_no_bug(tmp_path: Path, closed: str, code: int) -> None:
    shell = f"exec {' '.join(PROGRAM)} init -r {tmp_path}/repository {closed}"

    done = subprocess.run(
        ["sh", "-c", shell], env=environment(tmp_path), capture_output=True, timeout=DEADLINE_S, check=False
    )

    assert (done.returncode, done.stderr) == (code, b"")
    assert (tmp_path / "repository" / "recollect.json").is_file()


def on_terminal(tmp_path: Path, *words: str, **variables: str) -> str:
    """Run with a terminal as standard output and return what it showed."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *words], env=environment(tmp_path, TERM="xterm", **variables), stdout=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:  # Linux answers EIO once the other side is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(DEADLINE_S) == 0
    os.close(controller)
    return shown.decode("utf-8")


def test_a_terminal_gets_emphasis_and_a_pipe_none(tmp_path: Path) -> None:
    assert "\x1b[1m" in on_terminal(tmp_path, "config")
    assert "\x1b" not in on_terminal(tmp_path, "config", NO_COLOR="1")
    assert "\x1b" not in call(tmp_path, "config").stdout
