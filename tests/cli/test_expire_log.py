"""`prune --expire-log`: archived log before the oldest base goes when it is asked for, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from recollect.database import Database
from tests.cli.conftest import Run


@pytest.fixture
def archived(run: Run, repo: str, tmp_path: Path) -> str:
    """Return a repository with archived commits 1 to 5, a whole backup at 5, and commits up to 9."""
    data = tmp_path / "data"

    def write(first: int, last: int) -> None:
        with Database.open(data, fsync="off") as database:
            for number in range(first, last + 1):
                database.state.set("ns", "agent", "key", number)

    write(1, 5)
    assert run("archive", str(data), "-r", repo).code == 0
    assert run("backup", f"recollect://{data}", "-r", repo).code == 0
    write(6, 9)
    assert run("archive", str(data), "-r", repo).code == 0
    return repo


def test_log_before_the_oldest_base_goes_only_when_asked_for(run: Run, archived: str, tmp_path: Path) -> None:
    plain = run("prune", "-r", archived, "--json").summary
    planned = run("prune", "--expire-log", "--dry-run", "-r", archived, "--json").summary
    before = run("recover", archived, "--list", "--json").of_type("range")
    done = run("prune", "--expire-log", "-r", archived, "--json").summary
    after = run("recover", archived, "--list", "--json").of_type("range")

    assert (plain["log_piece_count"], plain["log_deleted_count"]) == (0, 0)
    assert (planned["log_piece_count"], planned["log_deleted_count"]) == (1, 0)
    assert done["log_deleted_count"] == 1
    assert done["log_deleted_bytes"] == planned["log_bytes"] > 0
    assert before[-1]["first_ts"] < 5
    assert (after[0]["first_ts"], after[-1]["last_ts"]) == (5, 9)
    assert run("recover", archived, "--to", "commit:7", "--into", str(tmp_path / "at-7")).code == 0
    with Database.open(tmp_path / "at-7") as database:
        assert database.state.get("ns", "agent", "key").value == 7
