"""The command that an error advises works as it is printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from recollect.cli.advice import with_repository
from recollect.cli.main import main


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        (["show", "x", "-r", "a b"], "see `recollect ls 01ab -r 'a b'`"),
        (["show", "--repo=place", "x"], "see `recollect ls 01ab -r place`"),
        (["show", "-rplace", "x"], "see `recollect ls 01ab -r place`"),
        (["show", "x"], "see `recollect ls 01ab`"),
    ],
)
def test_advice_names_the_repository_as_it_was_given(words: list[str], advised: str) -> None:
    assert with_repository("see `recollect ls 01ab`", words) == advised


@pytest.mark.parametrize(
    "advice",
    [
        "list them with `recollect snapshots -r there`",
        "see `recollect show --help`",
        "run `recollect config`",
    ],
)
def test_advice_that_is_complete_stays(advice: str) -> None:
    assert with_repository(advice, ["show", "-r", "place"]) == advice


def test_printed_advice_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    repository = str(tmp_path / "a place")
    assert main(["init", "-r", repository]) == 0
    assert main(["backup", "memory:advice-without-collections", "-r", repository]) == 4
    capsys.readouterr()

    assert main(["show", "latest", "-r", repository]) == 4
    command = capsys.readouterr().err.split("`")[1]

    assert main(shlex.split(command)[1:]) == 0
