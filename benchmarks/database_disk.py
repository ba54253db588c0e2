"""What the disk itself does: 1 KiB written and synced, alone and beside another program's writes.

Usage: python benchmarks/database_disk.py [--directory DIR] [--seconds 5]

Nothing of Recollect runs here. `overwrite` goes into a file that has all its blocks, so the file system's
journal has nothing to do; `append` goes to the end of a growing file, as in a log. The other
program writes files of 8 MiB and syncs each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FILE_BYTES = 64 << 20
WRITE = bytes(1024)
OTHER = """
import os, sys
data = os.urandom(8 << 20)
number = 0
while True:
    file = os.open(f"{sys.argv[1]}/other-{number % 8}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(file, data)
    os.fsync(file)
    os.close(file)
    number += 1
"""


def main() -> None:
    """Run all four parts and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory)
        measure("alone", path, options.seconds)
        other = subprocess.Popen([sys.executable, "-c", OTHER, directory])
        try:
            measure("beside writes", path, options.seconds)
        finally:
            other.kill()
            other.wait()


def measure(what: str, directory: Path, seconds: float) -> None:
    """Print how long a synced write took, into a file with all its blocks and at the end of one."""
    for kind in ("overwrite", "append"):
        path = directory / kind
        path.write_bytes(bytes(FILE_BYTES) if kind == "overwrite" else b"")
        descriptor = os.open(path, os.O_WRONLY)
        os.fsync(descriptor)
        taken = np.array(synced_writes(descriptor, seconds)) * 1000
        os.close(descriptor)
        marks = " ".join(f"p{mark:g} {np.percentile(taken, mark):7.3f}" for mark in (50, 99, 99.9))
        print(f"{what:15s} {kind:10s} {len(taken):7d} writes, ms: {marks} max {taken.max():7.3f}")


def synced_writes(descriptor: int, seconds: float) -> list[float]:
    """Write and sync 1 KiB after another from the start; return the seconds that each took."""
    taken = []
    position, end = 0, time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        os.pwrite(descriptor, WRITE, position)
        os.fdatasync(descriptor)
        taken.append(time.perf_counter() - started)
        position = (position + len(WRITE)) % FILE_BYTES
    return taken


if __name__ == "__main__":
    main()
