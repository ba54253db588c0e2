"""Who may touch the stores now: one writer at a time, nobody while a snapshot is loaded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from recollect.compat.nvecd.protocol import command as cmd
from recollect.errors import ConflictError

LOADING = "LOADING Snapshot load in progress"
READONLY = "READONLY Snapshot in progress"
NOAUTH = "NOAUTH Authentication required"
SAVE_WHILE_LOADING = "Cannot save snapshot while a snapshot load is in progress"


class Gate:
    """The flags that commands are checked against, and the lock of writers. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.writing = threading.Lock()
        self.is_loading = False
        self.is_saving_locked = False

    def check(self, command: cmd.Command) -> None:
        """Refuse a command that may not run now.

        Raises:
            ConflictError: A load, or a save in lock mode, is under way.
        """
        if self.is_loading and cmd.needs_data(command):
            raise ConflictError(LOADING)
        if self.is_saving_locked and cmd.is_write(command):
            raise ConflictError(READONLY)

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Keep everybody away from the stores."""
        with self._lock:
            if self.is_loading:
                raise ConflictError("Another snapshot load is already in progress")
            if self.is_saving_locked:
                raise ConflictError("A snapshot save is already in progress")
            self.is_loading = True
        try:
            yield
        finally:
            self.is_loading = False

    @contextlib.contextmanager
    def saving_locked(self) -> Iterator[None]:
        """Keep writers away; those that began are waited for."""
        with self._lock:
            if self.is_loading:
                raise ConflictError(SAVE_WHILE_LOADING)
            if self.is_saving_locked:
                raise ConflictError("Another snapshot save is already in progress")
            self.is_saving_locked = True
        try:
            with self.writing:
                yield
        finally:
            self.is_saving_locked = False
