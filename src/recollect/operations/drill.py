"""Drill: restore a snapshot into a scratch engine, prove it, search it, and write down how it went.

Queries are vectors of stored records. What the engine's index finds for them is compared with the exact
nearest neighbours in the snapshot, each query without its own record. The scratch collections
are dropped at the end, whatever happened; the report goes into the repository's ledger, also when
the drill failed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

import msgspec
import numpy as np

from recollect.catalog.catalog import Catalog
from recollect.catalog.drills import record_drill
from recollect.clock import Clock
from recollect.engines.base import Drillable, Searcher, Target
from recollect.errors import NotFoundError, RecollectError, RequestError, UnsupportedError
from recollect.operations import restore
from recollect.operations.exact_neighbours import Sample, exact_neighbours, sample_queries
from recollect.repository.repository import Repository
from recollect.values.drill import DrilledCollection, DrillReport
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.schema import VectorSpec
from recollect.values.snapshot import CollectionEntry, Snapshot
from recollect.values.ulid import RandomBytes, new_ulid


class DrillOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to drill.

    Attributes:
        collections: Names in the snapshot; empty means all.
        query_count: Queries of each collection; 0 replays none.
        k: Neighbours of one query.
        vector: Named vector to search; by default the first dense one.
        recall_required: Mean recall below which the drill fails.
    """

    collections: tuple[str, ...] = ()
    query_count: int = 20
    k: int = 10
    vector: str | None = None
    recall_required: float = 0.9
    host: str = ""
    tool_version: str = ""


OpenScratch = Callable[[int], Target]
"""Opens the target of the n-th collection: a new place each, or one server for all."""


def run(
    repository: Repository,
    snapshot: Snapshot,
    open_scratch: OpenScratch,
    *,
    options: DrillOptions,
    clock: Clock,
    random_bytes: RandomBytes,
    on_event: OnEvent = ignore_events,
) -> DrillReport:
    """Drill collections of a snapshot and return the report; `failure` says what was wrong.

    Raises:
        NotFoundError, RequestError: There is no such collection, or a number makes no sense.
        UnsupportedError: The target cannot be searched.
    """
    entries = _chosen(snapshot, options)
    started, started_at = clock.monotonic(), clock.now()
    drill_id = new_ulid(started_at, random_bytes)
    drilled: list[DrilledCollection] = []
    failure, product = "", ""
    try:
        for number, entry in enumerate(entries):
            with closing(open_scratch(number)) as target:
                info = target.info()
                product = f"{info.product} {info.version}".strip()
                job = _Job(repository, snapshot, target, drill_id, clock, options)
                drilled.append(job.collection(entry, random_bytes, on_event))
        failure = _judge(drilled, options)
    except UnsupportedError:
        raise
    except RecollectError as error:
        failure = f"{error.kind}: {error.message}"
    report = DrillReport(
        id=drill_id,
        snapshot_id=snapshot.id,
        snapshot_created_at=snapshot.created_at,
        started_at=started_at,
        target=product,
        recall_required=options.recall_required,
        collections=tuple(drilled),
        duration_seconds=round(clock.monotonic() - started, 3),
        failure=failure,
        host=options.host,
        tool_version=options.tool_version,
    )
    record_drill(repository, report)
    return report


def _chosen(snapshot: Snapshot, options: DrillOptions) -> list[CollectionEntry]:
    if options.k < 1 or options.query_count < 0 or not 0 <= options.recall_required <= 1:
        raise RequestError("a drill needs k of 1 or more, 0 or more queries, and a recall from 0 to 1")
    entries = {entry.name: entry for entry in snapshot.collections}
    for name in options.collections:
        if name not in entries:
            raise NotFoundError(
                f"snapshot {snapshot.id} has no collection {name!r}; it has: {', '.join(entries)}",
                f"see `recollect show {snapshot.id}`",
            )
    return [entries[name] for name in options.collections or entries]


def _judge(drilled: list[DrilledCollection], options: DrillOptions) -> str:
    for one in drilled:
        if not one.is_match:
            return f"{one.name!r} was restored with the fingerprint {one.fingerprint}, not {one.expected}"
        if one.query_count and one.recall_mean < options.recall_required:
            return (
                f"the index of {one.name!r} finds {one.recall_mean:.3f} of the exact neighbours, "
                f"less than {options.recall_required:.3f}"
            )
    return ""


