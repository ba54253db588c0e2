"""The physical layer when something goes wrong: kills, refusals, files that are not what they should be."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from recollect.catalog.catalog import Catalog
from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.errors import RecollectError, UnavailableError, VerificationError
from recollect.operations import prune, restore, verify
from recollect.policy.duration import Duration
from recollect.repository.repository import Repository, open_repository
from recollect.storage.base import ObjectStore
from recollect.testing.faults import attempt, count_operations, fault_plans
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.snapshot import Snapshot
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import ask, client, count, drop, make, write

ALWAYS = Duration()
UPLOAD = "POST /collections/{name}/shards/{shard}/snapshots/upload"


@pytest.fixture
def filled(rest: httpx.Client) -> httpx.Client:
    make(rest, shard_number=2)
    write(rest, range(60))
    return rest


@pytest.fixture
def other(tmp_path: Path) -> Iterator[QdrantServer]:
    """A server that holds other records under the same name."""
    with QdrantServer(tmp_path / "other") as running:
        with client(running.rest_url) as rest:
            make(rest)
            write(rest, range(5))
        yield running


def plan(bench: Bench, snapshot: Snapshot, url: str, **options: Any) -> restore.RestorePlan:
    target = bench.target(url)
    try:
        history = Catalog(bench.repository).list()
        chosen = restore.RestoreOptions(existing="replace", **options)
        return restore.plan(snapshot, target, options=chosen, history=history)
    finally:
        target.close()


def carry_out(bench: Bench, made: restore.RestorePlan, url: str) -> restore.RestoredCollection:
    target = bench.target(url)
    try:
        report = restore.apply(made, bench.repository, target, clock=bench.clock, on_event=bench.on_event)
    finally:
        target.close()
    return report.collections[0]


def is_as_before(server: QdrantServer) -> bool:
    """Tell whether the server of `other` holds what it held, and nothing besides."""
    with client(server.rest_url) as rest:
        names = [each["name"] for each in ask(rest, "GET", "/collections")["collections"]]
        return names == ["docs"] and count(rest) == 5


def test_a_backup_of_files_that_is_killed_at_any_write_leaves_a_sound_repository(
    bench: Bench, server: QdrantServer, rest: httpx.Client
) -> None:
    make(rest)
    write(rest, range(30))
    bench.backup(server.url, files=ALWAYS)
    good, seed = bench.repository, 0

    def back_up(store: ObjectStore) -> None:
        nonlocal seed
        seed += 1
        write(rest, [seed], seed=seed)
        bench.repository = open_repository(store)
        try:
            bench.backup(server.url, files=ALWAYS)
        finally:
            bench.repository = good

    number = count_operations(back_up, good.store)
    assert number > 5
    for each in fault_plans(number, effects=("crash",)):
        attempt(back_up, good.store, each)
        assert everything_is_read(good).is_sound, each
    prune.apply(prune.plan(good), good, clock=bench.clock, random_bytes=bench.random.randbytes)
    assert bench.entry(server.url, files=ALWAYS).has_files
    assert everything_is_read(good).is_sound


@pytest.mark.usefixtures("filled")
def test_verify_reads_files_too(bench: Bench, server: QdrantServer) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    digest = snapshot.collections[0].file_objects()[3].digest
    path = bench.directory / "repository" / "objects" / digest[:2] / digest
    path.chmod(0o600)
    path.write_bytes(b"x" + path.read_bytes()[1:])

    (problem,) = everything_is_read(bench.repository).problems

    assert (problem.kind, problem.snapshots) == ("damaged", (snapshot.id,))
    path.unlink()
    (problem,) = verify.run(bench.repository, options=verify.VerifyOptions()).problems
    assert problem.kind == "missing"


CALLS = [
    "PUT /collections/{name}",
    "PATCH /collections/{name}",
    UPLOAD,
    "GET /collections/{name}/cluster",
    "POST /collections/{name}/points/delete",
    "Points/Upsert",
    "Points/Scroll",
    "PUT /collections/{name}/index",
]


@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize("call", CALLS)
def test_a_restore_by_files_that_fails_anywhere_leaves_the_target_as_it_was(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer, call: str, status: int
) -> None:
    ask(filled, "PUT", "/collections/docs/index", {"field_name": "n", "field_schema": "integer"})
    bench.backup(server.url, files=ALWAYS)
    write(filled, [3, 700], seed=9)
    drop(filled, [10])
    snapshot = bench.backup(server.url)
    made = plan(bench, snapshot, other.url, way="files")
    other.faults.refuse(call, status=status)
    before = other.faults.calls[call]

    with pytest.raises(RecollectError):
        carry_out(bench, made, other.url)

    assert other.faults.calls[call] > before, "the call was made"
    other.faults.clear()
    assert is_as_before(other)
    assert carry_out(bench, plan(bench, snapshot, other.url, way="files"), other.url).is_match


def with_files_of(made: restore.RestorePlan, snapshot: Snapshot, *, is_wanted: bool) -> restore.RestorePlan:
    """Return a plan whose base claims its records and has the files of another snapshot."""
    (step,) = made.steps
    base = step.way.base
    assert base is not None
    entry = msgspec.structs.replace(base.entry, shards=snapshot.collections[0].shards)
    base = msgspec.structs.replace(base, entry=entry)
    way = msgspec.structs.replace(step.way, base=base, is_wanted=is_wanted)
    return msgspec.structs.replace(made, steps=(msgspec.structs.replace(step, way=way),))


@pytest.mark.parametrize("change", ["changed", "missing", "too much"])
def test_files_that_hold_other_records_are_found_out_before_the_switch(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer, change: str
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    if change == "changed":
        write(filled, [3], seed=9)
    elif change == "missing":
        drop(filled, [3])
    else:
        write(filled, [900])
    wrong = bench.backup(server.url, files=ALWAYS)

    made = plan(bench, snapshot, other.url, way="files")

    with pytest.raises((VerificationError, UnavailableError)):
        carry_out(bench, with_files_of(made, wrong, is_wanted=True), other.url)

    assert is_as_before(other)
    result = carry_out(bench, with_files_of(made, wrong, is_wanted=False), other.url)
    assert (result.method, result.record_count) == ("records", 60)
    assert "files could not be used" in bench.notes[-1]


@pytest.mark.usefixtures("filled")
def test_a_shard_that_does_not_become_active_is_not_switched(
    bench: Bench, server: QdrantServer, other: QdrantServer
) -> None:
    snapshot = bench.backup(server.url, files=ALWAYS)
    made = plan(bench, snapshot, other.url, way="files")
    other.faults.replica_state = "Partial"

    with pytest.raises(UnavailableError, match="is Partial after its files were loaded"):
        carry_out(bench, made, other.url)

    assert is_as_before(other)


def test_the_settings_are_those_of_the_snapshot_and_not_of_the_files(
    bench: Bench, server: QdrantServer, filled: httpx.Client, other: QdrantServer
) -> None:
    for field in ("n", "m"):
        ask(filled, "PUT", "/collections/docs/index", {"field_name": field, "field_schema": "integer"})
    bench.backup(server.url, files=ALWAYS)
    ask(filled, "DELETE", "/collections/docs/index/n")
    ask(filled, "PUT", "/collections/docs/index", {"field_name": "word", "field_schema": "keyword"})
    ask(filled, "PATCH", "/collections/docs", {"hnsw_config": {"m": 7}, "params": {"replication_factor": 1}})
    snapshot = bench.backup(server.url)

    result = carry_out(bench, plan(bench, snapshot, other.url, way="files"), other.url)

    assert result.method == "files"
    with client(other.rest_url) as there:
        ours, theirs = (ask(each, "GET", "/collections/docs") for each in (filled, there))
        assert theirs["config"] == ours["config"]
        assert sorted(theirs["payload_schema"]) == sorted(ours["payload_schema"]) == ["m", "word"]


@pytest.mark.usefixtures("filled")
def test_files_that_are_due_and_cannot_be_had_do_not_stop_the_policy(
    bench: Bench, server: QdrantServer
) -> None:
    server.faults.refuse("/snapshot", status=403)
    with pytest.raises(RecollectError):
        bench.backup(server.url, files=ALWAYS)

    entry = bench.entry(server.url, files=ALWAYS, files_or="records")

    assert (entry.has_files, entry.record_count, entry.consistency) == (False, 60, "fuzzy")
    assert "files were due and could not be stored" in bench.notes[0]
    server.faults.clear()
    assert bench.entry(server.url, files=Duration(days=7), files_or="records").has_files, "they stayed due"


def test_sizes_beyond_eight_gibibytes_fit_into_the_headers_of_archives() -> None:
    sizes = [8**11 - 1, 8**11, 8**12 - 1, 8**12, 1 << 45]
    archive = BytesIO()
    writer = SparseTarWriter(archive)
    for size in sizes:
        writer.add_pieces(f"f{size}", size, [(size - 4, 4, lambda: b"tail")])
    writer.end()
    archive.seek(0)

    with tarfile.open(fileobj=archive, mode="r:") as opened:
        found: list[Any] = [(member.size, member.sparse) for member in opened]

    assert [(size, extents[0]) for size, extents in found] == [(size, (size - 4, 4)) for size in sizes]


def everything_is_read(repository: Repository) -> verify.VerifyReport:
    return verify.run(repository, options=verify.VerifyOptions(share=verify.Share()))
