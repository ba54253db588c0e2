"""Wrong input: the exit code, one sentence, and what to do next; and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from recollect.cli import main as entry
from recollect.engines.memory import MemoryEngine
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["backup", "memory:x"], 2, "no repository is named"),
        (["snapshots", "-r", "/does/not/exist"], 10, "no repository at"),
        (["snapshots", "-r", "ftp://host/x"], 2, "ftp:"),
        (["frobnicate"], 2, "frobnicate"),
        (["snapshots", "--frobnicate"], 2, "--frobnicate"),
        (["show"], 2, "SNAP"),
        (["config", "--config", "/does/not/exist.toml"], 4, "no settings file"),
    ],
)
def test_a_wrong_request_is_explained(run: Run, words: list[str], code: int, message: str) -> None:
    result = run(*words)

    assert result.code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr.splitlines()[0]
    assert "\nnext: " in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["backup"], 2, "no source is named"),
        (["backup", "redis://host"], 2, "redis"),
        (["backup", "memory:cli-empty"], 4, "no collections"),
        (["backup", "{source}", "--collection", "absent"], 4, "absent"),
        (["backup", "{source}", "--tag", "two words"], 2, "two words"),
        (["backup", "{source}", "--full", "--scan"], 2, "--full and --scan"),
        (["show", "absent"], 4, "absent"),
        (["ls", "latest~9"], 4, "latest~9"),
        (["ls", "latest", "--collection", "absent"], 4, "absent"),
        (["diff", "{source}", "{source}"], 2, "live databases"),
        (["diff", "latest", "absent"], 4, "absent"),
        (["verify", "--read-data-subset", "8/7"], 2, "8/7"),
        (["verify", "--read-data-subset", "0%"], 2, "0%"),
        (["verify", "--read-data", "--against", "{source}"], 2, "--against"),
        (["verify", "--collection", "docs"], 2, "--against"),
        (["restore", "latest", "{source}", "--collection", "absent"], 4, "absent"),
        (["restore", "latest", "{source}", "--collection", "docs:"], 2, "docs:"),
        (["forget"], 2, "no rule"),
        (["forget", "--keep-daily", "many"], 2, "--keep-daily"),
        (["forget", "--keep-within", "soon"], 2, "soon"),
        (["forget", "latest", "--keep-last", "1"], 2, "policy"),
        (["tag", "latest"], 2, "no tag is named"),
        (["search", "latest"], 2, "one query"),
        (["search", "latest", "--like", "99"], 4, "99"),
        (["search", "latest", "--like", "1", "-k", "0"], 2, "k must be"),
        (["search", "latest", "--vector", "/does/not/exist"], 4, "no file"),
        (["search", "latest", "--like", "1", "--using", "absent"], 2, "absent"),
        (["export", "latest", "{existing}"], 5, "exists"),
        (["completion", "powershell"], 2, "powershell"),
    ],
)
def test_a_wrong_request_on_a_repository_is_explained_and_changes_nothing(
    run: Run, repo: str, engine: MemoryEngine, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    source = engine.info().url
    run("backup", source, "-r", repo)
    existing = tmp_path / "existing.parquet"
    existing.write_text("mine", "utf-8")
    before = run("verify", "--read-data", "-r", repo, "--json").stdout

    words = [word.format(source=source, existing=existing) for word in words]
    result = run(*words, "-r", repo, "--json")

    assert (result.code, result.error["code"]) == (code, code)
    assert message in result.error["message"]
    assert result.error["message_type"] == "exit_error"
    assert run("verify", "--read-data", "-r", repo, "--json").stdout == before
    assert existing.read_text("utf-8") == "mine"


def test_a_bug_is_reported_as_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(entry, "build_app", broken)

    plain = run("snapshots")
    traced = run("snapshots", "--debug")

    assert plain.code == traced.code == 1
    assert plain.stderr.startswith("error: a bug in Recollect")
    assert "Traceback" not in plain.stderr
    assert "Traceback" in traced.stderr


def test_names_cannot_move_the_cursor(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", engine.info().url, "-r", repo, "--name", "red\x1b[31m")

    assert "\x1b" not in run("snapshots", "-r", repo).stdout
