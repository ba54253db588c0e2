"""What a server does by itself: automatic snapshots, their retention, and decay."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

from recollect.clock import Clock
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.saves import Saver, limits_of
from recollect.compat.nvecd.snapshot.read import Finding, check_file
from recollect.compat.nvecd.snapshot_directory import SnapshotDirectory, open_private
from recollect.compat.nvecd.wal.sidecar import coming_path, sidecar_path
from recollect.errors import ConflictError, RecollectError

_AUTOMATIC = re.compile(r"auto_[0-9]{8}_[0-9]{6}\.(?:nvec|snapshot)")
_SUFFIXES = (".nvec", ".snapshot")
TICK_S = 1.0


class AutomaticSnapshots:
    """Takes a snapshot every interval, and keeps the newest few of its own. One thread at a time.

    Writers are not held up by it. The first one comes a whole interval after the start.

    Args:
        note: Told what an operator should know.
    """

    def __init__(
        self,
        saver: Saver,
        directory: SnapshotDirectory,
        settings: NvecdSettings,
        clock: Clock,
        note: Callable[[str], None],
    ) -> None:
        self._saver = saver
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._note = note
        self._due_s = clock.monotonic() + settings.snapshot.interval_sec

    def tick(self) -> bool:
        """Start a snapshot if one is due; return whether one was started."""
        interval_s = self._settings.snapshot.interval_sec
        now_s = self._clock.monotonic()
        if not interval_s or now_s < self._due_s:
            return False
        suffix = "nvec" if self._settings.snapshot.reply_style == "wire" else "snapshot"
        stamp = self._clock.now().astimezone().strftime("%Y%m%d_%H%M%S")
        try:
            path = self._directory.resolve(f"auto_{stamp}.{suffix}")
            self._saver.start(path, when_done=self.retain, when_failed=self._note_failure)
        except ConflictError:
            return False  # another save or a load is under way; the next tick tries again
        except RecollectError as error:
            self._note(f"an automatic snapshot could not be started: {error}")
        self._due_s = now_s + interval_s
        return True

    def _note_failure(self, problem: str) -> None:
        self._note(f"an automatic snapshot failed: {problem}")

    def retain(self) -> list[Path]:
        """Delete automatic snapshots beyond the newest few, with their sidecars; returns those deleted.

        Nothing is deleted unless one of those that stay is whole.
        """
        keep_count = self._settings.snapshot.retain
        if not keep_count:
            return []
        found = [path for path in self._directory.candidates(_SUFFIXES) if _AUTOMATIC.fullmatch(path.name)]
        kept, expired = found[:keep_count], found[keep_count:]
        if not expired:
            return []
        if not any(self._is_whole(path) for path in kept):
            self._note(f"no automatic snapshot of the newest {keep_count} is whole; older ones are kept")
            return []
        for path in expired:
            try:
                self._directory.remove(path)
                self._directory.remove(sidecar_path(path))
                self._directory.remove(coming_path(path))
            except RecollectError as error:
                self._note(f"an old snapshot could not be deleted: {error}")
        return expired

    def _is_whole(self, path: Path) -> bool:
        try:
            with open_private(path) as descriptor:
                return not isinstance(check_file(descriptor, limits_of(self._settings)), Finding)
        except RecollectError:
            return False


class Housekeeper:
    """Runs what is due, every second, in a thread of its own.

    Args:
        jobs: Each is called every second and decides itself whether it is time.
    """

    def __init__(self, jobs: list[Callable[[], object]], note: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._note = note
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvecd-housekeeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a job that runs is waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            for job in self._jobs:
                try:
                    job()
                except RecollectError as error:
                    self._note(str(error))


class DecayJob:
    """Lets co-occurrence fade every interval. One thread at a time."""

    def __init__(self, decay: Callable[[], None], interval_s: int, clock: Clock) -> None:
        self._decay = decay
        self._interval_s = interval_s
        self._clock = clock
        self._due_s = clock.monotonic() + interval_s

    def tick(self) -> bool:
        """Let it fade if it is time."""
        now_s = self._clock.monotonic()
        if not self._interval_s or now_s < self._due_s:
            return False
        self._decay()
        self._due_s = now_s + self._interval_s
        return True
