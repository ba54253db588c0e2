"""Collections of a backup that workers read and store, part by part, while this process waits and commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeAlias

import msgspec

from recollect.engines.base import Capabilities, CollectionDescription, Divisible, Division, SourceView
from recollect.errors import NotFoundError, UnsupportedError
from recollect.operations.changes import Compare
from recollect.operations.parts import PartJob, RefusedPart, StoredPart, Workforce
from recollect.operations.parts_joined import Joint, joined
from recollect.pipeline import map_ordered
from recollect.values.event import Note, OnEvent, Progress
from recollect.values.snapshot import CollectionEntry

PARTS_UNDER_WAY = 64
"""Parts that are given out at once; how many of them are done at a time is the executor's affair."""

Stored: TypeAlias = tuple[CollectionEntry, int]
"""A collection's entry, and the bytes that it added to the repository."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup asks for.

    Attributes:
        compare: How changes are found.
        capabilities: The source's.
        stores_files: The engine's own files are stored too.
        parent_of: Finds the state to compare a collection with.
        alone: Reads and stores a collection in this process.
    """

    compare: Compare
    capabilities: Capabilities
    stores_files: bool
    parent_of: Callable[[CollectionDescription], CollectionEntry | None]
    alone: Callable[[str], Stored]


class ByWorkers:
    """One backup under way whose collections are given to workers. One thread at a time."""

    def __init__(
        self, workforce: Workforce, view: SourceView, joint: Joint, terms: Terms, on_event: OnEvent
    ) -> None:
        self._workforce = workforce
        self._view = view
        self._joint = joint
        self._terms = terms
        self._on_event = on_event

    def stored(self, names: list[str]) -> Iterator[Stored]:
        """Store collections; yields them in order. Parts of later ones are begun meanwhile.

        A collection that cannot be divided is read by this process, and a note says why.

        Raises:
            RecollectError: A part failed. Parts that are not begun are called off.
        """
        plans = [self._plan(name) for name in names]
        jobs = (job for plan in plans for job in plan.jobs)
        executor = self._workforce.executor
        results = map_ordered(self._workforce.work, jobs, executor=executor, window=PARTS_UNDER_WAY)
        with closing(results):
            for plan in plans:
                found = [self._arrived(plan, next(results)) for _ in plan.jobs]
                parts = [part for part in found if isinstance(part, StoredPart)]
                if plan.division is None or len(parts) < len(found):
                    yield self._terms.alone(plan.name)
                else:
                    yield self._of_parts(plan, plan.division, parts)

    def _plan(self, name: str) -> _Plan:
        """Divide a collection; without jobs where only this process can read it."""
        if not isinstance(self._view, Divisible):
            return self._left_here(name, "it has no shards to give out")
        try:
            division = self._view.divide(name)
        except (NotFoundError, UnsupportedError) as error:
            return self._left_here(name, error.message)
        parent = self._terms.parent_of(division.description)
        token = self._workforce.new_token()
        jobs = [
            PartJob(
                part=part,
                description=division.description,
                # What the parent had of shards is of no use to a worker, and long if it has files.
                parent=None if parent is None else msgspec.structs.replace(parent, shards=()),
                capabilities=self._terms.capabilities,
                compare=self._terms.compare,
                stores_files=self._terms.stores_files,
                token=token,
                repository_url=self._workforce.repository_url,
                repository_id=self._joint.repository.config.id,
                tool_version=self._workforce.tool_version,
            )
            for part in division.parts
        ]
        return _Plan(name=name, division=division, parent=parent, token=token, jobs=tuple(jobs))

    def _left_here(self, name: str, reason: str) -> _Plan:
        self._on_event(Note(message=f"{name} is read by this process: {reason}"))
        return _Plan(name=name)

    def _arrived(self, plan: _Plan, part: StoredPart | RefusedPart) -> StoredPart | RefusedPart:
        """Tell of a part that is done."""
        if isinstance(part, RefusedPart):
            self._left_here(plan.name, part.reason)
            return part
        for note in part.notes:
            self._on_event(Note(message=note))
        plan.done += part.after.record_count
        expected = plan.division.description.record_count if plan.division is not None else 0
        total = max(plan.done, expected)
        self._on_event(Progress(stage="scan", subject=plan.name, done=plan.done, total=total))
        return part

    def _of_parts(self, plan: _Plan, division: Division, parts: list[StoredPart]) -> Stored:
        assert isinstance(self._view, Divisible), "it was divided"
        self._view.confirm(plan.name, division)
        return joined(self._joint, division.description, plan.parent, parts, plan.token)


class _Plan(msgspec.Struct, kw_only=True):
    """How one collection is stored: by workers, if it has jobs.

    Attributes:
        done: Records of the parts that are done.
    """

    name: str
    division: Division | None = None
    parent: CollectionEntry | None = None
    token: str = ""
    jobs: tuple[PartJob, ...] = ()
    done: int = 0
