"""How the contract suite drives an engine: what it can hold, and how to fill and read it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pytest

from recollect.engines.base import Adapting, CollectionDescription, Source, Target
from recollect.testing.records import Row, build_records, fingerprint_of, record_ids
from recollect.values import batch as columns
from recollect.values.key import RecordId, encode_key
from recollect.values.schema import CollectionSchema


class EngineFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine itself can hold; the adapter cannot add to it.

    Attributes:
        id_types: Of "integer" (0 to 2**64-1), "uuid", "string".
        datatypes: Element types of dense vectors.
        vector_kinds: Of "dense", "sparse", "multi".
        unnamed_vector: A vector may have the empty name.
        absent_payload: A record without payload differs from one with an empty payload.
        aliases: Collections can have other names.
        collection_count_max: How many collections one engine holds; None is any number.
        metrics: How dense vectors can compare.
        vector_count_max: Named vectors of one collection; None is any number.
        absent_vectors: A record may lack a vector.
    """

    id_types: frozenset[str] = frozenset({"integer", "uuid"})
    datatypes: frozenset[str] = frozenset({"float32", "float16", "uint8"})
    vector_kinds: frozenset[str] = frozenset({"dense", "sparse", "multi"})
    unnamed_vector: bool = True
    absent_payload: bool = False
    aliases: bool = True
    collection_count_max: int | None = None
    metrics: frozenset[str] = frozenset({"cosine", "dot", "euclid", "manhattan"})
    vector_count_max: int | None = None
    absent_vectors: bool = True


class EngineHarness(Protocol):
    """An engine under test. Sources and targets that it opens are closed by the suite."""

    @property
    def features(self) -> EngineFeatures:
        """What the engine can hold."""
        ...

    @property
    def name(self) -> str:
        """Name of the collection that the suite creates."""
        ...

    def open_source(self) -> Source:
        """Open the engine for reading; it sees all that was switched into place before."""
        ...

    def open_target(self) -> Target:
        """Open the engine for writing."""
        ...


def require(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a statement at the call
    """Skip the test for an engine that lacks what it is about."""
    if not holds:
        pytest.skip(f"this engine is not one with {what}")


def put(
    harness: EngineHarness, schema: CollectionSchema, rows: list[Row], *, name: str = ""
) -> pa.RecordBatch:
    """Write rows as a whole collection, as a restore does; return what the engine is to hold."""
    records = as_held(harness, schema, build_records(schema, rows))
    put_records(harness, schema, [records], name=name)
    return records


def put_records(
    harness: EngineHarness,
    schema: CollectionSchema,
    batches: list[pa.RecordBatch],
    *,
    name: str = "",
    aliases: tuple[str, ...] = (),
) -> None:
    """Write batches as a whole collection: stage, write, finish, switch."""
    target = harness.open_target()
    try:
        target.check_schema(schema)
        staged = target.stage(name or harness.name, schema, aliases)
        try:
            for batch in batches:
                staged.write(batch)
            staged.finish()
            staged.switch()
        finally:
            staged.discard()
    finally:
        target.close()


def as_held(harness: EngineHarness, schema: CollectionSchema, records: pa.RecordBatch) -> pa.RecordBatch:
    """Return records as the target says that it will hold them."""
    target = harness.open_target()
    try:
        return target.as_held(records, schema) if isinstance(target, Adapting) else records
    finally:
        target.close()


def scan(harness: EngineHarness, *, name: str = "", batch_rows: int = 100) -> list[pa.RecordBatch]:
    """Read a whole collection through a fresh source."""
    source = harness.open_source()
    try:
        with source.hold() as view:
            return list(view.scan(name or harness.name, batch_rows=batch_rows))
    finally:
        source.close()


def describe(harness: EngineHarness, name: str = "") -> CollectionDescription:
    """Describe a collection through a fresh source."""
    source = harness.open_source()
    try:
        with source.hold() as view:
            return view.describe(name or harness.name)
    finally:
        source.close()


def names(harness: EngineHarness) -> list[str]:
    """List the collections through a fresh source."""
    source = harness.open_source()
    try:
        with source.hold() as view:
            return view.collections()
    finally:
        source.close()


def round_trip(
    harness: EngineHarness, schema: CollectionSchema, rows: list[Row]
) -> tuple[pa.RecordBatch, list[pa.RecordBatch]]:
    """Write rows and read them back; return both."""
    sent = put(harness, schema, rows)
    return sent, scan(harness)


def in_key_order(harness: EngineHarness, batches: list[pa.RecordBatch]) -> list[RecordId]:
    """Return the ids as scanned; sorted here only where the engine does not promise order."""
    ids = record_ids(batches)
    target = harness.open_target()
    ordered = target.capabilities.ordered_scan
    target.close()
    return ids if ordered else sorted(ids, key=encode_key)


def column(batches: list[pa.RecordBatch], name: str) -> list[Any]:
    """Return a column's values in key order."""
    table = pa.Table.from_batches(batches).sort_by(columns.KEY)
    return list(table.column(name).to_pylist())


def bits(batches: list[pa.RecordBatch], schema: CollectionSchema) -> str:
    """Return the fingerprint: what tells one bit of difference."""
    return str(fingerprint_of(schema, batches))


def rows_of(batches: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Return records as Python values in key order, without positions."""
    table = pa.Table.from_batches(batches).sort_by(columns.KEY).drop_columns([columns.POSITION])
    return list(table.to_pylist())
