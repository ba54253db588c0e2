from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from recollect.codec.snapshot import decode_snapshot, encode_snapshot
from recollect.errors import FormatVersionError, IntegrityError
from recollect.values.schema import CollectionSchema, PayloadIndex, VectorSpec
from recollect.values.snapshot import CollectionEntry, ObjectRef, SegmentRef, Snapshot

SNAPSHOT = Snapshot(
    id="01jd0000000000000000000000",
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    engine="qdrant",
    source="qdrant://host:6334",
    parent=None,
    tags=("a", "ü"),
    collections=(
        CollectionEntry(
            name="c",
            schema=CollectionSchema(
                vectors=(
                    VectorSpec(
                        name="", dimension=3, metric="cosine", parameters={"z": 1, "a": {"y": 2, "b": 1.5}}
                    ),
                ),
                payload_indexes=(PayloadIndex(field="city", type="keyword"),),
                native={"b": None, "a": [1, 2**63]},
            ),
            record_count=2,
            fingerprint="2-" + "0" * 64,
            runs=(
                (
                    SegmentRef(
                        row_count=2,
                        delete_count=0,
                        key_min="100000000000000001",
                        key_max="100000000000000002",
                        index=ObjectRef(digest="a" * 64, byte_size=10),
                        vectors={"": ObjectRef(digest="b" * 64, byte_size=20)},
                        position_max=2**64 - 1,
                    ),
                ),
            ),
        ),
    ),
    duration_seconds=0.25,
    extra={"z": 1, "a": True},
)


def sorted_keys(value: object) -> bool:
    if isinstance(value, dict):
        return list(value) == sorted(value) and all(map(sorted_keys, value.values()))
    return not isinstance(value, list) or all(map(sorted_keys, value))


def test_a_snapshot_comes_back() -> None:
    assert decode_snapshot(encode_snapshot(SNAPSHOT)) == SNAPSHOT


def test_the_form_is_canonical() -> None:
    encoded = encode_snapshot(SNAPSHOT)

    assert sorted_keys(json.loads(encoded))
    assert json.dumps(json.loads(encoded), separators=(",", ":"), ensure_ascii=False).encode() == encoded
    assert encode_snapshot(decode_snapshot(encoded)) == encoded
    assert b'"created_at":"2026-01-02T03:04:05.678901Z"' in encoded


def test_unknown_keys_are_ignored() -> None:
    extended = json.loads(encode_snapshot(SNAPSHOT)) | {"added_later": [1, {"x": 2}]}

    assert decode_snapshot(json.dumps(extended).encode()) == SNAPSHOT


def test_a_newer_format_is_unsupported_even_if_nothing_else_is_known_of_it() -> None:
    with pytest.raises(FormatVersionError, match="format 2"):
        decode_snapshot(b'{"format": 2, "id": ["not", "a", "string"]}')


BROKEN = [b"", b"{", b"[]", b"{}", b'{"format": 1}', b'{"format": "1"}', b'{"format": 0}', b'{"format": -1}']


@pytest.mark.parametrize(
    "data", [*BROKEN, b"\xff\xfe", b'{"format": 1, "id": "\xff"}', b'{"format":1,"extra":' + b"[" * 5000]
)
def test_broken_json_is_damage(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_snapshot(data)


def test_every_truncation_is_noticed() -> None:
    encoded = encode_snapshot(SNAPSHOT)
    for size in range(len(encoded)):
        with pytest.raises(IntegrityError):
            decode_snapshot(encoded[:size])
