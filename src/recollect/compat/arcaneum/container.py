"""A Qdrant container's file system, by the documented steps: `docker cp` in and out, `docker exec rm`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from recollect.errors import UnavailableError

SNAPSHOTS = "/qdrant/snapshots"
COPY_TIMEOUT_S = 3600
PROBE_TIMEOUT_S = 20


class Container:
    """One container, by name. Every call starts one `docker` process and waits for its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._docker = shutil.which("docker")

    def is_there(self) -> bool:
        """Tell whether docker is installed, runs, and knows a container of this name."""
        if self._docker is None:
            return False
        try:
            self._run("inspect", "--type", "container", self.name, timeout_s=PROBE_TIMEOUT_S)
        except UnavailableError:
            return False
        return True

    def copy_out(self, collection: str, snapshot: str, target: Path) -> None:
        """Copy a collection's snapshot to a file here."""
        self._run("cp", f"{self.name}:{SNAPSHOTS}/{collection}/{snapshot}", str(target))

    def copy_in(self, source: Path, name: str) -> str:
        """Copy a file into the container's snapshot directory; return the location for `recover`."""
        self._run("cp", str(source), f"{self.name}:{SNAPSHOTS}/{name}")
        return f"file://{quote(f'{SNAPSHOTS}/{name}')}"

    def remove(self, name: str) -> None:
        """Remove a file that was copied in."""
        self._run("exec", self.name, "rm", "-f", f"{SNAPSHOTS}/{name}")

    def _run(self, *words: str, timeout_s: float = COPY_TIMEOUT_S) -> None:
        assert self._docker is not None, "is_there was asked first"
        action = f"docker {words[0]} ({self.name})"
        try:
            subprocess.run(  # noqa: S603 - a fixed program; arguments never pass through a shell
                [self._docker, *words], check=True, capture_output=True, text=True, timeout=timeout_s
            )
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip()[:500]
            raise UnavailableError(
                f"{action} failed: {said or f'status {error.returncode}'}",
                "check the container's name with `docker ps`, and the disk with `df -h`",
            ) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise UnavailableError(f"{action} failed: {error}", "check that docker runs") from error
