"""Backups of a Qdrant server by records, with files, and by scrolling; restores by files and by records.

The test server is in this process, over the real engine; every backup and restore is a process of its own.
The server is Python and shares the machine, so times are those of both sides together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.data import embeddings, payload
from benchmarks.peers import directory_bytes
from recollect.testing.qdrant_server import QdrantServer

NAME = "bench"
LOAD_ROWS = 1000


class Way:
    """A repository and a spool of their own, and how backups are made into it."""

    def __init__(self, root: Path, name: str, *, query: str = "", flags: tuple[str, ...] = ()) -> None:
        self.name = name
        self._query = query
        self._flags = flags
        self.repository = root / f"repository-{name}"
        self._environment = {**os.environ, "RECOLLECT_SPOOL": str(root / f"spool-{name}")}
        self.run("init")

    def backup(self, server: QdrantServer, *, flags: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Back the server up; returns the summary, with `wall_s` and `grown_bytes`."""
        before = directory_bytes(self.repository)
        told = self.run("backup", server.url + self._query, *(self._flags if flags is None else flags))
        return {**told, "grown_bytes": directory_bytes(self.repository) - before}

    def run(self, *words: str) -> dict[str, Any]:
        """Run a command to its end; returns its summary, with `wall_s`."""
        started = time.perf_counter()
        command = [sys.executable, "-m", "recollect", *words, "-r", str(self.repository), "--json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}")
        return {**json.loads(done.stdout.splitlines()[-1]), "wall_s": time.perf_counter() - started}


