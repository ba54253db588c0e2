"""The main job in half a minute: back up, change, diff, damage, notice, restore, prove.

Works on real text embeddings and the real Qdrant engine (Qdrant Edge, in this process), in a
temporary directory. Every line that begins with `$` is a command that you could type.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import qdrant_edge

from recollect.testing.sample import Sample, load_sample

BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> None:
    """Run the demo; an unexpected outcome stops it with an error."""
    sample = load_sample()
    with tempfile.TemporaryDirectory(prefix="recollect-demo-") as directory:
        root = Path(directory)
        shard, repository = root / "sentences", root / "repository"
        source = f"edge://{shard}"
        os.environ["RECOLLECT_REPOSITORY"] = str(repository)
        print(f"{DIM}$ export RECOLLECT_REPOSITORY={repository}{PLAIN}")

        step("A collection of real text embeddings, in the real Qdrant engine")
        create(shard, sample)
        print(f"{len(sample.ids)} sentences, 384 dimensions, in {shard}")

        step("Back it up")
        recollect("init")
        recollect("backup", source, "--name", "monday")

        step("Life goes on: some sentences change, some come, some go")
        change(shard, sample)
        began = time.perf_counter()
        recollect("backup", source, "--name", "tuesday")
        backup_s = time.perf_counter() - began

        step("What changed between the two?")
        recollect("diff", "monday", "tuesday")

        step("Disaster: somebody re-embeds with the wrong model and deletes the wrong ids")
        damage(shard, sample)
        recollect("verify", "tuesday", "--against", source, expected=22)

        step("Restore it. The old collection stays until the new one is proven")
        recollect("restore", "tuesday", source, "--replace")
        recollect("verify", "tuesday", "--against", source)

        step("What it cost, against copying the directory each time")
        compare(shard, repository, root / "copies", backup_s)
        recollect("stats")
    print(f"\n{BOLD}That was it.{PLAIN} Everything stood in a temporary directory and is gone now.")
    print("Next: the quick start in README.md, with your own database.")


def step(title: str) -> None:
    """Print a heading."""
    print(f"\n{BOLD}{title}{PLAIN}")


def recollect(*words: str | Path, expected: int = 0) -> None:
    """Run one command as a user would, show it, and make sure that it ended as expected."""
    print(f"{DIM}$ recollect {' '.join(map(str, words))}{PLAIN}", flush=True)
    done = subprocess.run([sys.executable, "-m", "recollect", *map(str, words)], check=False)
    if done.returncode != expected:
        raise SystemExit(f"the command ended with {done.returncode}, not {expected}: the demo found a bug")
    if expected:
        print(f"{DIM}(exit code {expected}: it noticed){PLAIN}")


def create(shard: Path, sample: Sample) -> None:
    """Fill a new shard."""
    shard.mkdir()
    vectors = qdrant_edge.EdgeVectorParams(size=384, distance=qdrant_edge.Distance.Cosine)
    engine = qdrant_edge.EdgeShard.create(str(shard), qdrant_edge.EdgeConfig(vectors=vectors))
    points = [
        qdrant_edge.Point(record_id, vector.tolist(), payload)
        for record_id, vector, payload in zip(sample.ids, sample.vectors, sample.payloads, strict=True)
    ]
    operation = qdrant_edge.UpdateOperation
    engine.update(operation.upsert_points(points))
    engine.update(operation.create_field_index("topic", qdrant_edge.PayloadSchemaType.Keyword))
    engine.close()


def change(shard: Path, sample: Sample) -> None:
    """Update payloads, add records, delete others."""
    engine = qdrant_edge.EdgeShard.load(str(shard))
    operation = qdrant_edge.UpdateOperation
    engine.update(operation.set_payload([*sample.ids[10:30]], {"reviewed": True}))
    new = [
        qdrant_edge.Point(10_000 + number, sample.vectors[number].tolist(), {"topic": "new"})
        for number in range(5)
    ]
    engine.update(operation.upsert_points(new))
    engine.update(operation.delete_points([*sample.ids[:3]]))
    engine.close()


def damage(shard: Path, sample: Sample) -> None:
    """Do what nobody meant to do."""
    engine = qdrant_edge.EdgeShard.load(str(shard))
    operation = qdrant_edge.UpdateOperation
    wrong = [
        qdrant_edge.Point(record_id, vector[::-1].tolist(), {"topic": "oops"})
        for record_id, vector in zip(sample.ids[100:150], sample.vectors[100:150], strict=True)
    ]
    engine.update(operation.upsert_points(wrong))
    engine.update(operation.delete_points([*sample.ids[200:300]]))
    engine.close()


def compare(shard: Path, repository: Path, copies: Path, backup_s: float) -> None:
    """Put one compressed full copy beside one incremental backup."""
    copies.mkdir()
    archive = copies / "full.tar.gz"
    began = time.perf_counter()
    subprocess.run(["tar", "-czf", archive, "-C", shard, "."], check=True)
    copy_s = time.perf_counter() - began
    full, stored = archive.stat().st_size, allocated(repository)
    print(f"one full copy (tar.gz):         {full / 1e6:6.2f} MB, {copy_s:5.2f} s - and again for every copy")
    print(
        f"both backups in the repository: {stored / 1e6:6.2f} MB; the second took {backup_s:.2f} s, "
        "start of the program included"
    )


def allocated(directory: Path) -> int:
    """Add up the bytes of all files below a directory."""
    return sum(entry.stat().st_size for entry in directory.rglob("*") if entry.is_file())


if __name__ == "__main__":
    main()
