"""A process to be killed: backs up, tags, forgets and prunes in a loop until it is.

Usage: killable.py REPOSITORY FIRST_TURN. The records of a turn follow from its number alone, so
whoever looks at a snapshot knows what it must hold.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys

from recollect.clock import SystemClock
from recollect.errors import ConflictError, NotFoundError
from recollect.operations.backup import BackupOptions
from recollect.storage.local import LocalStore
from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS

KEPT = 3


class HastyClock(SystemClock):
    """Real time without the driver's pause between two backups."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.005))


def rows_of(turn: int) -> list[Row]:
    """Return the records of a turn: most as before, some changed, some gone, some new."""
    return [
        Row(
            id=each,
            payload={"since": turn - (turn - each) % 7, "text": "x" * (each % 50)},
            vectors={"": [each / 3, float(turn - (turn - each) % 11)]},
        )
        for each in range(turn % 5, 150 + turn % 9)
    ]


def open_driver(path: str) -> Driver:
    driver = Driver(LocalStore(path), clock=HastyClock())
    driver.random_bytes = os.urandom
    return driver


def main(path: str, first_turn: int) -> None:
    driver = open_driver(path)
    for turn in itertools.count(first_turn):
        driver.create("c", SOME_VECTORS, rows_of(turn))
        compare = "nothing" if turn % 4 == 3 else "changes"  # makes garbage once it is forgotten
        identity = driver.backup(BackupOptions(name=f"turn {turn}", compare=compare)).snapshot.id  # type: ignore[arg-type]
        sys.stdout.write(f"{turn}\n")
        sys.stdout.flush()
        with contextlib.suppress(NotFoundError, ConflictError):  # another process forgot at the same time
            driver.catalog().tag(identity, add=["tagged"])
            stale = driver.catalog().ids()[:-KEPT]
            if stale:
                driver.forget(*stale)
            driver.prune()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
