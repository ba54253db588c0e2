"""How large the pieces of physical files should be: stored bytes and listed pieces over rounds of churn.

One shard of the real engine with an HNSW index; after each round of churn and optimizer run, its files are
cut as `operations.files` cuts them, at several sizes, and what no earlier round had is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard

from benchmarks.edge_rounds import churn_shard, create_shard
from recollect.operations.files import ZSTD_LEVEL

SIZES = {"64 KiB": 1 << 16, "256 KiB": 1 << 18, "1 MiB": 1 << 20, "4 MiB": 1 << 22, "whole files": 1 << 40}


class Cut:
    """Files cut at one size; remembers every piece that it has seen."""

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._seen: set[bytes] = set()
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        self.first_bytes = 0
        self.all_bytes = 0
        self.new_objects = 0
        self.listed = 0
        self.seconds = 0.0

    def take(self, directory: Path) -> None:
        """Store a state of the shard."""
        started = time.perf_counter()
        self.listed = 0
        for content in self._pieces(directory):
            self.listed += 1
            digest = hashlib.sha256(content).digest()
            if digest not in self._seen:
                self._seen.add(digest)
                self.all_bytes += len(self._compressor.compress(content))
                self.new_objects += 1
        self.first_bytes = self.first_bytes or self.all_bytes
        self.seconds += time.perf_counter() - started

    def _pieces(self, directory: Path) -> Iterator[bytes]:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                while content := file.read(min(self._piece_bytes, path.stat().st_size + 1)):
                    if content.strip(b"\0"):
                        yield content


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="recollect-bench-", dir=options.directory))
    try:
        _run(options, root / "shard")
    finally:
        shutil.rmtree(root)


def _run(options: argparse.Namespace, shard: Path) -> None:
    generator = np.random.default_rng(options.seed)
    live = create_shard(shard, options, generator)
    cuts = {name: Cut(size) for name, size in SIZES.items()}
    for number in range(options.rounds + 1):
        if number:
            live = churn_shard(shard, live, options, generator)
        for cut in cuts.values():
            cut.take(shard / "segments")
    print("\n| pieces | first MB | rounds MB | objects | listed by a snapshot | s of cutting |")
    print("|---|---|---|---|---|---|")
    for name, cut in cuts.items():
        print(
            f"| {name} | {cut.first_bytes / 1e6:.1f} | {(cut.all_bytes - cut.first_bytes) / 1e6:.1f} | "
            f"{cut.new_objects} | {cut.listed} | {cut.seconds:.1f} |"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--hnsw-m", type=int, default=16)
    parser.add_argument("--data", type=Path, help=".npy of float32 embeddings to tile and perturb")
    parser.add_argument("--directory", type=Path, help="where to work; a temporary directory by default")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
