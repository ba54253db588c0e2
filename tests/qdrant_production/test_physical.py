"""The physical layer: shard files as objects, and restores that bring the search index along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from recollect.catalog.catalog import Catalog
from recollect.engines.qdrant.target import version_refusal
from recollect.errors import IntegrityError, UnsupportedError
from recollect.operations import prune, restore
from recollect.operations.files import PIECE_BYTES, FileStore, read_piece
from recollect.operations.restore_plan import choose_way
from recollect.policy.duration import Duration
from recollect.testing.qdrant_server import QdrantCluster, QdrantServer
from recollect.values.snapshot import ChangeCounts, Snapshot
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import ask, client, drop, make, points, write

ALWAYS = Duration()
INDEXING = {"indexing_threshold": 1, "vacuum_min_vector_number": 100}
UPLOAD = "POST /collections/{name}/shards/{shard}/snapshots/upload"
UPSERT = "Points/Upsert"


@pytest.fixture
def filled(rest: httpx.Client, server: QdrantServer) -> httpx.Client:
    make(rest, shard_number=2, optimizers_config=INDEXING)
    for start in range(0, 600, 200):
        write(rest, range(start, start + 200), seed=start)
    ask(rest, "PUT", "/collections/docs/index", {"field_name": "n", "field_schema": "integer"})
    body = {"actions": [{"create_alias": {"collection_name": "docs", "alias_name": "d"}}]}
    ask(rest, "POST", "/collections/aliases", body)
    assert server.optimize("docs")
    return rest


@pytest.fixture
def other(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "other") as running:
        yield running


def plan(bench: Bench, snapshot: Snapshot, url: str, **options: Any) -> restore.RestorePlan:
    target = bench.target(url)
    try:
        history = Catalog(bench.repository).list()
        return restore.plan(snapshot, target, options=restore.RestoreOptions(**options), history=history)
    finally:
        target.close()


def put_back(bench: Bench, snapshot: Snapshot, url: str, **options: Any) -> restore.RestoredCollection:
    target = bench.target(url)
    try:
        made = plan(bench, snapshot, url, **options)
        report = restore.apply(made, bench.repository, target, clock=bench.clock, on_event=bench.on_event)
    finally:
        target.close()
    (collection,) = report.collections
    assert collection.is_match
    return collection


def sweep(bench: Bench) -> int:
    """Prune; return the bytes that were deleted."""
    report = prune.apply(
        prune.plan(bench.repository),
        bench.repository,
        clock=bench.clock,
        random_bytes=bench.random.randbytes,
    )
    return report.deleted_bytes


def indexed(rest: httpx.Client, name: str = "docs") -> int:
    return int(ask(rest, "GET", f"/collections/{name}")["indexed_vectors_count"])


@pytest.mark.usefixtures("filled")
def test_files_are_listed_with_their_shards_and_stored_without_zeros(
    bench: Bench, server: QdrantServer
) -> None:
    entry = bench.entry(server.url, files=ALWAYS)

    assert entry.has_files
    for shard in entry.shards:
        paths = [file.path for file in shard.files]
        assert paths == sorted(paths)
        assert "replica_state.json" in paths
        assert not any("segment_manifest" in path for path in paths)
        log = next(file for file in shard.files if file.path.startswith("wal/closed-"))
        assert (log.byte_size, len(log.pieces)) == (32 << 20, 1)
    apparent = sum(file.byte_size for shard in entry.shards for file in shard.files)
    stored = sum(reference.byte_size for reference in set(entry.file_objects()))
    assert stored < apparent // 100


@pytest.mark.usefixtures("filled")
def test_a_restore_by_files_brings_the_index_along(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)

    result = put_back(bench, snapshot, other.url, way="files")

    assert result.method == "files"
    assert other.faults.calls[UPSERT] == 0
    with client(other.rest_url) as rest:
        assert points(rest, "d") == points(filled)
        assert indexed(rest) == indexed(filled) > 0
        assert ask(rest, "GET", "/collections/docs")["payload_schema"]["n"]["points"] == 600
        config = ask(rest, "GET", "/collections/docs")["config"]
        assert config == ask(filled, "GET", "/collections/docs")["config"]


def test_changes_since_the_files_are_applied(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    bench.backup(server.url, files=ALWAYS)
    write(filled, [3, 700], seed=9)
    drop(filled, [10, 11])
    wanted = bench.backup(server.url)
    write(filled, [4], seed=2)
    bench.backup(server.url)

    result = put_back(bench, wanted, other.url, way="files")

    assert result.method == "files"
    assert result.fingerprint == wanted.collections[0].fingerprint
    assert 0 < other.faults.calls[UPSERT] <= 2


def test_files_of_a_later_snapshot_serve_an_earlier_one(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    wanted = bench.backup(server.url)
    write(filled, [3, 700], seed=9)
    drop(filled, [10])
    bench.backup(server.url, files=ALWAYS)

    result = put_back(bench, wanted, other.url, way="files")

    assert result.method == "files", bench.notes
    assert result.record_count == 600


def test_of_files_of_equal_records_those_of_the_snapshot_itself_serve(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    write(filled, range(300), seed=5)
    before = bench.backup(server.url, files=ALWAYS)
    assert server.optimize("docs")
    after = bench.backup(server.url, files=ALWAYS)
    assert before.collections[0].fingerprint == after.collections[0].fingerprint

    bases = [plan(bench, each, other.url, way="files").steps[0].way.base for each in (before, after)]

    assert [base.snapshot_id for base in bases if base is not None] == [before.id, after.id]
    put_back(bench, after, other.url, way="files")
    assert not other.optimize("docs"), "nothing is left to index"


def test_files_that_did_not_change_are_stored_once(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    first = bench.entry(server.url, files=ALWAYS)
    again = bench.entry(server.url, files=ALWAYS)
    write(filled, [1], seed=5)
    third = bench.entry(server.url, files=ALWAYS)

    assert again.shards[0].files == first.shards[0].files
    assert [shard.transfer for shard in again.shards] == ["none", "none"]
    assert "changes" in {shard.transfer for shard in third.shards}
    new = set(third.file_objects()) - set(first.file_objects())
    assert 0 < len(new) < len(set(first.file_objects()))


def test_files_that_were_not_stored_before_are_fetched_whole(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    bench.backup(server.url)
    write(filled, [1], seed=5)

    snapshot = bench.backup(server.url, files=ALWAYS)

    assert {shard.transfer for shard in snapshot.collections[0].shards} == {"all"}
    assert put_back(bench, snapshot, other.url, way="files").method == "files"


def test_partial_transfers_give_files_that_restore(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    bench.backup(server.url, files=ALWAYS)
    for number in range(4):
        write(filled, [number, 800 + number], seed=number)
        drop(filled, [30 + number])
        if number == 2:
            server.optimize("docs")
        snapshot = bench.backup(server.url, files=ALWAYS)

    assert put_back(bench, snapshot, other.url, way="files").method == "files"


@pytest.mark.usefixtures("filled")
def test_files_are_due_by_age(bench: Bench, server: QdrantServer) -> None:
    week = Duration(days=7)

    assert bench.entry(server.url, files=week).has_files
    assert not bench.entry(server.url, files=week).has_files
    bench.clock.sleep(7 * 86400)
    assert bench.entry(server.url, files=week).has_files


@pytest.mark.usefixtures("filled")
def test_files_are_kept_by_prune_and_go_with_their_snapshot(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    with_files = bench.backup(server.url, files=ALWAYS)
    plain = bench.backup(server.url)
    sweep(bench)
    assert put_back(bench, with_files, other.url, way="files").method == "files"

    Catalog(bench.repository).forget(with_files.id)
    assert sweep(bench) > 0

    gone = with_files.collections[0].file_objects()
    assert not any(bench.repository.object_size(each.digest) for each in gone)
    assert put_back(bench, plain, other.url, existing="replace").method == "records"


@pytest.mark.usefixtures("filled")
def test_a_damaged_file_object_stops_the_restore_before_anything_is_touched(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    digest = snapshot.collections[0].file_objects()[3].digest
    path = bench.directory / "repository" / "objects" / digest[:2] / digest
    path.chmod(0o600)
    path.write_bytes(b"x" + path.read_bytes()[1:])

    with pytest.raises(IntegrityError):
        put_back(bench, snapshot, other.url)

    with client(other.rest_url) as rest:
        assert ask(rest, "GET", "/collections")["collections"] == []
    assert put_back(bench, snapshot, other.url, way="records").method == "records"


@pytest.mark.parametrize(
    ("files", "server", "is_taken"),
    [
        ("1.19.0", "1.19.3", True),
        ("1.18.2", "1.19.0", True),
        ("1.19.0", "1.18.9", False),
        ("1.17.1", "1.19.0", False),
        ("1.19.0", "2.19.0", False),
        ("", "1.19.0", False),
        ("dev", "1.19.0", False),
    ],
)
def test_files_fit_their_own_minor_version_and_the_next(files: str, server: str, *, is_taken: bool) -> None:
    assert (version_refusal(files, server) == "") is is_taken


@pytest.mark.usefixtures("filled")
def test_another_version_is_restored_by_records_and_it_is_said_why(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    other.faults.version = "1.21.0"

    (step,) = plan(bench, snapshot, other.url).steps

    assert step.way.method == "records"
    assert "of version 1.19.0, and the server has 1.21.0" in step.way.reason
    with pytest.raises(UnsupportedError, match="cannot be restored by files"):
        plan(bench, snapshot, other.url, way="files")
    assert put_back(bench, snapshot, other.url).method == "records"


@pytest.mark.usefixtures("filled")
def test_another_number_of_shards_is_restored_by_records(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    bench.backup(server.url, files=ALWAYS)
    ask(filled, "DELETE", "/collections/docs")
    make(filled, shard_number=1)
    write(filled, range(20))
    snapshot = bench.backup(server.url)

    (step,) = plan(bench, snapshot, other.url).steps

    assert step.way.method == "records"
    assert "no snapshot of it has files of this layout" in step.way.reason


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("record_count", "changed", "method"),
    [(1_000_000, 0, "files"), (1_000_000, 100_000, "files"), (1_000_000, 1_200_000, "records")],
)
def test_the_planner_takes_what_is_done_sooner(
    bench: Bench, server: QdrantServer, other: QdrantServer, record_count: int, changed: int, method: str
) -> None:
    with_files = enlarged(bench.backup(server.url, files=ALWAYS), record_count, 0)
    wanted = enlarged(bench.backup(server.url), record_count, changed)
    target = bench.target(other.url)

    try:
        way = choose_way(wanted.collections[0], wanted, [with_files, wanted], target, "auto")
    finally:
        target.close()

    assert way.method == method
    assert (way.base is None) is (method == "records")
    assert way.reason


def enlarged(snapshot: Snapshot, record_count: int, changed: int) -> Snapshot:
    """Return a snapshot whose collection claims so many records, and changed ones."""
    (entry,) = snapshot.collections
    changes = ChangeCounts(changed=changed)
    bigger = msgspec.structs.replace(entry, record_count=record_count, changes=changes)
    return msgspec.structs.replace(snapshot, collections=(bigger,))


@pytest.mark.usefixtures("filled")
def test_a_plan_tells_bytes_and_time(bench: Bench, server: QdrantServer, other: QdrantServer) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)

    by_files = plan(bench, snapshot, other.url, way="files").steps[0].way.estimate
    by_records = plan(bench, snapshot, other.url, way="records").steps[0].way.estimate

    assert by_files.read_bytes > 0 < by_files.sent_bytes
    assert by_files.index_seconds == 0 < by_records.index_seconds
    assert by_records.sent_bytes == snapshot.collections[0].source_bytes


@pytest.mark.usefixtures("filled")
def test_a_server_that_refuses_files_gets_records(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    other.faults.refuse(UPLOAD, status=400)

    assert put_back(bench, snapshot, other.url).method == "records"

    assert "files could not be used" in bench.notes[-1]
    with client(other.rest_url) as rest:
        assert len(ask(rest, "GET", "/collections")["collections"]) == 1


@pytest.mark.usefixtures("filled")
def test_files_that_were_asked_for_are_not_replaced_by_records(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    other.faults.refuse(UPLOAD, status=400)

    with pytest.raises(Exception, match="loading shard 0"):
        put_back(bench, snapshot, other.url, way="files")

    with client(other.rest_url) as rest:
        assert ask(rest, "GET", "/collections")["collections"] == []


def test_a_cluster_gets_its_files_on_the_nodes_that_hold_the_shards(
    bench: Bench, cluster: QdrantCluster, tmp_path: Path
) -> None:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=3, replication_factor=2)
        write(rest, range(90))
        write(rest, range(90, 120))
        snapshot = bench.backup(cluster.url, files=ALWAYS)
    with QdrantCluster(tmp_path / "second") as second:
        result = put_back(bench, snapshot, second.url, way="files")

        assert result.method == "files"
        assert sum(node.faults.calls[UPLOAD] for node in second.nodes) == 3


@pytest.mark.usefixtures("filled")
def test_a_file_comes_back_byte_for_byte(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"head")
        file.seek(5 * PIECE_BYTES + 17)
        file.write(b"tail" * 1000)
        file.truncate(9 * PIECE_BYTES)
    store = FileStore(bench.repository, frozenset())

    stored = store.keep("a", path)

    content = bytearray(stored.byte_size)
    for piece in stored.pieces:
        content[piece.offset : piece.offset + piece.byte_size] = read_piece(bench.repository, piece)
    assert bytes(content) == path.read_bytes()
    assert len(stored.pieces) == 2
    assert msgspec.json.decode(msgspec.json.encode(stored), type=type(stored)) == stored
