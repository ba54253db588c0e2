"""What is printed arrives, whatever the terminal, the names and the order of the words."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from recollect.cli import main as program
from recollect.cli.main import main
from recollect.cli.output import Output, json_line
from recollect.clock import ManualClock

Words = Callable[..., tuple[int, str]]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Words:
    """Run a command in this process, in an empty directory; returns its exit code and all that it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        return code, "".join(capsys.readouterr())

    return run


def test_common_options_may_stand_before_the_command(words: Words) -> None:
    assert words("-r", "place", "init")[0] == 0
    assert words("--repo=place", "--json", "snapshots") == words("snapshots", "--json", "-r", "place")
    assert words("-q", "-r", "place", "snapshots") == (0, "")
    assert words("-r") == words("--repo") or words("-r")[0] == 2


def test_a_terminal_that_lacks_a_character_gets_an_escape_and_no_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = BytesIO()
    stream = TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(program, "_load", lambda _: lambda: sys.stdout.write("a … b\n") and None)

    assert main(["version"]) == 0
    assert written.getvalue() == b"a \\u2026 b\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = main(["version"])
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())

    assert code == 7
    assert "standard output cannot be written: No space left" in capsys.readouterr().err


def test_an_interrupt_between_parsing_and_command_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_load", lambda _: interrupted)

    assert main(["version"]) == 130
    assert "stopped on request" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_escaped_in_json() -> None:
    name = os.fsdecode(b"caf\xe9")

    assert json.loads(json_line("x", {"name": name}))["name"] == name


def test_names_in_sentences_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    Output("text", 0, ManualClock()).say("snapshot of \x1b[2Jevil\u202e\nnext line")

    assert capsys.readouterr().out == "snapshot of \\x1b[2Jevil\\u202e\nnext line\n"


def test_an_error_is_one_line(words: Words) -> None:
    code, text = words("completion")

    assert code == 2
    assert len(text.splitlines()) == 2
    assert "\\n" not in text
