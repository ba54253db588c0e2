"""A disk that is full, or about to be, under a shard that is restored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recollect.cli.main import main
from recollect.testing.sample.__main__ import main as make_sample


@pytest.mark.parametrize("roomy_calls", [0, 1])
def test_a_restore_onto_a_full_disk_is_an_error_that_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    roomy_calls: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECOLLECT_REPOSITORY", "repository")
    assert make_sample(["sentences"]) == 0
    assert main(["init"]) == main(["backup", "sentences"]) == 0
    before = sorted(each.name for each in tmp_path.iterdir())
    answers = iter([os.statvfs(tmp_path)] * roomy_calls)
    full = os.statvfs_result((4096, 4096, 1000, 5, 5, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: next(answers, full))

    assert main(["restore", "latest", "restored"]) == 7

    assert "20480 bytes are free" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == before


def test_bringing_records_back_onto_a_full_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECOLLECT_REPOSITORY", "repository")
    assert make_sample(["sentences"]) == 0
    assert main(["init"]) == main(["backup", "sentences"]) == 0
    edge = pytest.importorskip("qdrant_edge")
    shard = edge.EdgeShard.load("sentences")
    shard.update(edge.UpdateOperation.delete_points([1, 2]))
    shard.close()
    full = os.statvfs_result((4096, 4096, 1000, 5, 5, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)

    assert main(["restore", "latest", "sentences", "--ids", "1,2", "--replace"]) == 7

    assert "20480 bytes are free" in capsys.readouterr().err
