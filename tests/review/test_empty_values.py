"""An option that is given without content is not taken for one that was left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from recollect.cli.main import main


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["forget", "--keep-last", "1", "--keep-daily", ""], "--keep-daily"),
        (["forget", "--keep-within", ""], "--keep-within"),
        (["forget", "--keep-tag", ""], "--keep-tag"),
        (["forget", "--keep-last", "1", "--source", ""], "--source"),
        (["forget", "--keep-last", "1", "--host="], "--host"),
        (["forget", "--keep-last", "1", "--tag", ""], "--tag"),
        (["forget", ""], "SNAPSHOTS"),
        (["verify", "--against", ""], "--against"),
        (["verify", "--read-data-subset", ""], "--read-data-subset"),
        (["verify", ""], "SNAPSHOT"),
        (["restore", "latest", "memory:x", "--ids", ""], "--ids"),
        (["backup", "memory:x", "--collection", ""], "--collection"),
    ],
)
def test_an_empty_value_stops_the_command(
    words: list[str], shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "repository")
    assert main(["init", "-r", place]) == 0

    assert main([*words, "-r", place]) == 2
    assert f"{shown} is empty" in capsys.readouterr().err


def test_an_empty_repository_is_not_the_one_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECOLLECT_REPOSITORY", str(tmp_path / "repository"))
    assert main(["init"]) == 0

    assert main(["prune", "-r", ""]) == 2
    assert "--repo is empty" in capsys.readouterr().err


def test_what_is_kept_by_tag_must_be_a_tag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "repository")
    assert main(["init", "-r", place]) == 0

    assert main(["forget", "--keep-tag", "a,b", "-r", place]) == 2
    assert "not a valid tag" in capsys.readouterr().err
