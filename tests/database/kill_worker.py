"""A process that writes until it is killed; it prints each acknowledged commit."""

from __future__ import annotations

import sys
import threading

import numpy as np

from recollect.database import CheckpointOptions, Database, DatabaseOptions, LogOptions

OPTIONS = DatabaseOptions(
    log=LogOptions(segment_bytes_max=20_000),
    checkpoints=CheckpointOptions(commit_interval=40, log_window_s=0.0),
)


def main() -> None:
    """Open the database, then let several threads commit to all stores at once."""
    database = Database.open(sys.argv[1], options=OPTIONS)
    sys.stdout.write(f"ready {database.commit_ts}\n")
    sys.stdout.flush()
    lock = threading.Lock()

    def write(agent: int) -> None:
        number = database.state.get("ns", f"a{agent}", "count").value or 0
        while True:
            number += 1
            with database.begin() as transaction:
                transaction.write("ns", f"a{agent}", "count", number)
                transaction.vectors.set(f"v{agent}", np.full(16, number, dtype=np.float32), {"n": number})
                transaction.events.set(f"c{agent}", f"i{agent}", number)
                transaction.write("ns", f"a{agent}", f"k{number % 7}", "x" * (number % 50))
            with lock:
                sys.stdout.write(f"{agent} {number}\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=write, args=(agent,), daemon=True) for agent in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
