"""Find: which snapshots have a record, and between which of them it changed. Reads index columns only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from recollect.errors import NotFoundError
from recollect.repository.repository import Repository
from recollect.segments.lookup import Digests, RecordLookup
from recollect.values import batch as columns
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.key import RecordId, encode_key
from recollect.values.snapshot import CollectionEntry, Snapshot

Change: TypeAlias = Literal["added", "changed", "removed", "absent"]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A span of snapshots, one after the other, in which a record is the same.

    Attributes:
        change: Against the span before: "added", "changed", "removed"; "absent" if the first span lacks it.
        fields: Which of "payload" and "vector:<name>" changed; empty unless `change` is "changed".
        snapshots: Ids, oldest first.
        first: The oldest of them.
        last: The newest of them.
    """

    change: Change
    fields: tuple[str, ...] = ()
    snapshots: tuple[str, ...]
    first: Snapshot
    last: Snapshot


class RecordHistory(msgspec.Struct, frozen=True, kw_only=True):
    """One record of one collection of one source, in all snapshots of it."""

    record_id: RecordId
    source: str
    collection: str
    versions: tuple[Version, ...]


def run(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    record_ids: Sequence[RecordId],
    *,
    collection: str = "",
    on_event: OnEvent = ignore_events,
) -> list[RecordHistory]:
    """Return the history of each record in each collection that ever had it, in the order of `record_ids`.

    `snapshots` come oldest first. `collection` is a name or alias; all are looked at if it is empty.

    Raises:
        NotFoundError: No snapshot has the collection.
        IntegrityError: An index is damaged or missing.
    """
    groups = _groups(snapshots, collection)
    if not groups:
        raise NotFoundError(
            f"no snapshot in {repository.url} has a collection {collection!r}"
            if collection
            else f"there are no snapshots with collections in {repository.url}",
            f"see what there is: recollect snapshots -r {repository.url}",
        )
    keys = {record_id: encode_key(record_id) for record_id in record_ids}
    histories: list[RecordHistory] = []
    total, done = sum(map(len, groups.values())), 0
    for (source, name), entries in groups.items():
        lookup = RecordLookup(repository, list(keys.values()))
        states: list[dict[bytes, Digests]] = []
        for _, entry in entries:
            states.append(lookup.find(entry.schema, entry.runs))
            done += 1
            on_event(Progress(stage="look", subject=name, done=done, total=total, unit="snapshots"))
        for record_id, key in keys.items():
            versions = _versions([snapshot for snapshot, _ in entries], [each.get(key) for each in states])
            if any(key in state for state in states):
                histories.append(
                    RecordHistory(record_id=record_id, source=source, collection=name, versions=versions)
                )
    order = {record_id: place for place, record_id in enumerate(keys)}
    return sorted(histories, key=lambda each: order[each.record_id])


_Groups: TypeAlias = dict[tuple[str, str], list[tuple[Snapshot, CollectionEntry]]]


def _groups(snapshots: Iterable[Snapshot], collection: str) -> _Groups:
    """Put together what is one collection through time."""
    groups: _Groups = {}
    for snapshot in snapshots:
        for entry in snapshot.collections:
            if not collection or collection == entry.name or collection in entry.aliases:
                groups.setdefault((snapshot.source, entry.name), []).append((snapshot, entry))
    return groups


def _versions(snapshots: list[Snapshot], states: list[Digests | None]) -> tuple[Version, ...]:
    """Cut the snapshots where the record changed."""
    starts = [0] + [place for place in range(1, len(states)) if states[place] != states[place - 1]]
    versions = []
    for start, end in zip(starts, [*starts[1:], len(states)], strict=True):
        before = states[start - 1] if start else None
        change, fields = _change(before, states[start])
        versions.append(
            Version(
                change=change,
                fields=fields,
                snapshots=tuple(each.id for each in snapshots[start:end]),
                first=snapshots[start],
                last=snapshots[end - 1],
            )
        )
    return tuple(versions)


def _change(before: Digests | None, now: Digests | None) -> tuple[Change, tuple[str, ...]]:
    if now is None:
        return ("absent" if before is None else "removed"), ()
    if before is None:
        return "added", ()
    names = sorted({*before, *now}, key=lambda name: (name != columns.PAYLOAD_DIGEST, name))
    return "changed", tuple(columns.value_column(each) for each in names if before.get(each) != now.get(each))
