"""`recollect-nvecd`: command line, configuration, signals, in real processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recollect.compat.nvecd.config.load import load_settings, parse_settings
from recollect.compat.nvecd.main import Arguments, parse_arguments
from recollect.errors import RequestError
from tests.nvecd.clients import Client
from tests.nvecd.snapshots import GOLDEN

COMMAND = [sys.executable, "-c", "import sys; from recollect.compat.nvecd.main import main; sys.exit(main())"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_is_that_of_nvecd() -> None:
    assert parse_arguments(["-c", "x"]) == parse_arguments(["x"]) == Arguments(config=Path("x"))
    assert parse_arguments(["x", "-t"]) == Arguments(config=Path("x"), is_test=True)
    assert parse_arguments([]) == Arguments()
    assert parse_arguments(["a", "b"]) == "Error: Multiple config files specified"
    assert parse_arguments(["-c"]) == "Error: -c requires a file path"
    assert (
        parse_arguments(["--what"]) == "Error: Unknown option: --what\nUse -h or --help for usage information"
    )
    missing = "Error: --config-test requires a configuration file (-c <file> or positional path)"
    assert parse_arguments(["-t"]) == missing


def test_a_configuration_is_tested_without_serving(tmp_path: Path) -> None:
    done = run("-t", str(GOLDEN / "config.yaml"))
    assert done.returncode == 0
    assert done.stdout.startswith(
        "Configuration file is valid\n\nConfiguration summary:\n  Events:\n    ctx_buffer_size: 100\n"
    )
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("snapshot: {dir: x, retention: 3}\n")
    failed = run("-t", "-c", str(wrong))
    assert failed.returncode == 1
    assert "unknown field `retention` - at `$.snapshot`" in failed.stderr


@pytest.mark.parametrize(
    "text",
    [
        "unknown: {}",
        "events: {ctx: 1}",
        "api: {tcp: {port: 1, host: x}}",
        "events: {ctx_buffer_size: 5}",
        "events: {ctx_buffer_size: many}",
        "snapshot: {mode: both}",
        "snapshot: {retain: 101}",
        "similarity: {default_top_k: 200, max_top_k: 100}",
        "api: {tcp: {port: '80'}}",
        "- a list",
        "a: [",
    ],
)
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_settings(text, "test")


def test_an_empty_configuration_lets_nobody_in(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert load_settings(empty).network.allow_cidrs == []


def test_a_server_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
api: {{tcp: {{port: 0}}}}
network: {{allow_cidrs: ["127.0.0.1/32"]}}
snapshot: {{dir: "{tmp_path / "s"}", mode: lock}}
wal: {{enabled: true, dir: "{tmp_path / "wal"}"}}
logging: {{json: false}}
"""
    )
    for round_number in range(2):
        process = subprocess.Popen([*COMMAND, str(config)], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            port = 0
            while not port:
                line = process.stderr.readline()
                assert line, "the server ended"
                match = re.search(r"listening on 127.0.0.1:(\d+)", line)
                port = int(match[1]) if match else 0
            client = Client(port)
            assert client.ask(f"VECSET v{round_number} 1 2") == "OK VECSET"
            assert client.ask("SIMV 9 1 2") == f"OK RESULTS {round_number + 1}"
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert "server stopped gracefully" in process.stderr.read()
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
