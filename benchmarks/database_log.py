"""Commits per second by fsync mode, replay, start-up and memory of the embedded database.

Usage: python benchmarks/database_log.py [--operations 1000000] [--directory DIR]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from recollect.database import CheckpointOptions, Database, DatabaseOptions, FsyncMode

MANUAL = DatabaseOptions(checkpoints=CheckpointOptions(commit_interval=0))
MODES: tuple[FsyncMode, ...] = ("commit", "interval", "off")


def main() -> None:
    """Run all parts and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        root = Path(directory)
        memory(root / "memory")  # first: later parts leave freed memory behind that would count as free
        for mode in MODES:
            for threads in (1, 8):
                commits(root / f"{mode}-{threads}", mode, threads)
        replay(root / "replay", options.operations)


def commits(path: Path, mode: FsyncMode, thread_count: int, seconds: float = 3.0) -> None:
    """Commit small state values from several threads for a while."""
    counts = [0] * thread_count
    with Database.open(path, fsync=mode, options=MANUAL) as db:
        end = time.perf_counter() + seconds

        def write(agent: int) -> None:
            while time.perf_counter() < end:
                db.state.set("bench", f"agent-{agent}", f"key-{counts[agent] % 1000}", {"n": counts[agent]})
                counts[agent] += 1

        threads = [threading.Thread(target=write, args=(agent,)) for agent in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"fsync={mode:8s} {thread_count} threads: {sum(counts) / seconds:10,.0f} commits/s")


def replay(path: Path, operations: int) -> None:
    """Write a log of one operation a commit, and open the database at several lengths of it."""
    done = 0
    for length in (operations // 100, operations // 10, operations):
        with Database.open(path, fsync="off", options=MANUAL) as db:
            while done < length:
                db.state.set("bench", f"agent-{done % 100}", f"key-{done % 50_000}", {"n": done})
                done += 1
        size = sum(file.stat().st_size for file in (path / "log").iterdir())
        started, worked = time.perf_counter(), time.process_time()
        Database.open(path, options=MANUAL).close()
        took, worked = time.perf_counter() - started, time.process_time() - worked
        print(
            f"start-up with {length:9,d} commits in the log ({size / 1e6:7.1f} MB): "
            f"{took:6.2f} s, {worked:6.2f} s of one core"
        )
    with Database.open(path, options=MANUAL) as db:
        started = time.perf_counter()
        db.checkpoint()
        print(f"checkpoint of {operations:,d} versions: {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    Database.open(path, options=MANUAL).close()
    print(f"start-up from that checkpoint: {time.perf_counter() - started:.2f} s (the log is verified too)")


def memory(path: Path, count: int = 200_000, dimension: int = 384) -> None:
    """Fill a database and say what it takes beyond the raw bytes."""
    with Database.open(path, fsync="off", options=MANUAL) as db:
        before = resident()
        for start in range(0, count, 10_000):
            ids = [f"record-{number:08d}" for number in range(start, start + 10_000)]
            db.vectors.set_many(ids, np.ones((10_000, dimension), dtype=np.float32))
        taken = resident() - before
        raw = count * (dimension * 4 + 15)
        print(f"{count:,d} vectors: {(taken - raw) / count:6.0f} bytes each beyond the raw {raw // count}")
        before = resident()
        for agent in range(count // 10_000):
            keys = [f"key-{number:06d}" for number in range(10_000)]
            db.state.set_many("bench", f"agent-{agent}", keys, [{"n": number} for number in range(10_000)])
        taken = resident() - before
        print(f"{count:,d} state keys: {taken / count - 20:6.0f} bytes each beyond key and value (about 20)")


def resident() -> int:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