class Data:
    """The collection, changed through the server's REST interface."""

    def __init__(self, server: QdrantServer, options: argparse.Namespace) -> None:
        self._server = server
        self._options = options
        self._generator = np.random.default_rng(options.seed)
        self._http = httpx.Client(base_url=server.rest_url, trust_env=False, timeout=300)
        self._live = np.arange(options.records)

    def create(self) -> None:
        """Make and fill the collection, and build its index."""
        hnsw = {"m": self._options.hnsw_m, "ef_construct": 64}
        vectors = {"size": self._options.dimension, "distance": "Cosine"}
        self._ask("PUT", f"/collections/{NAME}", {"vectors": vectors, "hnsw_config": hnsw})
        self.upsert(self._live)
        body = {"field_name": "kind", "field_schema": "keyword"}
        self._ask("PUT", f"/collections/{NAME}/index", body)
        self.optimize()

    def upsert(self, ids: np.ndarray) -> None:
        """Write records with new vectors and payloads."""
        for start in range(0, len(ids), LOAD_ROWS):
            part = ids[start : start + LOAD_ROWS]
            vectors = embeddings(self._options.data, len(part), self._options.dimension, self._generator)
            points = [
                {
                    "id": int(number),
                    "vector": vector.tolist(),
                    "payload": payload(int(number), self._generator),
                }
                for number, vector in zip(part, vectors, strict=True)
            ]
            self._ask("PUT", f"/collections/{NAME}/points?wait=true", {"points": points})

    def churn(self) -> None:
        """Change 1.5 %: 0.75 % upserted, 0.25 % new, 0.25 % deleted, 0.25 % payload only."""
        quarter = max(1, self._options.records // 400)
        chosen = self._generator.choice(self._live, 5 * quarter, replace=False)
        fresh = np.arange(quarter) + self._live.max() + 1
        self.upsert(np.concatenate([chosen[: 3 * quarter], fresh]))
        gone = [int(number) for number in chosen[3 * quarter : 4 * quarter]]
        touched = [int(number) for number in chosen[4 * quarter :]]
        points = f"/collections/{NAME}/points"
        self._ask("POST", f"{points}/delete?wait=true", {"points": gone})
        body = {"payload": {"seen": int(fresh[0])}, "points": touched}
        self._ask("POST", f"{points}/payload?wait=true", body)
        self._live = np.concatenate([np.setdiff1d(self._live, gone), fresh])

    def upsert_quarter(self) -> None:
        """Write a quarter of the records anew."""
        self.upsert(self._generator.choice(self._live, len(self._live) // 4, replace=False))

    def optimize(self) -> None:
        """Let the optimizers run until they find nothing to do."""
        _optimize(self._server, NAME)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _ask(self, method: str, path: str, body: Any) -> None:
        self._http.request(method, path, json=body).raise_for_status()


def main() -> None:
    """Run the benchmark and print Markdown tables."""
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="recollect-bench-", dir=options.directory))
    try:
        with QdrantServer(root / "server") as server:
            _run(options, root, server)
    finally:
        shutil.rmtree(root)


def _run(options: argparse.Namespace, root: Path, server: QdrantServer) -> None:
    data = Data(server, options)
    started = time.perf_counter()
    data.create()
    print(f"{options.records} x {options.dimension}, loaded and indexed in {_since(started)} s\n", flush=True)
    ways = [
        Way(root, "records"),
        Way(root, "files", flags=("--physical",)),
        Way(root, "scroll", query="&capture=scroll", flags=("--scan",)),
    ]
    steps: list[tuple[str, Callable[[], object]]] = [
        ("first backup", lambda: None),
        ("no change", lambda: None),
        ("1.5 % churn", data.churn),
        ("25 % upserted", data.upsert_quarter),
        ("optimizer rewrite, no change", data.optimize),
    ]
    print("| state | backup | transfer | on the wire MB | stored MB | s |")
    print("|---|---|---|---|---|---|")
    for title, change in steps:
        change()
        for way in ways:
            _report_backup(title, way.name, way.backup(server))
    with_files = ways[1]
    _report_restores(root, with_files, ("--fast", "--logical"), "of the state of the files")
    data.churn()
    with_files.backup(server, flags=())
    _report_restores(root, with_files, ("--fast",), "of 1.5 % churn after the files")
    data.close()


def _report_backup(title: str, name: str, told: dict[str, Any]) -> None:
    (collection,) = told["collections"]
    transfer = "/".join(sorted({shard["transfer"] for shard in collection["shards"]})) or "records"
    wire = sum(shard["transferred_bytes"] for shard in collection["shards"])
    sent = f"{wire / 1e6:.1f}" if transfer != "records" else "all records"
    grown = f"{told['grown_bytes'] / 1e6:.2f}"
    print(f"| {title} | {name} | {transfer} | {sent} | {grown} | {told['wall_s']:.1f} |", flush=True)


def _report_restores(root: Path, way: Way, flags: tuple[str, ...], title: str) -> None:
    print(f"\nRestore {title}:\n")
    print("| by | read MB | sent MB | s until verified and in place | s to index | planned s |")
    print("|---|---|---|---|---|---|")
    for flag in flags:
        place = root / "target"
        with QdrantServer(place) as target:
            (step,) = way.run("restore", "latest", target.url, flag, "--dry-run")["collections"]
            told = way.run("restore", "latest", target.url, flag)
            started = time.perf_counter()
            for name in _collections(target):
                _optimize(target, name)
            index = time.perf_counter() - started
        shutil.rmtree(place)
        planned = f"{step['seconds']:.0f} + {step['index_seconds']:.0f}"
        print(
            f"| {step['method']} | {step['stored_bytes'] / 1e6:.1f} | {step['sent_bytes'] / 1e6:.1f} | "
            f"{told['wall_s']:.1f} | {index:.1f} | {planned} |",
            flush=True,
        )


def _optimize(server: QdrantServer, name: str) -> None:
    while server.optimize(name):
        pass


def _collections(server: QdrantServer) -> list[str]:
    answer = httpx.get(f"{server.rest_url}/collections", trust_env=False).json()
    return [each["name"] for each in answer["result"]["collections"]]


def _since(started: float) -> int:
    return round(time.perf_counter() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--hnsw-m", type=int, default=16)
    parser.add_argument("--data", type=Path, help=".npy of float32 embeddings to tile and perturb")
    parser.add_argument("--directory", type=Path, help="where to work; a temporary directory by default")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