class _Job:
    """One drill's collections, each restored, searched and dropped."""

    def __init__(
        self,
        repository: Repository,
        snapshot: Snapshot,
        target: Target,
        drill_id: str,
        clock: Clock,
        options: DrillOptions,
    ) -> None:
        self._repository = repository
        self._snapshot = snapshot
        self._target = target
        self._drill_id = drill_id
        self._clock = clock
        self._options = options

    def collection(
        self, entry: CollectionEntry, random_bytes: RandomBytes, on_event: OnEvent
    ) -> DrilledCollection:
        """Drill one collection."""
        target = self._target
        if not isinstance(target, Drillable):
            raise UnsupportedError(
                f"{target.info().url} cannot be searched by a drill", "drill into edge:// or a Qdrant server"
            )
        name, slash, part = entry.name.partition("/")  # parts under shard keys are called NAME/KEY
        scratch = f"{name}.drill-{self._drill_id[-8:]}{slash}{part}"
        restored, restore_seconds = self._restore(entry, scratch, on_event)
        with ExitStack() as stack:
            stack.callback(target.drop, scratch)
            result = DrilledCollection(
                name=entry.name,
                record_count=restored.record_count,
                fingerprint=restored.fingerprint,
                expected=restored.expected,
                is_match=restored.is_match,
                adapted_count=restored.adapted_count,
                method=restored.method,
                restore_seconds=round(restore_seconds, 3),
            )
            spec = _searched(entry, self._options)
            if spec is None or not self._options.query_count:
                return result
            sample = sample_queries(self._repository, entry, spec, self._options.query_count, random_bytes)
            before = self._clock.monotonic()
            with target.search(scratch) as searcher:
                index_seconds = self._clock.monotonic() - before
                found, seconds = self._replay(searcher, spec, sample, on_event)
        result = msgspec.structs.replace(result, index_seconds=round(index_seconds, 3), vector=spec.name)
        return self._measured(result, entry, spec, sample, found=found, seconds=seconds)

    def _restore(
        self, entry: CollectionEntry, scratch: str, on_event: OnEvent
    ) -> tuple[restore.RestoredCollection, float]:
        before = self._clock.monotonic()
        options = restore.RestoreOptions(collections=((entry.name, scratch),))
        history, _ = Catalog(self._repository).survey()
        plan = restore.plan(self._snapshot, self._target, options=options, history=history)
        report = restore.apply(plan, self._repository, self._target, clock=self._clock, on_event=on_event)
        return report.collections[0], self._clock.monotonic() - before

    def _replay(
        self, searcher: Searcher, spec: VectorSpec, sample: Sample, on_event: OnEvent
    ) -> tuple[list[list[bytes]], list[float]]:
        """Ask every query; return the keys found, without the query's own record, and the seconds taken."""
        found: list[list[bytes]] = []
        seconds: list[float] = []
        for number, (key, query) in enumerate(zip(sample.keys, sample.queries, strict=True), start=1):
            before = self._clock.monotonic()
            keys = searcher.nearest(spec.name, query, self._options.k + 1)
            seconds.append(self._clock.monotonic() - before)
            found.append([each for each in keys if each != key][: self._options.k])
            on_event(
                Progress(
                    stage="search", subject=spec.name, done=number, total=len(sample.keys), unit="queries"
                )
            )
        return found, seconds

    def _measured(
        self,
        result: DrilledCollection,
        entry: CollectionEntry,
        spec: VectorSpec,
        sample: Sample,
        *,
        found: list[list[bytes]],
        seconds: list[float],
    ) -> DrilledCollection:
        if not sample.keys:
            return result
        exact = exact_neighbours(self._repository, entry, spec, sample, self._options.k)
        recalls = [each.recall(keys) for each, keys in zip(exact, found, strict=True)]
        return msgspec.structs.replace(
            result,
            query_count=len(recalls),
            k=self._options.k,
            recall_mean=round(float(np.mean(recalls)), 6),
            recall_min=round(min(recalls), 6),
            latency_ms_mean=round(1000 * float(np.mean(seconds)), 3),
            latency_ms_max=round(1000 * max(seconds), 3),
        )


def _searched(entry: CollectionEntry, options: DrillOptions) -> VectorSpec | None:
    """Return the vector to search: the one named, else the first dense one; None if there is none."""
    if options.vector is not None:
        spec = entry.schema.vector(options.vector)
        if spec.kind != "dense":
            raise RequestError(f"vector {options.vector!r} of {entry.name!r} is {spec.kind}, not dense")
        return spec
    return next((spec for spec in entry.schema.vectors if spec.kind == "dense"), None)
