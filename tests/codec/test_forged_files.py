"""Snapshots that somebody forged: lists of files that no engine has are damage, found when they are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recollect.codec.snapshot import decode_snapshot
from recollect.errors import IntegrityError

DIGEST = "0" * 64


def described(path: str, pieces: list[list[Any]], byte_size: int = 100) -> bytes:
    shard = {"shard_id": 0, "files": [{"path": path, "byte_size": byte_size, "pieces": pieces}]}
    collection = {
        "name": "docs",
        "schema": {"vectors": []},
        "record_count": 0,
        "fingerprint": "0-0",
        "shards": [shard],
    }
    return json.dumps(
        {
            "format": 1,
            "id": "0" * 26,
            "created_at": "2026-01-01T00:00:00Z",
            "engine": "qdrant",
            "source": "qdrant://h",
            "collections": [collection],
        }
    ).encode()


def test_a_file_of_pieces_that_ascend_is_read() -> None:
    pieces = [[0, 10, DIGEST, 5], [10, 90, DIGEST, 5]]

    (entry,) = decode_snapshot(described("segments/0/a", pieces)).collections

    assert entry.shards[0].files[0].path == "segments/0/a"


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a/../b", "", ".", "a//b", "a/", "./a", "a\0b"])
def test_a_path_that_leads_out_of_the_shard_is_damage(path: str) -> None:
    with pytest.raises(IntegrityError, match="no path of a file"):
        decode_snapshot(described(path, []))


@pytest.mark.parametrize(
    "pieces",
    [
        [[0, 10, DIGEST, 5], [9, 10, DIGEST, 5]],
        [[50, 10, DIGEST, 5], [0, 10, DIGEST, 5]],
        [[95, 10, DIGEST, 5]],
        [[-1, 10, DIGEST, 5]],
        [[0, 0, DIGEST, 5]],
        [[0, -5, DIGEST, 5]],
        [[0, 5, DIGEST, -5]],
        [[0, 5, "../../../x", 5]],
        [[2**70, 5, DIGEST, 5]],
    ],
)
def test_pieces_that_are_none_of_a_file_are_damage(pieces: list[list[Any]]) -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        decode_snapshot(described("a", pieces))


def test_a_file_of_a_size_below_zero_is_damage() -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        decode_snapshot(described("a", [], byte_size=-1))
