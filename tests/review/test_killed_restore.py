"""A killed restore into a directory leaves something behind; the next one takes it away, and nothing else."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recollect.cli.main import main
from recollect.testing.sample.__main__ import SCHEMA, sample_batch
from recollect.testing.sample.__main__ import main as make_sample
from recollect.wiring import open_target, system_context

DEADLINE_S = 60
# Fills a staging directory, tells so, and stands there until it is killed.
WRITER = """
import sys
from recollect.testing.sample.__main__ import SCHEMA, sample_batch
from recollect.wiring import open_target, system_context
staged = open_target(sys.argv[1], system_context()).stage("restored", SCHEMA, ())
staged.write(sample_batch())
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def repository(tmp_path: Path) -> str:
    place = str(tmp_path / "repository")
    assert make_sample([str(tmp_path / "sentences")]) == 0
    assert main(["init", "-r", place]) == 0
    assert main(["backup", str(tmp_path / "sentences"), "-r", place]) == 0
    return place


def hidden(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir() if entry.name.startswith("."))


def start_writing(place: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def test_what_a_killed_restore_left_goes_with_the_next_one(tmp_path: Path, repository: str) -> None:
    place = tmp_path / "there" / "restored"
    process = start_writing(place)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    assert len(hidden(place.parent)) == 1

    assert main(["restore", "latest", str(place), "-r", repository]) == 0

    assert [entry.name for entry in place.parent.iterdir()] == ["restored"]


def test_a_restore_that_is_under_way_keeps_its_directory(tmp_path: Path, repository: str) -> None:
    place = tmp_path / "there" / "restored"
    process = start_writing(place)
    try:
        before = hidden(place.parent)
        assert main(["restore", "latest", str(place), "-r", repository]) == 0
        assert hidden(place.parent) == before
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def test_what_may_be_the_only_copy_stays(tmp_path: Path, repository: str) -> None:
    """A switch of two renames was killed between them: the old shard is away, the new one not in place."""
    place = tmp_path / "there" / "restored"
    staged = open_target(str(place), system_context()).stage("restored", SCHEMA, ())
    staged.write(sample_batch())
    staged.finish()
    [name] = hidden(place.parent)
    kept = place.parent / (".restored.recollect-" + "0" * 26)
    shutil.copytree(place.parent / name, kept)
    staged.discard()
    shutil.copytree(kept, kept.with_name(kept.name + ".replaced"))
    elsewhere = place.parent / (".other.recollect-" + "0" * 26)
    shutil.copytree(kept, elsewhere)

    assert main(["restore", "latest", str(place), "-r", repository]) == 0

    assert hidden(place.parent) == [elsewhere.name, kept.name, kept.name + ".replaced"]
