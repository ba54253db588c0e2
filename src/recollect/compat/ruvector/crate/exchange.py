"""Between the crate's records and ours: ids become text, metadata JSON, metrics their other names."""

from __future__ import annotations

from datetime import datetime

import msgspec
import numpy as np

from recollect.compat.ruvector.crate.bincode import CrateData, CrateHnsw, CrateMetric
from recollect.compat.ruvector.crate.files import CRATE_VERSION
from recollect.database.held import HeldVectors
from recollect.database.options import VectorOptions
from recollect.database.stores import VectorStore
from recollect.errors import IntegrityError, RequestError
from recollect.values.key import decode_key
from recollect.values.payload import decode_payload, encode_payload
from recollect.values.schema import CollectionSchema, Metric, VectorSpec

_TO_CRATE: dict[Metric, CrateMetric] = {"cosine": "Cosine", "euclid": "Euclidean", "dot": "DotProduct"}
_FROM_CRATE: dict[CrateMetric, Metric] = {other: ours for ours, other in _TO_CRATE.items()}
_ROWS_AT_ONCE = 2048


def to_crate(
    held: HeldVectors, *, snapshot_id: str, collection: str, created_at: datetime, options: VectorOptions
) -> CrateData:
    """Return the held records as the crate's.

    Raises:
        RequestError: There are no records (the crate refuses that), or two ids have the same text.
    """
    if held.schema is None or not len(held):
        raise RequestError("Cannot create snapshot of empty collection", "add vectors first")
    spec = held.schema.vectors[0]
    batch = held.batch(held.slots)
    ids = [str(decode_key(key)) for key in batch.keys]
    if len(set(ids)) != len(ids):
        raise RequestError(
            "two ids have the same text, as 1 and '1' do; the crate knows only text",
            "give one of them another id",
        )
    return CrateData(
        id=snapshot_id,
        collection_name=collection,
        created_at=created_at.isoformat(),
        version=CRATE_VERSION,
        dimension=spec.dimension,
        metric=_TO_CRATE[spec.metric or "cosine"],
        hnsw=CrateHnsw(options.hnsw_connectivity, options.hnsw_expansion_add, options.hnsw_expansion_search),
        ids=ids,
        vectors=batch.vectors,
        payloads=[None if one is None else one.decode("utf-8") for one in batch.metadata],
    )


def schema_of(data: CrateData) -> CollectionSchema:
    """Return the schema of a collection that can hold the crate's records."""
    spec = VectorSpec(name="", dimension=data.dimension, metric=_FROM_CRATE[data.metric])
    parameters = {}
    if data.hnsw is not None:
        parameters = {"hnsw_config": {"m": data.hnsw.m, "ef_construct": data.hnsw.ef_construction}}
    return CollectionSchema(vectors=(msgspec.structs.replace(spec, parameters=parameters),))


def write_records(data: CrateData, collection: VectorStore) -> None:
    """Write the crate's records into a collection.

    Raises:
        IntegrityError: An id comes twice, or a payload is not JSON.
        RequestError: A vector holds NaN or an infinity.
    """
    if len(set(data.ids)) != len(data.ids):
        raise IntegrityError(f"snapshot {data.id} holds an id twice")
    metadata: list[bytes | None] = []
    for record_id, payload in zip(data.ids, data.payloads, strict=True):
        try:
            metadata.append(
                None if payload is None else encode_payload(decode_payload(payload.encode("utf-8")))
            )
        except RequestError as error:
            raise IntegrityError(f"the payload of {record_id!r}: {error.message}") from error
    for start in range(0, len(data.ids), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        collection.set_many(data.ids[part], np.asarray(data.vectors[part]), metadata[part])
