"""Run every benchmark at a size that takes a minute or two; each script alone takes larger ones."""

from __future__ import annotations

import argparse
import subprocess
import sys

# Script and arguments; those of `docs/benchmarks.md` are larger and stand there.
RUNS = (
    ("benchmarks.codecs",),
    ("benchmarks.edge_rounds", "--records", "20000", "--rounds", "5"),
    ("benchmarks.memory", "--records", "100000"),
    ("benchmarks.ruvector", "--records", "20000", "--index"),
    ("benchmarks.qdrant_capture", "--records", "5000", "--hnsw-m", "8"),
    ("benchmarks.qdrant_pieces", "--records", "5000", "--rounds", "4"),
)


def main() -> int:
    """Run all of them, or those that are named; returns the number that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of scripts, such as edge_rounds; all by default")
    wanted = parser.parse_args().names
    failed = 0
    for module, *arguments in RUNS:
        if wanted and module.rsplit(".", 1)[-1] not in wanted:
            continue
        print(f"\n# {module} {' '.join(arguments)}\n", flush=True)
        failed += subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
