"""What the tests of capture share: a source with a spool, and backups through it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from recollect.clock import Clock, ManualClock
from recollect.engines.edge.captured import open_captured
from recollect.engines.qdrant.address import Secrets
from recollect.engines.qdrant.capture.options import CaptureOptions
from recollect.engines.qdrant.capture.receive import StreamLimits
from recollect.engines.qdrant.capture.source import CapturingSource
from recollect.engines.qdrant.source import QdrantSource
from recollect.engines.qdrant.staged_files import Scratch
from recollect.engines.qdrant.target import QdrantTarget
from recollect.operations import backup
from recollect.operations.parts import Workforce
from recollect.repository.repository import Repository, create_repository
from recollect.storage.local import LocalStore
from recollect.values.event import Event, Note
from recollect.values.snapshot import CollectionEntry, Snapshot
from recollect.values.ulid import new_ulid


class Bench:
    """A repository and a spool in a directory; a clock that only sleeping moves."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.clock = clock or ManualClock(datetime(2026, 5, 1, tzinfo=UTC))
        self.random = Random(7)
        self.notes: list[str] = []
        self.spool_bytes: int | None = None
        self.limits = StreamLimits(idle_s=0.3)
        self.workforce: Workforce | None = None
        self.secrets: Secrets = no_secret
        store = LocalStore(directory / "repository")
        self.repository: Repository = create_repository(
            store, now=self.clock.now(), random_bytes=self.random.randbytes
        )

    def source(self, url: str) -> CapturingSource:
        options = CaptureOptions(
            spool=self.spool,
            spool_bytes=self.spool_bytes,
            open_shard=open_captured,
            new_id=self.new_id,
            limits=self.limits,
        )
        return CapturingSource(
            url, secrets=self.secrets, clock=self.clock, options=options, on_event=self.on_event
        )

    def backup(self, url: str, **options: Any) -> Snapshot:
        if isinstance(self.clock, ManualClock):
            self.clock.advance(60)
        source = self.source(url)
        try:
            report = backup.run(
                source,
                self.repository,
                options=backup.BackupOptions(**options),
                clock=self.clock,
                random_bytes=self.random.randbytes,
                workforce=self.workforce,
                on_event=self.on_event,
            )
        finally:
            source.close()
        return report.snapshot

    def entry(self, url: str, **options: Any) -> CollectionEntry:
        """Back up and return the only collection's entry."""
        (entry,) = self.backup(url, **options).collections
        return entry

    def scrolled(self, url: str) -> QdrantSource:
        return QdrantSource(url, secrets=no_secret, clock=self.clock)

    def target(self, url: str) -> QdrantTarget:
        return QdrantTarget(
            url,
            secrets=no_secret,
            clock=self.clock,
            new_id=self.new_id,
            scratch=Scratch(self.spool, None, self.new_id),
        )

    def new_id(self) -> str:
        return new_ulid(self.clock.now(), self.random.randbytes)

    def on_event(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.message)

    def spooled(self) -> list[str]:
        """Return what stands in the spool now: directories of runs, and of shards."""
        return sorted(
            str(path.relative_to(self.spool))
            for part in ("runs", "shards")
            for path in (self.spool / part).iterdir()
        )


def no_secret(name: str) -> str | None:
    raise AssertionError(f"asked for the secret {name}")
