"""Backups of a changing Qdrant Edge shard beside restic, borg and tar: time, CPU, memory, stored bytes.

One shard of the real engine; a first backup, then rounds of churn with a backup each, then a restore.
Every tool backs up the same directory in the same round, each as a process of its own.
"""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import qdrant_edge

import recollect
from benchmarks.data import embeddings, payload
from benchmarks.peers import Measured, Tool, available, directory_bytes, measure

LOAD_ROWS = 1000


class Recollect(Tool):
    """This project, by its command line."""

    name = "recollect"

    def prepare(self) -> None:
        """Create the repository. The program is compiled first, as installing a package does."""
        compileall.compile_dir(str(Path(recollect.__file__).parent), quiet=1)
        measure([*self._command("init")])

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "recollect", *words, "-r", str(self.repository)]

    def backup(self, source: Path, number: int) -> Measured:  # noqa: ARG002
        """Back the shard up."""
        return measure([*self._command("backup", f"edge://{source}?name=bench"), "--debug"])

    def backup_scan(self, source: Path) -> Measured:
        """Back the shard up, reading every record instead of trusting the engine's versions."""
        return measure(self._command("backup", f"edge://{source}?name=bench", "--scan"))

    def restore(self, target: Path) -> Measured:
        """Restore with proof."""
        return measure(self._command("restore", "latest", f"edge://{target}?name=bench"))


def main() -> None:
    """Run the benchmark and print Markdown tables."""
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="recollect-bench-", dir=options.directory))
    try:
        _run(options, root)
    finally:
        shutil.rmtree(root)


def _run(options: argparse.Namespace, root: Path) -> None:
    generator = np.random.default_rng(options.seed)
    source = root / "shard"
    live = create_shard(source, options, generator)
    tools: list[Tool] = [Recollect(root), *available(root)]
    times: dict[str, list[Measured]] = {tool.name: [] for tool in tools}
    growth: dict[str, list[int]] = {tool.name: [] for tool in tools}
    print(f"shard: {options.records} x {options.dimension}, {directory_bytes(source) / 1e6:.0f} MB of files")
    for number in range(options.rounds + 1):
        if number:
            live = churn_shard(source, live, options, generator)
        for tool in tools:
            before = tool.stored_bytes()
            times[tool.name].append(tool.backup(source, number))
            growth[tool.name].append(tool.stored_bytes() - before)
        print(
            f"round {number}: " + ", ".join(f"{n} {t[-1].wall_s:.2f} s" for n, t in times.items()), flush=True
        )
    _report_backups(times, growth)
    _report_restores(tools, root)


def create_shard(source: Path, options: argparse.Namespace, generator: np.random.Generator) -> np.ndarray:
    """Make a shard of `records` points with an HNSW index; returns their ids."""
    parameters = qdrant_edge.EdgeVectorParams(size=options.dimension, distance=qdrant_edge.Distance.Cosine)
    hnsw = qdrant_edge.HnswIndexConfig(m=options.hnsw_m, ef_construct=64, full_scan_threshold=10000)
    source.mkdir(parents=True)
    shard = qdrant_edge.EdgeShard.create(
        str(source), qdrant_edge.EdgeConfig(vectors=parameters, hnsw_config=hnsw)
    )
    ids = np.arange(options.records, dtype=np.uint64)
    started = time.perf_counter()
    _upsert(shard, ids, options, generator)
    shard.update(
        qdrant_edge.UpdateOperation.create_field_index("kind", qdrant_edge.PayloadSchemaType.Keyword)
    )
    print(f"loaded in {time.perf_counter() - started:.0f} s", flush=True)
    started = time.perf_counter()
    shard.optimize()
    shard.flush()
    shard.close()
    print(f"optimized in {time.perf_counter() - started:.0f} s", flush=True)
    return ids


def _upsert(
    shard: qdrant_edge.EdgeShard, ids: np.ndarray, options: argparse.Namespace, generator: np.random.Generator
) -> None:
    for start in range(0, len(ids), LOAD_ROWS):
        part = ids[start : start + LOAD_ROWS]
        vectors = embeddings(options.data, len(part), options.dimension, generator)
        points = [
            qdrant_edge.Point(int(record_id), vector.tolist(), payload(int(record_id), generator))
            for record_id, vector in zip(part, vectors, strict=True)
        ]
        shard.update(qdrant_edge.UpdateOperation.upsert_points(points))


def churn_shard(
    source: Path, live: np.ndarray, options: argparse.Namespace, generator: np.random.Generator
) -> np.ndarray:
    """Change 1.5 % of the records: 0.75 % upserted, 0.25 % new, 0.25 % deleted, 0.25 % payload only."""
    shard = qdrant_edge.EdgeShard.load(str(source))
    quarter = max(1, options.records // 400)
    chosen = generator.choice(live, 5 * quarter, replace=False)
    fresh = np.arange(quarter, dtype=np.uint64) + live.max() + 1
    _upsert(shard, np.concatenate([chosen[: 3 * quarter], fresh]), options, generator)
    deleted, touched = chosen[3 * quarter : 4 * quarter], chosen[4 * quarter :]
    operation = qdrant_edge.UpdateOperation
    shard.update(operation.delete_points([int(record_id) for record_id in deleted]))
    shard.update(operation.set_payload([int(record_id) for record_id in touched], {"seen": int(fresh[0])}))
    shard.optimize()
    shard.flush()
    shard.close()
    return np.concatenate([np.setdiff1d(live, deleted), fresh])


def _report_backups(times: dict[str, list[Measured]], growth: dict[str, list[int]]) -> None:
    print(
        "\n| tool | first s | first CPU s | round s (median) | round s (max) | round CPU s | peak RSS MB |"
        " first MB | round MB (median) | all MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, taken in times.items():
        first, rounds = taken[0], taken[1:] or taken
        walls = [one.wall_s for one in rounds]
        cpus = [one.cpu_s for one in rounds]
        added = growth[name]
        print(
            f"| {name} | {first.wall_s:.1f} | {first.cpu_s:.1f} | {statistics.median(walls):.2f} | "
            f"{max(walls):.2f} | {statistics.median(cpus):.2f} | "
            f"{max(one.peak_rss for one in taken) / 1e6:.0f} | {added[0] / 1e6:.1f} | "
            f"{statistics.median(added[1:] or added) / 1e6:.1f} | {sum(added) / 1e6:.1f} |"
        )
    slower = [
        number
        for number, (ours, theirs) in enumerate(
            zip(times["recollect"], times.get("restic", []), strict=False)
        )
        if ours.wall_s > theirs.wall_s
    ]
    print(f"\nrounds in which recollect was slower than restic: {slower or 'none'}")
    print(json.dumps({name: [round(one.wall_s, 2) for one in taken] for name, taken in times.items()}))


def _report_restores(tools: list[Tool], root: Path) -> None:
    print("\n| tool | restore s | CPU s | peak RSS MB |")
    print("|---|---|---|---|")
    for tool in tools:
        target = root / f"restored-{tool.name}"
        taken = tool.restore(target)
        print(
            f"| {tool.name} | {taken.wall_s:.1f} | {taken.cpu_s:.1f} | {taken.peak_rss / 1e6:.0f} |",
            flush=True,
        )
        shutil.rmtree(target)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--hnsw-m", type=int, default=16, help="0 builds no index: quicker rounds")
    parser.add_argument("--data", type=Path, help=".npy of float32 embeddings to tile and perturb")
    parser.add_argument("--directory", type=Path, help="where to work; a temporary directory by default")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
