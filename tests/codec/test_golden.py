"""Files of released formats, committed: today's code reads them, and writes vector columns byte for byte.

Written by `python -m tests.codec.test_golden`, which refuses to change what is there.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard

from recollect.codec.segment import SegmentReader, encode_segment
from recollect.codec.snapshot import decode_snapshot, encode_snapshot
from recollect.codec.vector_column import VectorColumnReader, decode_vector_column, encode_vector_column
from recollect.testing.records import Row, build_records
from recollect.values import batch as columns
from recollect.values.digest import digest_payloads, digest_records, digest_vectors
from recollect.values.key import encode_key
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import CollectionEntry, ObjectRef, SegmentRef, Snapshot
from tests.codec.changes import changes_of
from tests.codec.columns import FAMILIES, SPECS, bits, column, range_reader

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"
ZSTD_VERSION = (1, 5, 7)
"""The library that packed the golden files; another may pack the same planes into other bytes."""

COLUMNS = [(spec, family) for spec in SPECS if spec.name != "wide" for family in FAMILIES]
SCHEMA = CollectionSchema(
    vectors=(
        VectorSpec(name="", dimension=3),
        VectorSpec(name="many", kind="multi", dimension=2),
        VectorSpec(name="words", kind="sparse"),
    )
)
SEGMENT = GOLDEN / "segment-1"


def column_path(spec: VectorSpec, family: str) -> Path:
    return GOLDEN / f"column-1-{spec.name}-{family}.bin"


def golden_rows() -> list[Row]:
    return [
        Row(
            id=number if number % 3 else f"id-{number}",
            payload={"n": number, "text": "é" * (number % 4)},
            vectors={
                "": [number, -0.0, 0.1],
                "many": [[number, 2]] * (number % 3),
                "words": {number: 0.5, 99: 1},
            },
        )
        for number in range(80)
    ]


def spec_of(digest_name: str) -> VectorSpec:
    return SCHEMA.vector(digest_name.removeprefix(columns.VECTOR_DIGEST_PREFIX))


def bits_digest(values: pa.Array, spec: VectorSpec) -> str:
    return hashlib.sha256(b"|".join(bits(values, spec))).hexdigest()


def known_bits() -> dict[str, str]:
    found: dict[str, str] = json.loads((GOLDEN / "columns-1.json").read_bytes())
    return found


def golden_snapshot() -> Snapshot:
    segment = SegmentRef(
        row_count=80,
        delete_count=7,
        key_min="10" + "0" * 15 + "1",
        key_max="30" + b"id-9".hex(),
        index=ObjectRef(digest="ab" * 32, byte_size=4321),
        vectors={"": ObjectRef(digest="cd" * 32, byte_size=999)},
        position_min=3,
        position_max=2**64 - 1,
    )
    entry = CollectionEntry(
        name="golden",
        schema=SCHEMA,
        aliases=("current",),
        record_count=80,
        fingerprint="80-" + "0123456789abcdef" * 4,
        runs=((segment,),),
    )
    return Snapshot(
        id="01kb0000000000000000000000",
        created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        engine="qdrant",
        source="qdrant://host:6334",
        tags=("weekly",),
        collections=(entry,),
    )


@pytest.mark.parametrize(("spec", "family"), COLUMNS, ids=lambda value: getattr(value, "name", value))
def test_vector_columns_of_version_1_are_read(spec: VectorSpec, family: str) -> None:
    """What was written is known by its SHA-256: generators of other releases may draw other numbers."""
    path = column_path(spec, family)

    assert bits_digest(decode_vector_column(path.read_bytes(), spec), spec) == known_bits()[path.name]


@pytest.mark.skipif(
    ZSTD_VERSION != zstandard.ZSTD_VERSION, reason="another release of zstd packs differently"
)
@pytest.mark.parametrize(("spec", "family"), COLUMNS, ids=lambda value: getattr(value, "name", value))
def test_vector_columns_are_written_byte_for_byte(spec: VectorSpec, family: str) -> None:
    stored = column_path(spec, family).read_bytes()

    assert encode_vector_column(decode_vector_column(stored, spec), spec) == stored


def test_a_segment_of_version_1_is_read() -> None:
    """Only read: the Parquet file names the release of the library that wrote it.

    Every value is compared with the digest that stands beside it.
    """

    def open_vector(name: str) -> VectorColumnReader:
        data = (SEGMENT / f"vector-{name}.bin").read_bytes()
        return VectorColumnReader(range_reader(data), len(data), SCHEMA.vector(name))

    reader = SegmentReader((SEGMENT / "index.parquet").read_bytes(), SCHEMA, open_vector)
    found = pa.Table.from_batches(reader.read_changes()).combine_chunks().to_batches()[0]

    assert found.column(columns.KEY).to_pylist() == sorted(encode_key(row.id) for row in golden_rows())
    for digest_name in columns.digest_columns(SCHEMA):
        values, digests = found.column(columns.value_column(digest_name)), found.column(digest_name)
        stored = values.is_valid()
        again = (
            digest_payloads(values)
            if values.type == pa.binary()
            else digest_vectors(values, spec_of(digest_name))
        )
        assert 40 < stored.true_count < 70
        assert again.filter(stored).equals(digests.filter(stored))
        assert 0 < digests.null_count < values.null_count


def test_a_snapshot_of_format_1_is_read_and_written_byte_for_byte() -> None:
    stored = (GOLDEN / "snapshot-1.json").read_bytes()

    assert decode_snapshot(stored) == golden_snapshot()
    assert encode_snapshot(golden_snapshot()) == stored


def write_golden_files() -> None:
    """Write what is missing; an existing file is a promise and stays."""
    values = {column_path(*pair): (column(*pair, 60, seed=2026), pair[0]) for pair in COLUMNS}
    files = {path: encode_vector_column(*pair) for path, pair in values.items()}
    digests = {path.name: bits_digest(*pair) for path, pair in values.items()}
    files[GOLDEN / "columns-1.json"] = (json.dumps(digests, indent=1) + "\n").encode()
    changes = digest_records(build_records(SCHEMA, golden_rows()), SCHEMA)
    segment = encode_segment(changes_of(changes, SCHEMA, seed=2026), SCHEMA)
    files[SEGMENT / "index.parquet"] = segment.index
    for name, data in segment.vectors.items():
        files[SEGMENT / f"vector-{name}.bin"] = data
    files[GOLDEN / "snapshot-1.json"] = encode_snapshot(golden_snapshot())
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    write_golden_files()
