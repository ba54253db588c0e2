"""Other backup tools, run as whole processes beside Recollect on the same directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """One finished process: seconds, and the largest resident set in bytes."""

    wall_s: float
    cpu_s: float
    peak_rss: int


LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
errors = process.stderr.read()
_, status, usage = os.wait4(process.pid, 0)
wall_s = time.perf_counter() - started
print(json.dumps([wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]), flush=True)
sys.stderr.buffer.write(errors); sys.stderr.flush()
os._exit(min(255, abs(os.waitstatus_to_exitcode(status))))
"""
"""Runs in a small interpreter: a child's peak memory begins with that of the process that starts it."""


def measure(command: list[str], *, environment: dict[str, str] | None = None) -> Measured:
    """Run a command to its end and return the operating system's own accounting of it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        errors = done.stderr.decode(errors="replace")
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {errors[-2000:]}")
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def directory_bytes(path: Path) -> int:
    """Add up the sizes of all files below a directory."""
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


class Tool:
    """A backup tool with a repository of its own."""

    name = ""

    def __init__(self, root: Path) -> None:
        self.repository = root / self.name
        self.prepare()

    def prepare(self) -> None:
        """Create the repository."""

    def backup(self, source: Path, number: int) -> Measured:
        """Back the directory up once more."""
        raise NotImplementedError

    def restore(self, target: Path) -> Measured:
        """Restore the newest backup into a directory that does not exist yet."""
        raise NotImplementedError

    def stored_bytes(self) -> int:
        """Bytes of all backups kept so far."""
        return directory_bytes(self.repository)


class Restic(Tool):
    """restic with its defaults; its compression needs repository format 2 (0.14 and newer)."""

    name = "restic"

    def prepare(self) -> None:
        """Create the repository."""
        self._environment = {
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.repository) + "-cache",
        }
        measure(["restic", "init", "--quiet"], environment=self._environment)

    def backup(self, source: Path, number: int) -> Measured:  # noqa: ARG002
        """Back the directory up once more."""
        return measure(["restic", "backup", "--quiet", str(source)], environment=self._environment)

    def restore(self, target: Path) -> Measured:
        """Restore the newest backup."""
        command = ["restic", "restore", "latest", "--quiet", "--target", str(target)]
        return measure(command, environment=self._environment)


class Borg(Tool):
    """borg with its defaults (lz4), without encryption."""

    name = "borg"

    def prepare(self) -> None:
        """Create the repository."""
        self._environment = {
            "BORG_BASE_DIR": str(self.repository) + "-base",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        measure(["borg", "init", "-e", "none", str(self.repository)], environment=self._environment)

    def backup(self, source: Path, number: int) -> Measured:
        """Back the directory up once more."""
        archive = f"{self.repository}::b{number}"
        self._newest = archive
        return measure(["borg", "create", archive, str(source)], environment=self._environment)

    def restore(self, target: Path) -> Measured:
        """Restore the newest backup."""
        target.mkdir(parents=True)
        command = ["sh", "-c", f"cd {target} && exec borg extract {self._newest}"]
        return measure(command, environment=self._environment)


class Tar(Tool):
    """A full `tar | zstd` each time: the cron script."""

    name = "tar-zstd"

    def prepare(self) -> None:
        """Make the directory."""
        self.repository.mkdir(parents=True)
        self._kept = 0
        self._newest: Path | None = None

    def backup(self, source: Path, number: int) -> Measured:
        """Write one archive; only the newest stays on disk, the bytes of all are counted."""
        archive = self.repository / f"{number}.tar.zst"
        taken = measure(["sh", "-c", f"tar -cSf - -C {source} . | zstd -q -T0 -3 -o {archive}"])
        if self._newest is not None:
            self._newest.unlink()
        self._newest = archive
        self._kept += archive.stat().st_size
        return taken

    def restore(self, target: Path) -> Measured:
        """Unpack the newest archive."""
        target.mkdir(parents=True)
        return measure(["sh", "-c", f"zstd -dqc {self._newest} | tar -xSf - -C {target}"])

    def stored_bytes(self) -> int:
        """Bytes of all archives, the deleted ones too."""
        return self._kept


def available(root: Path) -> list[Tool]:
    """Return the tools that are installed, each with a fresh repository."""
    kinds = {"restic": Restic, "borg": Borg, "zstd": Tar}
    return [kind(root) for program, kind in kinds.items() if shutil.which(program)]
