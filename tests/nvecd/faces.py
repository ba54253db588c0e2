"""Faces over databases in memory, for the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recollect.clock import Clock, SystemClock
from recollect.compat.nvecd.build import database_options
from recollect.compat.nvecd.config.load import load_settings
from recollect.compat.nvecd.config.settings import NvecdSettings, SnapshotSettings
from recollect.compat.nvecd.face import Face, Session
from recollect.compat.nvecd.volatile import VolatileDatabase
from tests.nvecd.snapshots import GOLDEN


def settings_in(directory: Path, **snapshot: object) -> NvecdSettings:
    """Return the recorded server's settings with another directory, and other changes to `snapshot`."""
    recorded = load_settings(GOLDEN / "config.yaml")
    changes = {"dir": str(directory), **snapshot}
    changed = msgspec.convert({**msgspec.to_builtins(recorded.snapshot), **changes}, SnapshotSettings)
    return msgspec.structs.replace(recorded, snapshot=changed)


@contextlib.contextmanager
def open_face(settings: NvecdSettings, clock: Clock | None = None) -> Iterator[Face]:
    """Open a face over an empty database in memory."""
    clock = clock or SystemClock()
    volatile = VolatileDatabase(database_options(settings), clock)
    try:
        face = Face(volatile.database, settings, clock)
        face.dumps.directory.create()
        yield face
        face.saver.wait()
    finally:
        volatile.close()


def ask(face: Face, *lines: str, session: Session | None = None) -> str:
    """Run commands one after the other on one session; return all replies as text."""
    session = session or Session()
    return "".join(face.execute([line.encode("utf-8")], session).decode("utf-8") for line in lines)
