"""Peak anonymous memory of the verbs over many records: each verb in a process of its own.

Backup, verify (all data, every record decoded) and diff run on generated records, so that nothing
but Recollect is measured; with `--edge` also restore into a Qdrant Edge shard, engine included.
RssAnon counts what the process allocated; pages of mapped files do not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from recollect.catalog.catalog import Catalog
from recollect.operations import backup, diff, restore, verify
from recollect.testing.generated import GeneratedSource
from recollect.wiring import create_repository, open_repository, open_target, system_context

SAMPLE_INTERVAL_S = 0.01


def main() -> None:
    """Run every verb in a child process and print a Markdown table."""
    options = _options()
    if options.verb:
        print(json.dumps(_measured(options)))
        return
    print(f"{options.records} records of {options.dimension} float32\n")
    print("| verb | seconds | records/s | peak RssAnon MB | before the verb MB |")
    print("|---|---|---|---|---|")
    verbs = ["init", "backup", "backup-again", "backup-changed", "verify", "diff"]
    verbs += ["restore-edge"] if options.edge else []
    with tempfile.TemporaryDirectory(prefix="recollect-memory-", dir=options.directory) as directory:
        for verb in verbs:
            command = [sys.executable, "-m", "benchmarks.memory", "--verb", verb, "--directory", directory]
            command += ["--records", str(options.records), "--dimension", str(options.dimension)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            if verb != "init":
                print(
                    f"| {verb} | {found['seconds']:.1f} | {options.records / found['seconds']:,.0f} | "
                    f"{found['peak'] / 1e6:.0f} | {found['before'] / 1e6:.0f} |",
                    flush=True,
                )


def _measured(options: argparse.Namespace) -> dict[str, float]:
    before = _anonymous_bytes()
    peak, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_INTERVAL_S):
            peak[0] = max(peak[0], _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        _run(options)
    finally:
        seconds = time.perf_counter() - started
        ended.set()
        watcher.join()
    return {"seconds": seconds, "peak": max(peak[0], _anonymous_bytes()), "before": before}


def _run(options: argparse.Namespace) -> None:
    context = system_context()
    place = str(Path(options.directory) / "repository")
    if options.verb == "init":
        create_repository(place, context)
        return
    repository = open_repository(place, context)
    catalog = Catalog(repository)
    if options.verb.startswith("backup"):
        generation = 1 if options.verb == "backup-changed" else 0
        source = GeneratedSource(options.records, options.dimension, generation=generation)
        backup.run(
            source,
            repository,
            options=backup.BackupOptions(),
            clock=context.clock,
            random_bytes=context.random_bytes,
        )
    elif options.verb == "verify":
        report = verify.run(repository, options=verify.VerifyOptions(share=verify.Share()))
        assert report.is_sound, "the benchmark's repository is damaged"
    elif options.verb == "diff":
        sides = [diff.SnapshotSide(repository, catalog.find(name)) for name in ("latest~1", "latest")]
        assert diff.run(*sides)[0].changes.changed, "the generations differ"
    elif options.verb == "restore-edge":
        target = open_target(f"edge://{options.directory}/shard", context)
        plan = restore.plan(catalog.find("latest"), target, options=restore.RestoreOptions())
        restore.apply(plan, repository, target, clock=context.clock)


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell RssAnon")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--edge", action="store_true", help="also restore into Qdrant Edge")
    parser.add_argument("--directory", help="where to work; a temporary directory by default")
    parser.add_argument("--verb", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
