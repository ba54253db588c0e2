"""From what a caller passes to what a commit carries: checks, and typed operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recollect.database import operation as ops
from recollect.database.events import ADD, DEL, EVENT, KIND_NAMES, SET, StoredEvent
from recollect.database.limits import (
    SCORE_MAX,
    TIMESTAMP_MAX,
    check_integer,
    check_matrix,
    check_name,
    check_text,
    encode_value,
)
from recollect.errors import RequestError
from recollect.values.key import RecordId, encode_key

DEFAULT_COLLECTION = "vectors"

__all__ = [
    "ADD",
    "DEFAULT_COLLECTION",
    "DEL",
    "SET",
    "Event",
    "EventContent",
    "append_events",
    "clear_vectors",
    "delete_state",
    "delete_vectors",
    "replace_events",
    "set_metadata",
    "set_vectors",
    "write_many_state",
    "write_state",
]


class Event(NamedTuple):
    """One event to take; without a timestamp it happens at the time of the commit."""

    kind: int
    context: str
    item: str
    score: int
    timestamp: int | None = None


class EventContent(NamedTuple):
    """Everything that the event store holds, to be put in place of what is there.

    Attributes:
        contexts: By name, the one that took no event for longest first; events oldest first.
        edges: Directed, (source, target, weight); a pair that saw each other has two.
        event_count: What the counter of events shows from there on; None counts the stored ones.
    """

    contexts: Sequence[tuple[str, Sequence[StoredEvent]]]
    edges: Sequence[tuple[str, str, float]]
    event_count: int | None = None


def record_keys(ids: Sequence[RecordId]) -> list[bytes]:
    """Encode ids; RequestError for what is no id."""
    return [encode_key(check_text("an id", one) if isinstance(one, str) else one) for one in ids]


def encode_metadata(metadata: Sequence[Mapping[str, Any] | bytes | None], count: int) -> list[bytes | None]:
    """Encode the metadata of `count` vectors; bytes are taken as canonical JSON already."""
    if len(metadata) != count:
        raise RequestError(f"there are {len(metadata)} metadata for {count} ids")
    return [
        one if one is None or isinstance(one, bytes) else encode_value("the metadata of a vector", one)
        for one in metadata
    ]


def set_vectors(
    collection: str,
    ids: Sequence[RecordId],
    vectors: npt.ArrayLike,
    metadata: Sequence[Mapping[str, Any] | bytes | None] | None,
    *,
    keep_metadata: bool = False,
) -> ops.VectorsSet:
    """Stage vectors; without metadata they have none, or keep theirs. Shapes: n ids, vectors (n, d)."""
    keys = record_keys(ids)
    matrix = check_matrix(vectors) if len(keys) else np.zeros((0, 1), dtype="<f4")
    if len(matrix) != len(keys):
        raise RequestError(f"there are {len(matrix)} vectors for {len(keys)} ids")
    encoded: list[bytes | None] = []
    if metadata is not None:
        encoded = encode_metadata(metadata, len(keys))
    elif not keep_metadata:
        encoded = [None] * len(keys)
    return ops.VectorsSet(check_name("a collection", collection), keys, matrix.data.cast("B"), encoded)


def set_metadata(
    collection: str, ids: Sequence[RecordId], metadata: Sequence[Mapping[str, Any] | None]
) -> ops.MetadataSet:
    """Stage other metadata for vectors that exist."""
    keys = record_keys(ids)
    return ops.MetadataSet(collection, keys, encode_metadata(metadata, len(keys)))


def delete_vectors(collection: str, ids: Sequence[RecordId]) -> ops.VectorsDelete:
    """Stage the deletion of ids."""
    return ops.VectorsDelete(collection, record_keys(ids))


def clear_vectors(collection: str) -> ops.VectorsClear:
    """Stage the deletion of every vector of a collection."""
    return ops.VectorsClear(collection)


def append_events(events: Sequence[Event], now_s: int) -> ops.EventsAppend:
    """Stage events in order; those without a timestamp happen at `now_s`."""
    return ops.EventsAppend(
        [check_name("a context", event.context) for event in events],
        [check_name("an item", event.item) for event in events],
        [check_integer("a score", event.score, low=-SCORE_MAX, high=SCORE_MAX) for event in events],
        [
            check_integer(
                "a timestamp",
                now_s if event.timestamp is None else event.timestamp,
                low=0,
                high=TIMESTAMP_MAX,
            )
            for event in events
        ],
        bytes(_kind(event.kind) for event in events),
    )


def replace_events(content: EventContent) -> ops.EventsReplace:
    """Stage the replacement of all events."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(check_name("an item", name), len(numbers))

    rings = [
        b"".join(EVENT.pack(number(one.item), one.score, one.timestamp, _kind(one.kind)) for one in events)
        for _, events in content.contexts
    ]
    sources = np.array([number(edge[0]) for edge in content.edges], dtype="<u4")
    targets = np.array([number(edge[1]) for edge in content.edges], dtype="<u4")
    weights = np.array([edge[2] for edge in content.edges], dtype="<f4")
    if not np.isfinite(weights).all():
        raise RequestError("a co-occurrence weight is NaN or infinite")
    if len({(edge[0], edge[1]) for edge in content.edges}) != len(content.edges):
        raise RequestError("a co-occurrence edge is given twice")
    count = content.event_count
    return ops.EventsReplace(
        list(numbers),
        [check_name("a context", name) for name, _ in content.contexts],
        rings,
        sources.tobytes(),
        targets.tobytes(),
        weights.tobytes(),
        sum(len(events) for _, events in content.contexts) if count is None else count,
    )


def write_state(namespace: str, agent: str, key: str, value: Any) -> ops.StateWrite:
    """Stage a state value."""
    names = _state_name(namespace, agent, key)
    return ops.StateWrite(*names, encode_value(f"the value of state key {key!r}", value))


def write_many_state(
    namespace: str, agent: str, keys: Sequence[str], values: Sequence[Any]
) -> ops.StateWriteMany:
    """Stage many values of one agent; bytes are taken as canonical JSON already."""
    if len(keys) != len(values):
        raise RequestError(f"there are {len(values)} values for {len(keys)} keys")
    encoded = [one if isinstance(one, bytes) else encode_value("a state value", one) for one in values]
    for key in keys:
        check_name("a key", key)
    return ops.StateWriteMany(
        check_name("a namespace", namespace), check_name("an agent", agent), list(keys), encoded
    )


def delete_state(namespace: str, agent: str, key: str) -> ops.StateDelete:
    """Stage the deletion of a state key."""
    return ops.StateDelete(*_state_name(namespace, agent, key))


def _state_name(namespace: str, agent: str, key: str) -> tuple[str, str, str]:
    return check_name("a namespace", namespace), check_name("an agent", agent), check_name("a key", key)


def _kind(kind: int) -> int:
    if not 0 <= kind < len(KIND_NAMES):
        raise RequestError(f"{kind!r} is no kind of event; there are ADD 0, SET 1, DEL 2")
    return kind
