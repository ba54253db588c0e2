"""Snapshots that somebody made to do harm: intact by every checksum, and wrong."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect.compat.ruvector import Snapshot, SnapshotManager, layout
from recollect.compat.ruvector.files.graph_layout import check_graph, find_nodes
from recollect.compat.ruvector.files.member import decode_member, encode_member
from recollect.compat.ruvector.graph import take_graph
from recollect.database import Database
from recollect.errors import IntegrityError
from tests.ruvector.samples import DIMENSION, run


def seal(directory: Path, change: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Make all checksums of a snapshot right again, after a change of its `metadata.json`."""
    path = directory / layout.DOCUMENT
    document = json.loads(path.read_text())
    digests = {}
    for name in layout.DATA_FILES:
        data = (directory / name).read_bytes()
        digests[name] = hashlib.sha256(data).hexdigest()
        document["byte_sizes"][name] = len(data)
    document["checksum"] = layout.data_checksum(digests)
    if change is not None:
        change(document)
    path.write_text(json.dumps(document))
    digests[layout.DOCUMENT] = hashlib.sha256(path.read_bytes()).hexdigest()
    (directory / layout.CHECKSUMS).write_bytes(layout.encode_checksums(digests))


@pytest.fixture
def snapshot(manager: SnapshotManager, database: Database) -> Snapshot:
    return run(manager.create_snapshot(database, "one"))


@pytest.fixture
def directory(snapshot: Snapshot, tmp_path: Path) -> Path:
    return tmp_path / "snapshots" / f"snapshot-{snapshot.id}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "2026-01-01T00:00:00"),
        ("vector_count", -1),
        ("size_bytes", -5),
        ("metadata", {}),
        ("metadata", {"collection": 7, "fingerprint": "x"}),
        ("byte_sizes", {}),
        ("byte_sizes", dict.fromkeys(layout.DATA_FILES, -1)),
        ("schema", {"vectors": []}),
        ("schema", {"vectors": [{"name": "", "dimension": 0}]}),
        ("schema", {"vectors": [{"name": "", "dimension": -3}]}),
    ],
)
def test_metadata_that_nothing_can_be_made_of_is_damage_and_hides_no_other(
    manager: SnapshotManager, database: Database, snapshot: Snapshot, directory: Path, field: str, value: Any
) -> None:
    other = run(manager.create_snapshot(database, "other"))
    seal(directory, lambda document: document.__setitem__(field, value))

    assert [one.id for one in run(manager.list_snapshots())] == [other.id]
    assert not run(manager.verify_snapshot(snapshot.id))
    with pytest.raises(IntegrityError, match=r"metadata\.json"):
        run(manager.restore_snapshot(snapshot.id, directory.parent.parent / "r"))
    with pytest.raises(IntegrityError):
        run(manager.create_incremental_snapshot(database, "inc", snapshot.id))


def test_metadata_of_any_size_is_not_read(
    manager: SnapshotManager, snapshot: Snapshot, directory: Path
) -> None:
    with (directory / layout.DOCUMENT).open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: nothing is written

    assert run(manager.list_snapshots()) == []
    assert "too large" in run(manager.check_snapshot(snapshot.id)).problem


def test_a_collection_named_like_a_path_writes_nothing_elsewhere(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    pytest.importorskip("usearch")
    database.vectors.build_index(tmp_path / "index.usearch")
    snapshot = run(manager.create_snapshot(database, "one"))
    directory = tmp_path / "snapshots" / f"snapshot-{snapshot.id}"
    seal(directory, lambda document: document["metadata"].__setitem__("collection", "../../../evil"))

    place = tmp_path / "deep" / "er" / "r"
    with run(manager.restore_snapshot(snapshot.id, place)) as restored:
        assert restored.collection("../../../evil").search(np.ones(DIMENSION), 1)
    assert not [*tmp_path.rglob("*evil*")]


@pytest.mark.parametrize("counts", [(1 << 61, 1 << 61, 1 << 61), (300, 0, 1 << 32), (0, 0, 2 << 30)])
def test_an_index_may_not_claim_any_memory_it_likes(
    manager: SnapshotManager, snapshot: Snapshot, directory: Path, counts: tuple[int, int, int]
) -> None:
    fields = struct.pack("<IIIIIQQQ", 1, DIMENSION, 16, 100, 50, *counts)
    head = struct.pack("<8sI36s", b"RVSNINDX", 1, snapshot.id.encode())
    zeros = encode_member([], bytes(64 << 20), level=9)
    (directory / layout.INDEX).write_bytes(encode_member([head + fields], b"", level=0) + 4 * zeros)
    seal(directory)

    assert "claims" in run(manager.check_snapshot(snapshot.id)).problem
    with pytest.raises(IntegrityError, match="claims"):
        run(manager.restore_snapshot(snapshot.id, directory.parent.parent / "r"))
    assert not (directory.parent.parent / "r").exists()


def test_a_member_that_unpacks_to_more_than_it_says_is_stopped() -> None:
    member = bytearray(encode_member([], bytes(64 << 20), level=9))
    struct.pack_into("<I", member, 20, 1000)

    with pytest.raises(IntegrityError, match="length"):
        decode_member(bytes(member))


def graph_of(database: Database, tmp_path: Path) -> tuple[bytes, int]:
    """Return the graph of a stored index, and its nodes."""
    database.vectors.build_index(tmp_path / "index.usearch")
    with database.vectors.hold() as held:
        stored = take_graph(held)
    return stored.graph.tobytes(), len(stored.rows)


def test_no_flipped_byte_of_a_graph_gets_usearch_to_read_what_is_not_there(
    database: Database, tmp_path: Path
) -> None:
    """A graph is taken as it is or refused; links, levels, entry and dimension are never out of bounds."""
    pytest.importorskip("usearch")
    graph, count = graph_of(database, tmp_path)
    good = np.frombuffer(graph, dtype=np.uint8)
    check_graph(good, find_nodes(good, count), dimension=DIMENSION)
    layout = find_nodes(good, count)
    node = int(layout.places[7])
    above = int(layout.places[int(np.argmax(layout.levels))]) + 10 + 4 * (1 + layout.base_links)
    places = [
        (14, "vectors"),  # scalar kind
        (33, "vectors"),  # dimension
        (64, "nodes"),
        (64 + 24, "entry"),  # highest level
        (64 + 33, "entry"),
        (104 + 2 * 7, "fill"),  # level of node 7
        (node + 1, "number"),
        (node + 8, "level"),
        (node + 11, "room"),
        (node + 15, "leads to no node"),
        (above + 1, "room"),
        (above + 5, "leads to no node"),
    ]
    for place, message in places:
        bad = good.copy()
        bad[place] ^= 0x41
        with pytest.raises(IntegrityError, match=message):
            check_graph(bad, find_nodes(bad, count), dimension=DIMENSION)
