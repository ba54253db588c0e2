"""Processes are killed with signal 9 at random moments: nothing committed is lost, and the next run works."""

from __future__ import annotations

import importlib.util
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from recollect.repository import layout
from recollect.storage.base import find_debris
from recollect.testing.driver import Driver
from recollect.testing.model import State, state_of
from recollect.testing.records import build_records
from recollect.testing.strategies import SOME_VECTORS

SCRIPT = Path(__file__).with_name("killable.py")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("killable", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


killable = load_script()


def expected_of(turn: int) -> State:
    return state_of([build_records(SOME_VECTORS, killable.rows_of(turn))], SOME_VECTORS)


def run_until_killed(path: Path, first_turn: int, noise: random.Random) -> list[int]:
    """Let the script commit at least once, and kill it a random time later; returns the turns it reported."""
    child = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path), str(first_turn)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        reported = [int(child.stdout.readline())]
        time.sleep(noise.random() * 0.4)
        child.send_signal(signal.SIGKILL)
        reported += [int(line) for line in child.stdout.read().splitlines()]
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    return reported


def assert_all_restore(driver: Driver) -> list[int]:
    """Check every snapshot to the last record; returns their turns."""
    assert driver.verify().is_sound
    turns = []
    for snapshot in driver.catalog().list():
        turn = int(snapshot.name.removeprefix("turn "))
        assert driver.verify(snapshot.id).is_sound
        assert driver.restored(snapshot.id) == {"c": expected_of(turn)}
        turns.append(turn)
    return turns


def check_rounds(path: Path, rounds: int, noise: random.Random) -> None:
    driver = killable.open_driver(str(path))
    driver.init()
    first_turn = 0
    for _ in range(rounds):
        reported = run_until_killed(path, first_turn, noise)

        turns = assert_all_restore(driver)
        assert reported[-1] in turns, "a reported snapshot is gone"
        assert max(turns) - reported[-1] <= 1, "at most one commit came after the last report"
        first_turn = max(turns) + 1

    driver.prune()
    assert_all_restore(driver)
    needed = {layout.object_key(each.digest) for s in driver.catalog().list() for each in s.objects()}
    assert {item.key for item in driver.store.list(layout.OBJECTS)} == needed
    assert not [key for key in driver.stored_keys() if key.startswith((layout.LEASES, layout.FENCES))]
    assert list(find_debris(driver.store)) == []


@pytest.mark.timeout(3600)
def test_killed_backups_and_prunes_lose_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    rounds = pytestconfig.getoption("--kill-rounds")

    check_rounds(tmp_path / "repository", rounds, random.Random(1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_kills_lose_nothing(tmp_path: Path) -> None:
    check_rounds(tmp_path / "repository", 40, random.Random(2))


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Both forget and prune what the other has made, and are killed in the middle of it."""
    path = tmp_path / "repository"
    driver = killable.open_driver(str(path))
    driver.init()
    children = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(path), str(turn)], stdout=subprocess.PIPE, text=True
        )
        for turn in (0, 1000)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            for _ in range(3):
                assert child.stdout.readline(), "it died by itself"
    finally:
        for child in children:
            child.kill()
            child.communicate()

    assert assert_all_restore(driver)
    driver.prune()
    assert_all_restore(driver)
