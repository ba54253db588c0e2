"""Run one verb over a generated collection and report how far its anonymous memory grew.

Usage: measured.py VERB RECORDS DIMENSION DIRECTORY [--unordered] [--turn N] [--share P]
    [--payload-bytes N] [--segment-bytes N]

Verbs: backup, again (another backup, after turn N of changes), verify, diff, restore, export, search;
rounds (a backup of every turn up to N), all (each verb in turn). `backup` and `all` make the
repository in DIRECTORY; the others need it. Prints one line of JSON. The full
size of the promise is `measured.py backup 1000000 384 DIRECTORY`, and so on for each verb.

Mapped files do not count: RssAnon of proc_pid_status(5), sampled every 5 ms.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recollect.catalog.catalog import Catalog
from recollect.clock import SystemClock
from recollect.operations import backup, diff, export, restore, search, verify
from recollect.operations.backup import BackupOptions
from recollect.operations.restore import RestoreOptions
from recollect.repository.repository import Repository, create_repository, open_repository
from recollect.segments import sort, writer
from recollect.storage.local import LocalStore
from recollect.testing.driver import seeded_bytes
from recollect.testing.generated import GeneratedSource
from recollect.testing.spool import SpooledTarget

CLOCK = SystemClock()


class Sampler(threading.Thread):
    """Keeps the highest RssAnon that was seen, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first = self.peak = anonymous_bytes()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            self.peak = max(self.peak, anonymous_bytes())


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


class Job:
    """The verbs, over one generated collection in one directory."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.directory: Path = options.directory
        self.store = LocalStore(self.directory / "repository")

    def source(self, turn: int) -> GeneratedSource:
        options = self.options
        return GeneratedSource(
            options.records,
            options.dimension,
            generation=turn,
            changed_share=options.share,
            payload_bytes=options.payload_bytes,
            order="blocks" if options.unordered else "ascending",
        )

    def repository(self) -> Repository:
        return open_repository(self.store)

    def backup(self) -> int:
        create_repository(self.store, now=CLOCK.now(), random_bytes=seeded_bytes(1))
        return self.back_up(0)

    def again(self) -> int:
        return self.back_up(self.options.turn)

    def rounds(self) -> int:
        return [self.back_up(turn) for turn in range(1, self.options.turn + 1)][-1]

    def all(self) -> int:
        counts = [self.backup(), self.rounds(), self.verify(), self.restore(), self.export()]
        assert len(set(counts)) == 1, counts
        assert self.search() == 10
        return self.diff()

    def back_up(self, turn: int) -> int:
        report = backup.run(
            self.source(turn),
            self.repository(),
            options=BackupOptions(),
            clock=CLOCK,
            random_bytes=seeded_bytes(2 + turn),
        )
        return report.snapshot.collections[0].record_count

    def verify(self) -> int:
        report = verify.run(self.repository(), options=verify.VerifyOptions(share=verify.Share()))
        assert report.is_sound, report
        return sum(check.record_count for check in report.collections)

    def diff(self) -> int:
        repository, source = self.repository(), self.source(self.options.turn + 1)
        with source.hold() as view:
            side = diff.SnapshotSide(repository, Catalog(repository).find("latest"))
            [found] = diff.run(side, diff.LiveSide(source, view))
        return found.changes.total

    def restore(self) -> int:
        repository, target = self.repository(), SpooledTarget(self.directory / "restored")
        plan = restore.plan(Catalog(repository).find("latest"), target, options=RestoreOptions())
        report = restore.apply(plan, repository, target, clock=CLOCK)
        target.clear()
        return report.collections[0].record_count

    def export(self) -> int:
        [entry] = Catalog(self.repository()).find("latest").collections
        path = self.directory / "out.parquet"
        report = export.run(self.repository(), entry, path)
        path.unlink()
        return report.record_count

    def search(self) -> int:
        [entry] = Catalog(self.repository()).find("latest").collections
        query = np.ones(self.options.dimension, dtype=np.float32)
        return len(search.run(self.repository(), entry, query, k=10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=[name for name in vars(Job) if name.isalpha()])
    parser.add_argument("records", type=int)
    parser.add_argument("dimension", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--unordered", action="store_true")
    parser.add_argument("--segment-bytes", type=int)
    parser.add_argument("--turn", type=int, default=1)
    parser.add_argument("--payload-bytes", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.015)
    options = parser.parse_args()
    if options.segment_bytes:  # bounds of a large run in a small one
        writer.SEGMENT_BYTES_MAX = options.segment_bytes
        sort.SPILL_BYTES = options.segment_bytes
    job = Job(options)
    action: Callable[[], int] = getattr(job, options.verb)
    sampler = Sampler()
    sampler.start()
    started = time.perf_counter()
    count = action()
    elapsed = time.perf_counter() - started
    sampler.ended.set()
    sampler.join()
    report = {
        "verb": options.verb,
        "count": count,
        "seconds": round(elapsed, 2),
        "anonymous_mb_at_start": round(sampler.first / 1e6, 1),
        "anonymous_mb_peak": round(sampler.peak / 1e6, 1),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
