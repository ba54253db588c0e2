"""Versions read from a shard's files are those that the engine tells, or are not read at all."""

from __future__ import annotations

import random
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.engines.edge.source import describe_shard
from recollect.engines.edge.versions import ask_versions, read_versions, record_versions

edge = pytest.importorskip("qdrant_edge")

NUMBERS = [0, 1, 2, 3, 17, 255, 256, 2**32, 2**63, 2**64 - 1, *range(40, 90)]
UUIDS = [uuid.UUID(int=number * 0x1234_5678_9ABC_DEF0_1357) for number in range(1, 30)]


def create(path: Path, **config: Any) -> None:
    path.mkdir()
    vectors = edge.EdgeVectorParams(size=32, distance=edge.Distance.Dot)
    optimizers = edge.EdgeOptimizersConfig(
        indexing_threshold=1, vacuum_min_vector_number=1, deleted_threshold=0.01
    )
    edge.EdgeShard.create(
        str(path), edge.EdgeConfig(vectors=vectors, optimizers=optimizers, **config)
    ).close()


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    shard = edge.EdgeShard.load(str(path))
    try:
        yield shard
    finally:
        shard.close()


def point(record_id: Any, turn: int) -> Any:
    return edge.Point(record_id, [float(turn)] * 32, {"turn": turn})


def both(path: Path) -> tuple[pa.Table | None, pa.Table]:
    """Return what the files say and what the engine says."""
    with opened(path) as shard:
        total = shard.count(edge.CountRequest(exact=True))
        read = read_versions(shard, path, total)
        schema = describe_shard(shard, path, "docs").schema
        return read, ask_versions(shard, path, total, schema)


def trackers(path: Path) -> set[str]:
    return {found.name for found in path.glob("segments/*/*id_tracker*")}


@pytest.mark.parametrize(
    "ids", [NUMBERS, UUIDS, [*NUMBERS[:30], *UUIDS]], ids=["numbers", "UUIDs", "numbers, then UUIDs"]
)
@pytest.mark.parametrize("is_optimized", [False, True])
def test_the_files_tell_what_the_engine_tells(tmp_path: Path, ids: list[Any], *, is_optimized: bool) -> None:
    path = tmp_path / "shard"
    create(path)
    with opened(path) as shard:
        for turn in range(3):
            shard.update(edge.UpdateOperation.upsert_points([point(each, turn) for each in ids[turn::2]]))
        shard.update(edge.UpdateOperation.set_payload(ids[:5], {"seen": True}))
        shard.update(edge.UpdateOperation.delete_points(ids[3:6]))
        if is_optimized:
            shard.optimize()
            shard.update(edge.UpdateOperation.delete_points(ids[8:10]))
            shard.update(edge.UpdateOperation.upsert_points([point(each, 9) for each in ids[9:12]]))

    read, told = both(path)

    assert ("id_tracker.mappings" in trackers(path)) is is_optimized
    assert read is not None
    assert read.equals(told)


CHANGES = st.tuples(
    st.sampled_from(["upsert", "delete", "payload", "optimize", "reopen", "no vector"]),
    st.lists(st.sampled_from([*NUMBERS[:30], *UUIDS[:10]]), min_size=1, max_size=8, unique=True),
)


def change(shard: Any, kind: str, ids: list[Any], turn: int) -> None:
    operation = edge.UpdateOperation
    if kind == "upsert":
        shard.update(operation.upsert_points([point(each, turn) for each in ids]))
    elif kind == "delete":
        shard.update(operation.delete_points(ids))
    elif kind == "payload":
        shard.update(operation.set_payload(ids, {"payload": turn}))
    elif kind == "no vector":
        shard.update(operation.delete_vectors(ids, [""]))
    elif kind == "optimize":
        shard.optimize()


@settings(max_examples=25)
@given(changes=st.lists(CHANGES, min_size=1, max_size=14), seed=st.integers(0, 99))
def test_whatever_happened_to_a_shard_its_files_tell_what_the_engine_tells(
    changes: list[tuple[str, list[Any]]], seed: int
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "shard"
        create(path)
        shard = edge.EdgeShard.load(str(path))
        first = random.Random(seed).sample([*NUMBERS, *UUIDS], 40)
        shard.update(edge.UpdateOperation.upsert_points([point(each, -1) for each in sorted(first, key=str)]))
        there = set(first)
        for turn, (kind, ids) in enumerate(changes):
            change(shard, kind, ids if kind in {"upsert", "delete"} else [*there.intersection(ids)], turn)
            there = (
                there.union(ids) if kind == "upsert" else there.difference(ids if kind == "delete" else [])
            )
            if kind == "reopen":
                shard.close()
                shard = edge.EdgeShard.load(str(path))
        shard.close()

        read, told = both(path)

        assert read is not None
        assert read.equals(told)


def test_what_only_the_log_has_counts_too(tmp_path: Path) -> None:
    """A shard whose owner died: the engine applies its write-ahead log when it is opened."""
    path, copy = tmp_path / "shard", tmp_path / "copy"
    create(path)
    with opened(path) as shard:
        shard.update(edge.UpdateOperation.upsert_points([point(each, 1) for each in NUMBERS]))
        shard.flush()
        shard.update(edge.UpdateOperation.upsert_points([point(each, 2) for each in NUMBERS[:9]]))
        shard.update(edge.UpdateOperation.delete_points(NUMBERS[9:12]))
        shutil.copytree(path, copy)

    read, told = both(copy)

    assert read is not None
    assert read.equals(told)
    assert read.num_rows == len(NUMBERS) - 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def other_kind(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\x07" + data[9:])


def older(path: Path) -> None:
    """Take a number off every version: readable, and not what the engine has in memory."""
    versions = np.fromfile(path, dtype="<u8")
    (versions - 1).tofile(path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("id_tracker.mappings", cut),
        ("id_tracker.mappings", other_kind),
        ("id_tracker.versions", cut),
        ("mutable_id_tracker.mappings", cut),
        ("mutable_id_tracker.versions", older),
        ("version.info", cut),
    ],
)
def test_files_that_are_not_as_known_are_left_to_the_engine(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """The files change behind the open engine's back, as if another release had written them."""
    path = tmp_path / "shard"
    create(path)
    with opened(path) as shard:
        shard.update(edge.UpdateOperation.upsert_points([point(each, 1) for each in NUMBERS]))
        shard.optimize()
        shard.update(edge.UpdateOperation.upsert_points([point(each, 2) for each in NUMBERS[:9]]))
    with opened(path) as shard:
        schema = describe_shard(shard, path, "docs").schema
        told = ask_versions(shard, path, len(NUMBERS), schema)
        for found in path.glob(f"segments/*/{name}"):
            damage(found)

        assert read_versions(shard, path, len(NUMBERS)) is None
        assert pa.Table.from_batches(record_versions(shard, path, schema)).equals(told)


def test_an_unknown_tracker_is_left_to_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    create(path)
    with opened(path) as shard:
        shard.update(edge.UpdateOperation.upsert_points([point(each, 1) for each in NUMBERS]))
    with opened(path) as shard:
        for found in path.glob("segments/*/mutable_id_tracker.versions"):
            found.rename(found.with_name("next_id_tracker.versions"))

        assert read_versions(shard, path, len(NUMBERS)) is None


def test_an_empty_shard_has_no_versions(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    create(path)

    read, _ = both(path)

    assert read is not None
    assert read.num_rows == 0
