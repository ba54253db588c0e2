"""`python -m recollect.testing.sample DIRECTORY`: make a Qdrant Edge shard of the sample to try things on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from recollect.engines.base import Adapting
from recollect.errors import RecollectError
from recollect.testing.sample import DIMENSION, load_sample
from recollect.values import batch as columns
from recollect.values.key import integer_keys
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema, PayloadIndex, VectorSpec
from recollect.wiring import open_target, system_context

SCHEMA = CollectionSchema(
    vectors=(VectorSpec(name="", dimension=DIMENSION, metric="cosine"),),
    payload_indexes=(PayloadIndex(field="topic", type="keyword"),),
)


def sample_batch() -> pa.RecordBatch:
    """Return the sample as one batch of `record_schema(SCHEMA)`, ascending by key."""
    sample = load_sample()
    target = columns.record_schema(SCHEMA)
    arrays = [
        integer_keys(np.array(sample.ids, dtype=np.uint64)),
        pa.nulls(len(sample.ids), pa.uint64()),
        pa.array([encode_payload(payload) for payload in sample.payloads], type=pa.binary()),
        pa.FixedSizeListArray.from_arrays(
            pa.array(sample.vectors.reshape(-1)), type=target.field(columns.vector_column("")).type
        ),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=target)


def main(arguments: list[str]) -> int:
    """Make the shard; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m recollect.testing.sample DIRECTORY\n")
        return 2
    path = Path(arguments[0]).resolve()
    try:
        if path.exists():
            sys.stderr.write(f"error: {path} exists\nnext: choose another directory\n")
            return 5
        target = open_target(str(path), system_context())
        records = sample_batch()
        held = target.as_held(records, SCHEMA) if isinstance(target, Adapting) else records
        staged = target.stage(path.name, SCHEMA, ())
        try:
            staged.write(held)
            staged.finish()
            staged.switch()
        finally:
            staged.discard()
    except RecollectError as error:
        sys.stderr.write(f"error: {error}\nnext: {error.next_step}\n")
        return error.exit_code
    sys.stdout.write(f"{records.num_rows} sentences in {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
