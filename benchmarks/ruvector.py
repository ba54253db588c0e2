"""Snapshots of the ruvector face: how fast, how small, and how much an incremental one costs.

Run: python -m benchmarks.ruvector --data embeddings.npy   (without --data: the project's own sample, tiled)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.data import embeddings, payload
from recollect.compat.ruvector import Snapshot, SnapshotConfig, SnapshotManager
from recollect.database import Database, DatabaseOptions, VectorOptions

LOAD_ROWS = 10_000
CHURNS = (0.0, 0.001, 0.01, 0.05, 0.2)
TICK_S = 0.001
IDLE_SHARE = 0.9
GZIP_SAMPLE_BYTES = 64 << 20  # Python's gzip is slow; its speed and ratio do not depend on how much it gets


def main() -> None:
    """Load a database, and measure one thing after the other."""
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="ruvector-", dir=options.directory))
    try:
        asyncio.run(_measure(options, root))
    finally:
        shutil.rmtree(root)


async def _measure(options: argparse.Namespace, root: Path) -> None:
    generator = np.random.default_rng(options.seed)
    manual = DatabaseOptions(vectors=VectorOptions(hnsw_row_count_min=0))  # no index is built beside the work
    database = Database.open(root / "database", fsync="off", options=manual)
    raw_bytes, sample = await asyncio.to_thread(_load, database, options, generator)
    print(
        f"{options.records} x {options.dimension}, {raw_bytes / 1e6:.0f} MB of vectors and metadata",
        flush=True,
    )
    if options.index:
        started = time.perf_counter()
        await asyncio.to_thread(database.vectors.build_index, root / "vectors.usearch")
        print(f"HNSW index built in {time.perf_counter() - started:.1f} s", flush=True)
    await _idle()
    print(
        f"\n| full snapshot, best of {options.repeats} "
        "| s | CPU s | MB/s | ratio | loop late, ms | of that own, ms |"
    )
    print("|---|---|---|---|---|---|---|")
    await _full(database, options, root, raw_bytes)
    _gzip_row(sample, options.level)
    config = SnapshotConfig(snapshot_dir=root / "snapshots", compression_level=options.level)
    manager = SnapshotManager(config)
    base = await manager.create_snapshot(database, "base")
    files = {
        path.name: path.stat().st_size for path in (root / "snapshots" / f"snapshot-{base.id}").iterdir()
    }
    print("\nfiles of the full snapshot:", {name: files[name] for name in sorted(files)})
    last = await _incrementals(database, manager, base, options, generator)
    print("\n| read back | s | CPU s | MB/s | loop late, ms | of that own, ms | peak RSS more, MB |")
    print("|---|---|---|---|---|---|---|")
    await _read_back(manager, base, "full", root, raw_bytes)
    await _read_back(manager, last, "incremental", root, raw_bytes)
    print()
    await _idle()
    database.close()


async def _idle() -> None:
    taken = await _timed(partial(asyncio.sleep, 3.0))
    load = os.getloadavg()[0]
    print(
        f"an idle event loop is late by up to {taken.late_s * 1e3:.1f} ms; load average {load:.1f}",
        flush=True,
    )


def _load(
    database: Database, options: argparse.Namespace, generator: np.random.Generator
) -> tuple[int, bytes]:
    raw_bytes, sample = 0, bytearray()
    for start in range(0, options.records, LOAD_ROWS):
        count = min(LOAD_ROWS, options.records - start)
        matrix = embeddings(options.data, count, options.dimension, generator)
        metadata = [
            msgspec.json.encode(payload(start + row, generator), order="sorted") for row in range(count)
        ]
        database.vectors.set_many([f"doc-{start + row}" for row in range(count)], matrix, metadata)
        texts = b"\n".join(metadata)
        raw_bytes += matrix.nbytes + len(texts)
        if len(sample) < GZIP_SAMPLE_BYTES:
            sample += matrix.tobytes() + texts
    return raw_bytes, bytes(sample[:GZIP_SAMPLE_BYTES])


async def _full(database: Database, options: argparse.Namespace, root: Path, raw_bytes: int) -> None:
    """Take turns between the settings, and print the best of each: other load comes and goes."""
    cases: dict[str, dict[str, Any]] = {
        "one thread": {"max_concurrent_io": 1},
        "two threads": {"max_concurrent_io": 2},
        "two threads, not compressed": {"max_concurrent_io": 2, "compression": False},
    }
    taken: dict[str, list[Taken]] = {name: [] for name in cases}
    for _ in range(options.repeats):
        for name, settings in cases.items():
            config = SnapshotConfig(snapshot_dir=root / "full", compression_level=options.level, **settings)
            manager = SnapshotManager(config)
            taken[name].append(await _timed(partial(manager.create_snapshot, database, "full")))
            shutil.rmtree(root / "full")
    for name, results in taken.items():
        best = min(results, key=lambda one: one.wall_s)
        late_ms, kept_ms = (
            1e3 * max(times) for times in zip(*((one.late_s, one.kept_s) for one in results), strict=True)
        )
        ratio = raw_bytes / best.result.size_bytes
        speed = raw_bytes / best.wall_s / 1e6
        print(
            f"| {name} | {best.wall_s:.2f} | {best.cpu_s:.2f} | {speed:.0f} | {ratio:.3f} | "
            f"{late_ms:.1f} | {kept_ms:.1f} |",
            flush=True,
        )


def _gzip_row(sample: bytes, level: int) -> None:
    started = time.perf_counter()
    size = len(gzip.compress(sample, level))
    seconds = time.perf_counter() - started
    speed = len(sample) / seconds / 1e6
    print(
        f"| Python's gzip, level {level}, {len(sample) >> 20} MiB of it "
        f"| {seconds:.2f} | {seconds:.2f} | {speed:.0f} | "
        f"{len(sample) / size:.3f} | | |",
        flush=True,
    )


async def _incrementals(
    database: Database,
    manager: SnapshotManager,
    base: Snapshot,
    options: argparse.Namespace,
    generator: np.random.Generator,
) -> Snapshot:
    print(
        "\n| changed since the base | s | CPU s | bytes | of a full one "
        "| bytes a changed record | loop late, ms | of that own, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    last = base
    done = 0
    for churn in CHURNS:
        wanted = int(options.records * churn)
        count = wanted - done  # all of these are measured against the same base
        done = wanted
        if count:
            rows = generator.choice(options.records, count, replace=False)
            matrix = embeddings(options.data, count, options.dimension, generator)
            await asyncio.to_thread(
                database.vectors.set_many,
                [f"doc-{row}" for row in rows],
                matrix,
                [msgspec.json.encode(payload(int(row), generator)) for row in rows],
            )
        create = manager.create_incremental_snapshot
        taken = await _timed(partial(create, database, f"churn-{churn}", base.id))
        last = taken.result
        counts = [last.metadata[name] for name in ("added_or_changed", "metadata_changed", "removed")]
        changed = sum(counts)
        each = last.size_bytes / changed if changed else 0
        took, size = f"{taken.wall_s:.2f} | {taken.cpu_s:.2f}", last.size_bytes
        share, part = 100 * changed / options.records, 100 * size / base.size_bytes
        print(
            f"| {changed} records ({share:.1f} %) | {took} | {size} | {part:.2f} % | {each:.0f} | "
            f"{taken.late_s * 1e3:.1f} | {taken.kept_s * 1e3:.1f} |",
            flush=True,
        )
    return last


async def _read_back(
    manager: SnapshotManager, snapshot: Snapshot, name: str, root: Path, raw_bytes: int
) -> None:
    async def stream() -> int:
        count = 0
        async for batch in manager.stream_snapshot(snapshot.id):
            count += len(batch.ids)
        return count

    async def restore() -> None:
        database = await manager.restore_snapshot(snapshot.id, root / f"restored-{name}")
        await asyncio.to_thread(database.free)

    async def restore_in_steps() -> None:
        async with manager.stream_restore(snapshot.id, root / f"streamed-{name}") as steps:
            async for _ in steps:
                pass
        await asyncio.to_thread(steps.database.free)

    async def verify() -> None:
        assert await manager.verify_snapshot(snapshot.id)

    for verb, work in (
        ("verify", verify),
        ("stream", stream),
        ("restore", restore),
        ("restore in steps", restore_in_steps),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        taken = await _timed(work)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"| {verb} the {name} one | {taken.wall_s:.2f} | {taken.cpu_s:.2f} | "
            f"{raw_bytes / taken.wall_s / 1e6:.0f} | {taken.late_s * 1e3:.1f} | "
            f"{taken.kept_s * 1e3:.1f} | {grown:.0f} |",
            flush=True,
        )


@dataclass(frozen=True)
class Taken:
    """What some work took, and its result.

    Attributes:
        late_s: The longest that the event loop was late.
        kept_s: The same without the time in which a thread of this process waited for a core: what
            the process did to itself.
    """

    wall_s: float
    cpu_s: float
    late_s: float
    kept_s: float
    result: Any


def _wait_for_quiet() -> None:
    """Wait until other programs leave the processor alone for a moment, two seconds at most."""
    for _ in range(8):
        before = _processor_times()
        time.sleep(0.25)
        idle, all_of_it = (new - old for new, old in zip(_processor_times(), before, strict=True))
        if idle >= IDLE_SHARE * all_of_it:
            return


def _processor_times() -> tuple[int, int]:
    times = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return times[3], sum(times)


def _core_waits() -> dict[str, float]:
    """Return for each thread of this process how long it could run and had no core so far, in seconds."""
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended just now
            found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found


async def _timed(work: Callable[[], Awaitable[Any]]) -> Taken:
    late, kept = 0.0, 0.0

    async def watch() -> None:
        nonlocal late, kept
        while True:
            waits, started = _core_waits(), time.perf_counter()
            await asyncio.sleep(TICK_S)
            now = time.perf_counter() - started - TICK_S
            late = max(late, now)
            if now > kept:
                after = _core_waits()
                waited = sum(wait - waits.get(name, 0.0) for name, wait in after.items())
                kept = max(kept, now - waited)

    await asyncio.to_thread(_wait_for_quiet)
    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    started, cpu = time.perf_counter(), time.process_time()
    result = await work()
    taken = Taken(time.perf_counter() - started, time.process_time() - cpu, late, kept, result)
    watcher.cancel()
    return taken


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--level", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--index", action="store_true", help="build an HNSW index first: a minute or two")
    parser.add_argument("--data", type=Path, help=".npy of float32 embeddings to tile and perturb")
    parser.add_argument("--directory", type=Path, help="where to work; a temporary directory by default")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
