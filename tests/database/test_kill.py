"""kill -9 at random moments under concurrent load.

A handful of rounds by default; `RECOLLECT_KILL_ROUNDS=200` runs as many as it says.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from recollect.database import Database
from tests.database.kill_worker import OPTIONS

ROUNDS = int(os.environ.get("RECOLLECT_KILL_ROUNDS", "5"))
WORKER = Path(__file__).with_name("kill_worker.py")


def test_a_killed_process_loses_nothing_acknowledged_and_leaves_nothing_half(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    acknowledged = dict.fromkeys(range(4), 0)
    last_ts = 0
    for turn in range(ROUNDS):
        for agent, number in run_and_kill(tmp_path, lines=chance.randrange(1, 150)):
            acknowledged[agent] = max(acknowledged[agent], number)

        with Database.open(tmp_path, options=OPTIONS) as db:
            total = 0
            for agent, number in acknowledged.items():
                found = db.state.get("ns", f"a{agent}", "count").value or 0
                assert found >= number, f"round {turn}: commit {number} of agent {agent} is lost"
                record = db.vectors.get(f"v{agent}")
                assert (0 if record is None else record.vector[0]) == found
                assert (0 if record is None else (record.metadata or {})["n"]) == found
                events = db.events.events(f"c{agent}")
                assert (events[-1].score if events else 0) == found
                assert db.state.get("ns", f"a{agent}", "count").version == found
                total += found
            assert db.commit_ts == total, "every commit has a number, and every number a commit"
            assert db.commit_ts >= last_ts
            last_ts = db.commit_ts
    assert last_ts > 0


def run_and_kill(path: Path, *, lines: int) -> list[tuple[int, int]]:
    """Let the worker acknowledge some commits, kill it, and return what it acknowledged."""
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(WORKER.parents[2])},
    )
    assert worker.stdout is not None
    with worker.stdout as output:
        assert output.readline().startswith("ready")
        found = [output.readline() for _ in range(lines)]
        worker.kill()
        found += output.read().splitlines(keepends=True)
    worker.wait()
    whole = [line.split() for line in found if line.endswith("\n")]
    return [(int(agent), int(number)) for agent, number in whole]
