"""What every command is given: the settings in force, its voice, and the way to the outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from recollect import wiring
from recollect.catalog.catalog import Catalog
from recollect.cli.output import Output
from recollect.engines.base import Source, Target
from recollect.errors import NotFoundError, RequestError
from recollect.operations.parts import Workforce
from recollect.repository.lease import WAIT_S, hold_reader_lease
from recollect.repository.repository import Repository
from recollect.settings import Settings
from recollect.values.snapshot import CollectionEntry, Snapshot


class Session:
    """One run of one command. One thread at a time."""

    def __init__(self, settings: Settings, output: Output, context: wiring.Context) -> None:
        self.settings = settings
        self.output = output
        self.context = wiring.context_of(context, settings)

    @property
    def wait_s(self) -> float:
        """Seconds to wait for another process to get out of the way."""
        return WAIT_S if self.settings.wait_seconds is None else self.settings.wait_seconds

    def create_repository(self) -> Repository:
        """Create the repository that the settings name."""
        return wiring.create_repository(
            self.settings.require_repository(), self.context, self.output.on_event
        )

    def repository(self) -> Repository:
        """Open the repository that the settings name."""
        return wiring.open_repository(self.settings.require_repository(), self.context)

    def other_repository(self, url: str) -> Repository:
        """Open another repository than the one that the settings name."""
        return wiring.open_repository(url, self.context)

    def catalog(self) -> Catalog:
        """Open the catalog of the repository."""
        return Catalog(self.repository())

    @contextmanager
    def reading(self, what: str) -> Iterator[Repository]:
        """Open the repository for a long read of a snapshot, that is looked up inside, beside `prune`."""
        repository = self.repository()
        with hold_reader_lease(
            repository.store,
            purpose=what,
            clock=self.context.clock,
            random_bytes=self.context.random_bytes,
        ):
            yield repository

    @contextmanager
    def source(self, url: str, *, collection: str = "") -> Iterator[Source]:
        """Open a source, and close it at the end; see `wiring.open_source`."""
        opened = wiring.open_source(url, self.context, self.output.on_event, collection=collection)
        with closing(opened) as source:
            yield source

    @contextmanager
    def workforce(self, executor: str) -> Iterator[Workforce | None]:
        """Have the workers that `--executor` names; None where it names none."""
        if not executor:
            yield None
            return
        repository = self.settings.require_repository()
        with wiring.open_workforce(executor, repository, self.context) as workforce:
            yield workforce

    @contextmanager
    def target(self, url: str) -> Iterator[Target]:
        """Open a target, and close it at the end."""
        with closing(wiring.open_target(url, self.context)) as target:
            yield target


def only_collection(snapshot: Snapshot) -> str:
    """Return the name of a snapshot's collection; empty if it has several.

    A shard that is compared with a snapshot of one collection is that collection, wherever it was restored.
    """
    return snapshot.collections[0].name if len(snapshot.collections) == 1 else ""


def chosen_collection(snapshot: Snapshot, name: str) -> CollectionEntry:
    """Return the collection of this name or alias; the only one, if no name is given.

    Raises:
        NotFoundError: There is none of that name. RequestError: Several, and none was named.
    """
    entries = {entry.name: entry for entry in snapshot.collections}
    known = ", ".join(entries)
    if not name:
        if len(entries) == 1:
            return next(iter(entries.values()))
        raise RequestError(
            f"snapshot {snapshot.id} has {len(entries)} collections: {known}", "name one with --collection"
        )
    for entry in snapshot.collections:
        if name == entry.name or name in entry.aliases:
            return entry
    raise NotFoundError(
        f"snapshot {snapshot.id} has no collection {name!r}; it has: {known}",
        f"see `recollect ls {snapshot.id}`",
    )
