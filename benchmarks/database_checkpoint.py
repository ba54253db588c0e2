"""What a checkpoint costs: its own time and bytes against churn, and the stall of a writer meanwhile.

Usage: python benchmarks/database_checkpoint.py [--records 500000] [--dimension 384] [--directory DIR]

A writer commits one state value after another, as fast as it can, and notes how long each commit
took: first alone, then while checkpoints run. Every figure is printed with its unit.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recollect.database import CheckpointOptions, Database, DatabaseOptions, VectorOptions

AGENTS = 100


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--fsync", default="commit", choices=["commit", "interval", "off"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        run(Path(directory), options.records, options.dimension, options.fsync)


def run(directory: Path, records: int, dimension: int, fsync: str) -> None:
    """Fill a database, then measure checkpoints of it."""
    # The HNSW index of so many vectors is built on all cores for minutes, checkpoint or not: left out here.
    manual = DatabaseOptions(
        checkpoints=CheckpointOptions(commit_interval=0), vectors=VectorOptions(hnsw_row_count_min=0)
    )
    with Database.open(directory, fsync=fsync, options=manual) as db:  # type: ignore[arg-type]
        fill(db, records, dimension)
        busy, own = processor_times()
        report("writer alone", commits_during(db, lambda: time.sleep(5)))
        measure(db, f"first checkpoint, {records:,} vectors and keys", dimension)
        for share in (0.0, 0.001, 0.01, 0.1):
            change(db, int(records * share), dimension, records)
            measure(db, f"{share:.1%} of vectors and keys changed", dimension)
        busy_now, own_now = processor_times()
        others = (busy_now - busy) - (own_now - own)
        print(f"processor time: {own_now - own:.1f} s here, {others:.1f} s in other programs and the kernel")


def processor_times() -> tuple[float, float]:
    """Return the seconds that all processors and this process were busy (Linux)."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest[:2])) / os.sysconf("SC_CLK_TCK"), time.process_time()


def fill(db: Database, records: int, dimension: int) -> None:
    """Write vectors with metadata, and as many state keys."""
    generator = np.random.default_rng(7)
    step = 20_000
    for start in range(0, records, step):
        ids = [f"record-{number:08d}" for number in range(start, min(start + step, records))]
        vectors = generator.standard_normal((len(ids), dimension), dtype=np.float32)
        db.vectors.set_many(ids, vectors, [{"number": number} for number in range(len(ids))])
    per_agent = records // AGENTS
    for agent in range(AGENTS):
        keys = [f"key-{number:06d}" for number in range(per_agent)]
        db.state.set_many("bench", f"agent-{agent}", keys, [{"n": number} for number in range(per_agent)])


def change(db: Database, count: int, dimension: int, records: int) -> None:
    """Overwrite random vectors and keys."""
    if not count:
        return
    generator = np.random.default_rng(count)
    chosen = generator.choice(records, count, replace=False)
    vectors = generator.standard_normal((count, dimension), dtype=np.float32)
    db.vectors.set_many([f"record-{number:08d}" for number in chosen], vectors)
    for agent in range(AGENTS):
        part = [f"key-{number:06d}" for number in range(count // AGENTS)]
        db.state.set_many("bench", f"agent-{agent}", part, [{"n": -1}] * len(part))


def measure(db: Database, what: str, dimension: int) -> None:
    """Take one checkpoint under load and print what it cost and what it did to the writer."""
    costs: list[str] = []

    def work() -> None:
        started = time.perf_counter()
        snapshot = db.checkpoint()
        took = time.perf_counter() - started
        changed = {entry.name: entry.changes.total for entry in snapshot.collections}
        raw = changed.get("vectors", 0) * dimension * 4
        costs.append(f"{took:8.2f} s {snapshot.stored_bytes / 1e6:10.1f} MB (vectors raw {raw / 1e6:.1f} MB)")

    latencies = commits_during(db, work)
    print(f"{what:45s} {costs[0]}")
    report("  writer meanwhile", latencies)


def commits_during(db: Database, work: Callable[[], None]) -> list[float]:
    """Commit one value after another while `work` runs; return the seconds that each commit took."""
    latencies: list[float] = []
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            started = time.perf_counter()
            db.state.set("bench", "writer", f"k{number % 1000}", number)
            latencies.append(time.perf_counter() - started)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        work()
    finally:
        done.set()
        writer.join()
    return latencies


def report(what: str, latencies: list[float]) -> None:
    """Print the distribution of latencies in milliseconds."""
    values = np.array(latencies) * 1000
    marks = " ".join(f"p{mark:g} {np.percentile(values, mark):7.3f}" for mark in (50, 99, 99.9))
    print(f"{what:45s} {len(values):7d} commits, ms: {marks} max {values.max():7.3f}")


if __name__ == "__main__":
    main()
