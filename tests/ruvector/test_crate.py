"""The real crate's format: byte by byte, both ways, with its checks."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.compat.ruvector import SnapshotManager
from recollect.compat.ruvector.crate.bincode import (
    METRICS,
    CrateData,
    CrateHnsw,
    decode_snapshot,
    encode_integer,
    encode_snapshot,
)
from recollect.compat.ruvector.crate.files import encode_files, list_files, read_files, write_files
from recollect.database import Database
from recollect.errors import ConflictError, IntegrityError, NotFoundError, RequestError
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from tests.ruvector.samples import content, run

EXAMPLE = CrateData(
    id="00000000-0000-4000-8000-000000000001",
    collection_name="c",
    created_at="2025-01-01T00:00:00+00:00",
    version="0.1.25",
    dimension=2,
    metric="Cosine",
    hnsw=CrateHnsw(16, 200, 50),
    ids=["v1", "v2"],
    vectors=np.array([[1, 0.5], [0, -1]], dtype=np.float32),
    payloads=['{"a":1}', None],
)

numbers = st.integers(0, 2**64 - 1)


@st.composite
def snapshots(draw: st.DrawFn) -> CrateData:
    """Anything that the crate can hold."""
    count, dimension = draw(st.integers(0, 6)), draw(st.integers(0, 300))
    text = st.text(max_size=300)
    return CrateData(
        draw(text),
        draw(text),
        draw(text),
        draw(text),
        dimension,
        draw(st.sampled_from(METRICS)),
        draw(st.none() | st.builds(CrateHnsw, numbers, numbers, numbers)),
        [draw(text) for _ in range(count)],
        np.frombuffer(
            draw(st.binary(min_size=4 * count * dimension, max_size=4 * count * dimension)), "<f4"
        ).reshape(count, dimension),
        [draw(st.none() | text) for _ in range(count)],
    )


def test_the_example_of_the_format_comes_out_byte_by_byte() -> None:
    encoded = encode_snapshot(EXAMPLE)

    assert len(encoded) == 113
    assert (
        hashlib.sha256(encoded).hexdigest()
        == "85cf88104d31c75615060d94cb5ff670dff6a7cc1630450539b992863c1529ef"
    )


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (250, "fa"),
        (251, "fbfb00"),
        (65535, "fbffff"),
        (65536, "fc00000100"),
        (2**32, "fd0000000001000000"),
    ],
)
def test_integers_take_as_few_bytes_as_bincode_gives_them(value: int, encoded: str) -> None:
    assert encode_integer(value).hex() == encoded


@given(snapshots())
def test_what_is_encoded_comes_back(data: CrateData) -> None:
    found = decode_snapshot(encode_snapshot(data))

    assert found._replace(vectors=data.vectors) == data
    assert found.vectors.tobytes() == data.vectors.tobytes()


@given(snapshots(), st.data())
def test_what_is_cut_or_too_long_is_damage(data: CrateData, draw: st.DataObject) -> None:
    encoded = encode_snapshot(data)

    for changed in (encoded[: draw.draw(st.integers(0, len(encoded) - 1))], encoded + b"\0"):
        with pytest.raises((IntegrityError, RequestError)):
            decode_snapshot(changed)


@given(st.binary(max_size=100))
def test_bytes_that_are_no_snapshot_are_refused_and_take_no_memory(encoded: bytes) -> None:
    try:
        decode_snapshot(encoded)
    except (IntegrityError, RequestError):
        return
    assert encoded  # whatever was accepted is a snapshot, and that has bytes


def test_a_vector_of_another_dimension_is_named_as_the_crate_names_it() -> None:
    wrong = encode_snapshot(EXAMPLE).replace(b"\x02v2\x02", b"\x02v2\x01")

    with pytest.raises((IntegrityError, RequestError)):
        decode_snapshot(wrong)


def test_the_metadata_file_is_the_crates(tmp_path: Path) -> None:
    files = encode_files(EXAMPLE)
    write_files(LocalStore(tmp_path), files)

    path = tmp_path / f"{EXAMPLE.id}.metadata.json"
    assert [*json.loads(path.read_text())] == [
        "id", "collection_name", "created_at", "vectors_count", "checksum", "size_bytes",
    ]  # fmt: skip
    assert path.read_text().startswith('{\n  "id": "00000000-')
    assert '"created_at": "2025-01-01T00:00:00Z"' in path.read_text()
    compressed = (tmp_path / f"{EXAMPLE.id}.snapshot.gz").read_bytes()
    assert gzip.decompress(compressed) == encode_snapshot(EXAMPLE)
    assert files.info.size_bytes == len(compressed)
    assert list_files(LocalStore(tmp_path)) == [files.info]


def test_files_that_another_gzip_wrote_are_read() -> None:
    store, files = MemoryStore(), encode_files(EXAMPLE)
    other = gzip.compress(encode_snapshot(EXAMPLE), 6)
    store.put(f"{EXAMPLE.id}.snapshot.gz", other)
    text = files.metadata.decode().replace(
        f'"size_bytes": {len(files.snapshot)}', f'"size_bytes": {len(other)}'
    )
    store.put(f"{EXAMPLE.id}.metadata.json", text.encode())

    assert read_files(store, EXAMPLE.id).ids == ["v1", "v2"]


@pytest.mark.parametrize("place", [0, 15, 40, -1])
def test_a_flipped_byte_is_found(place: int) -> None:
    store, files = MemoryStore(), encode_files(EXAMPLE)
    write_files(store, files)
    data = bytearray(files.snapshot)
    data[place] ^= 0x55
    store.put(f"{EXAMPLE.id}.snapshot.gz", bytes(data))

    with pytest.raises(IntegrityError, match=EXAMPLE.id):
        read_files(store, EXAMPLE.id)


def test_a_wrong_checksum_is_reported_in_the_crates_words() -> None:
    store, files = MemoryStore(), encode_files(EXAMPLE)
    store.put(f"{EXAMPLE.id}.snapshot.gz", files.snapshot)
    store.put(f"{EXAMPLE.id}.metadata.json", files.metadata.replace(files.info.checksum.encode(), b"0" * 64))

    with pytest.raises(
        IntegrityError, match=f"Invalid checksum: expected {'0' * 64}, got {files.info.checksum}"
    ):
        read_files(store, EXAMPLE.id)


@pytest.mark.parametrize("name", ["snapshot.gz", "metadata.json"])
def test_a_missing_file_is_not_found(name: str) -> None:
    store = MemoryStore()
    write_files(store, encode_files(EXAMPLE))
    store.delete(f"{EXAMPLE.id}.{name}")

    with pytest.raises(NotFoundError, match="Snapshot not found"):
        read_files(store, EXAMPLE.id)


def test_a_snapshot_of_the_crate_comes_in_and_goes_out_the_same(
    manager: SnapshotManager, tmp_path: Path
) -> None:
    write_files(LocalStore(tmp_path / "crate"), encode_files(EXAMPLE))

    snapshot = run(manager.import_crate_snapshot(tmp_path / "crate", EXAMPLE.id))
    run(manager.export_crate_snapshot(snapshot.id, tmp_path / "out"))

    assert (snapshot.name, snapshot.vector_count, snapshot.metadata["metric"]) == ("c", 2, "cosine")
    found = read_files(LocalStore(tmp_path / "out"), snapshot.id)
    assert (found.ids, found.payloads, found.metric) == (EXAMPLE.ids, EXAMPLE.payloads, EXAMPLE.metric)
    assert found.vectors.tobytes() == EXAMPLE.vectors.tobytes()
    with run(manager.restore_snapshot(snapshot.id, tmp_path / "restored")) as restored:
        assert content(restored)[(str, "v1")][1] == {"a": 1}


def test_an_export_holds_every_record_of_a_chain(
    manager: SnapshotManager, database: Database, tmp_path: Path
) -> None:
    base = run(manager.create_snapshot(database, "base"))
    database.vectors.set("id-added", np.ones(24))
    database.vectors.delete(1)
    snapshot = run(manager.create_incremental_snapshot(database, "inc", base.id))

    run(manager.export_crate_snapshot(snapshot.id, str(tmp_path / "out")))

    found = read_files(LocalStore(tmp_path / "out"), snapshot.id)
    assert sorted(found.ids) == sorted(str(record_id) for record_id in database.vectors.ids())
    with pytest.raises(ConflictError):
        run(manager.export_crate_snapshot(snapshot.id, tmp_path / "out"))


def test_an_empty_collection_and_ids_of_one_text_cannot_go_out(
    manager: SnapshotManager, tmp_path: Path
) -> None:
    with Database.open(tmp_path / "db") as database:
        empty = run(manager.create_snapshot(database, "empty"))
        database.vectors.set_many([1, "1"], [[1.0], [2.0]])
        both = run(manager.create_snapshot(database, "both"))

    with pytest.raises(RequestError, match="Cannot create snapshot of empty collection"):
        run(manager.export_crate_snapshot(empty.id, tmp_path / "out"))
    with pytest.raises(RequestError, match="same text"):
        run(manager.export_crate_snapshot(both.id, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
