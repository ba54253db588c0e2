"""The thread of fsync mode `interval`: makes the log durable once in a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from recollect.errors import RecollectError

_LOG = logging.getLogger("recollect.database")


class Syncer:
    """Calls `sync` every `interval_s` seconds until it is closed or `sync` fails."""

    def __init__(self, sync: Callable[[], None], interval_s: float) -> None:
        self._sync = sync
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-syncer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; waits for a sync under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._sync()
            except RecollectError as error:
                # The database refuses writes from here on and says why to whoever writes next.
                _LOG.error("Writing the log failed: %s", error)
                return
