"""Backups whose shards are read and stored by workers: what is proven of what they give back."""

from __future__ import annotations

import itertools
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest

from recollect import __version__
from recollect.engines.base import CollectionDescription, Division
from recollect.engines.qdrant.capture.cluster import Replica, ShardLayout
from recollect.engines.qdrant.capture.part import ShardPart, require_same_shards
from recollect.engines.qdrant.capture.spool import Spool
from recollect.errors import ConflictError, IntegrityError, NotFoundError, RequestError, UnavailableError
from recollect.operations.parts import PartJob, RefusedPart, StoredPart, Work, Workforce
from recollect.policy.duration import Duration
from recollect.repository import layout
from recollect.segments.reader import RunsReader
from recollect.testing.qdrant_server import QdrantCluster, QdrantServer
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import CollectionEntry
from recollect.wiring import Context, do_part
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import ask, client, drop, make, write

JOINED, APART = 1 << 30, 0
"""Whether new runs are merged into one by the client."""


@pytest.fixture
def filled(cluster: QdrantCluster) -> Iterator[httpx.Client]:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=3, replication_factor=2)
        write(rest, range(150))
        yield rest


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Crew:
    """Puts a bench to work with threads, which do the same as other processes."""

    def __init__(self, bench: Bench, executor: ThreadPoolExecutor) -> None:
        self.bench = bench
        self.executor = executor
        self.jobs: list[PartJob] = []
        self.context = Context(
            clock=bench.clock, random_bytes=bench.random.randbytes, spool=bench.directory / "workers"
        )
        self.hire()

    def hire(self, work: Work | None = None, join_bytes_max: int = JOINED) -> None:
        """Let `work` do the jobs from now on."""
        self.bench.workforce = Workforce(
            executor=self.executor,
            work=work or self.work,
            repository_url=str(self.bench.directory / "repository"),
            tool_version=__version__,
            new_token=self.bench.new_id,
            join_bytes_max=join_bytes_max,
        )

    def work(self, job: PartJob) -> StoredPart | RefusedPart:
        self.jobs.append(job)
        return do_part(job, self.context)


@pytest.fixture
def crew(bench: Bench, threads: ThreadPoolExecutor) -> Crew:
    return Crew(bench, threads)


def by_this_process(bench: Bench, url: str) -> CollectionEntry:
    """What a backup without workers, comparing with nothing, finds."""
    other = Bench(bench.directory / bench.new_id())
    return other.entry(url, compare="nothing")


@pytest.mark.parametrize("join_bytes_max", [JOINED, APART])
def test_workers_find_what_this_process_finds(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client, crew: Crew, join_bytes_max: int
) -> None:
    crew.hire(join_bytes_max=join_bytes_max)
    first = bench.entry(cluster.url)
    assert first.fingerprint == by_this_process(bench, cluster.url).fingerprint
    write(filled, [3, 4, 150], seed=4)
    drop(filled, [7, 8])

    second = bench.entry(cluster.url)

    expected = by_this_process(bench, cluster.url)
    assert second.fingerprint == expected.fingerprint
    assert second.changes == msgspec.structs.replace(second.changes, added=1, changed=2, removed=2)
    assert second.consistency == "per-shard"
    assert [shard.shard_id for shard in second.shards] == [0, 1, 2]
    assert sorted({shard.transfer for shard in second.shards}) in (["changes"], ["changes", "none"])
    records = list(RunsReader(bench.repository, second.schema, second.runs).records())
    assert sum(batch.num_rows for batch in records) == second.record_count == 149


@pytest.mark.usefixtures("filled")
def test_runs_of_a_first_backup_stay_as_the_workers_wrote_them(
    bench: Bench, cluster: QdrantCluster, crew: Crew
) -> None:
    crew.hire(join_bytes_max=APART)

    entry = bench.entry(cluster.url)

    assert (len(entry.runs), entry.base_runs) == (3, 3)


def test_the_base_is_merged_as_one_when_that_is_paid_for(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client, crew: Crew
) -> None:
    crew.hire(join_bytes_max=APART)
    bench.entry(cluster.url)
    drop(filled, list(range(100)))

    entry = bench.entry(cluster.url)

    assert (len(entry.runs), entry.base_runs) == (1, 1)
    assert entry.fingerprint == by_this_process(bench, cluster.url).fingerprint


def test_small_changes_are_one_run_behind_the_base(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client, crew: Crew
) -> None:
    crew.hire(join_bytes_max=APART)
    bench.entry(cluster.url)
    crew.hire()
    write(filled, [1, 2, 3, 4], seed=9)

    entry = bench.entry(cluster.url)

    assert (len(entry.runs), entry.base_runs) == (4, 3)
    bench.workforce = None
    write(filled, [1], seed=10)
    entry = bench.entry(cluster.url)
    assert (len(entry.runs), entry.base_runs) == (5, 3)
    assert entry.fingerprint == by_this_process(bench, cluster.url).fingerprint


def test_records_that_went_to_another_shard_are_not_taken_for_deleted(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client, crew: Crew
) -> None:
    before = bench.entry(cluster.url)
    ask(filled, "DELETE", "/collections/docs")
    make(filled, shard_number=2)
    write(filled, range(1, 150))
    write(filled, [5], seed=4)

    bench.workforce = None
    expected = by_this_process(bench, cluster.url)
    crew.hire(join_bytes_max=APART)
    after = bench.entry(cluster.url)

    assert after.fingerprint == expected.fingerprint != before.fingerprint
    assert after.changes.removed == 1


@pytest.mark.usefixtures("filled")
def test_without_changes_nothing_is_stored(bench: Bench, cluster: QdrantCluster, crew: Crew) -> None:
    bench.entry(cluster.url)
    bench.entry(cluster.url)

    entry = bench.entry(cluster.url)

    assert entry.changes.total == 0
    assert {shard.transfer for shard in entry.shards} == {"none"}
    assert len(entry.runs) == 1
    assert crew.jobs[-1].parent is not None
    assert crew.jobs[-1].parent.position == crew.jobs[-4].token


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("is_first", [True, False])
def test_a_record_in_two_shards_is_found_out(
    bench: Bench, cluster: QdrantCluster, crew: Crew, *, is_first: bool
) -> None:
    if not is_first:
        bench.entry(cluster.url)
    told = 1 if is_first else 2

    def twice(job: PartJob) -> StoredPart | RefusedPart:
        """Take what shard 0 has for what shard 1 has, too."""
        if job.part.layout.shard_id == 1:
            moved = msgspec.structs.replace(job.part.layout, shard_id=0)
            job = msgspec.structs.replace(job, part=msgspec.structs.replace(job.part, layout=moved))
        return do_part(job, crew.context)

    cluster.placement.place("docs", 0, {node.peer_id: "Active" for node in cluster.nodes})
    crew.hire(twice)
    with pytest.raises(IntegrityError, match=r"record \d+ is in two shards"):
        bench.entry(cluster.url)

    assert len(list(bench.repository.store.list(layout.SNAPSHOTS))) == told - 1


@pytest.mark.usefixtures("filled")
def test_a_worker_that_stores_into_a_copy_of_the_repository_is_found_out(
    bench: Bench, cluster: QdrantCluster, crew: Crew
) -> None:
    copy = bench.directory / "copy"
    shutil.copytree(bench.directory / "repository", copy)

    def elsewhere(job: PartJob) -> StoredPart | RefusedPart:
        return do_part(msgspec.structs.replace(job, repository_url=str(copy)), crew.context)

    crew.hire(elsewhere)
    with pytest.raises(IntegrityError, match=r"a worker stored object .* has none here") as caught:
        bench.entry(cluster.url)

    assert "see the same repository" in caught.value.next_step
    assert list(bench.repository.store.list(layout.SNAPSHOTS)) == []


@pytest.mark.usefixtures("filled")
def test_a_worker_with_another_repository_or_release_does_nothing(
    bench: Bench, cluster: QdrantCluster, crew: Crew, tmp_path: Path
) -> None:
    bench.entry(cluster.url)
    job = crew.jobs[0]

    with pytest.raises(ConflictError, match="another repository is at"):
        do_part(msgspec.structs.replace(job, repository_id="0" * 26), crew.context)
    with pytest.raises(NotFoundError, match=r"a worker, at shard \d of 'docs': there is no repository"):
        do_part(msgspec.structs.replace(job, repository_url=str(tmp_path / "none")), crew.context)
    with pytest.raises(ConflictError, match=f"Recollect {__version__} runs here, and 0.0.1 asks"):
        do_part(msgspec.structs.replace(job, tool_version="0.0.1"), crew.context)


@pytest.mark.usefixtures("filled")
def test_the_lease_is_held_while_workers_store(bench: Bench, cluster: QdrantCluster, crew: Crew) -> None:
    seen = []

    def watching(job: PartJob) -> StoredPart | RefusedPart:
        seen.append([item.key for item in bench.repository.store.list(layout.LEASES)])
        return crew.work(job)

    crew.hire(watching)
    bench.entry(cluster.url)

    assert [len(leases) for leases in seen] == [1, 1, 1]
    assert list(bench.repository.store.list(layout.LEASES)) == []


@pytest.mark.usefixtures("filled")
def test_one_part_that_fails_fails_the_backup(bench: Bench, cluster: QdrantCluster, crew: Crew) -> None:
    def failing(job: PartJob) -> StoredPart | RefusedPart:
        if job.part.layout.shard_id == 1:
            raise UnavailableError("the worker's disk is gone")
        return crew.work(job)

    crew.hire(failing)
    with pytest.raises(UnavailableError, match="the worker's disk is gone"):
        bench.entry(cluster.url)

    assert list(bench.repository.store.list(layout.SNAPSHOTS)) == []
    assert list(bench.repository.store.list(layout.LEASES)) == []


def test_a_damaged_parent_is_found_out(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client, crew: Crew
) -> None:
    bench.entry(cluster.url)
    write(filled, [3], seed=4)

    def forgetful(job: PartJob) -> StoredPart | RefusedPart:
        assert job.parent is not None
        return do_part(
            msgspec.structs.replace(job, parent=msgspec.structs.replace(job.parent, runs=())), crew.context
        )

    crew.hire(forgetful)
    with pytest.raises(IntegrityError, match="a worker read another number of them"):
        bench.entry(cluster.url)


@pytest.mark.usefixtures("filled")
def test_what_no_worker_can_hold_is_read_here(bench: Bench, cluster: QdrantCluster, crew: Crew) -> None:
    for node in cluster.nodes:
        node.faults.refuse("/shards/{shard}/snapshot", status=404)

    entry = bench.entry(cluster.url)

    assert entry.consistency == "fuzzy"
    assert entry.record_count == 150
    assert any("docs is read by this process" in note for note in bench.notes)
    assert len(crew.jobs) == 3


def test_files_are_stored_by_workers_too(
    bench: Bench, cluster: QdrantCluster, filled: httpx.Client, crew: Crew
) -> None:
    first = bench.entry(cluster.url, files=Duration())
    write(filled, [3], seed=4)

    second = bench.entry(cluster.url, files=Duration())

    assert all(job.stores_files for job in crew.jobs)
    assert first.has_files
    assert second.has_files
    assert all(bench.repository.object_size(each.digest) == each.byte_size for each in second.objects())
    assert "all" not in {shard.transfer for shard in second.shards}


def test_a_job_names_the_key_and_does_not_carry_it(bench: Bench, crew: Crew, tmp_path: Path) -> None:
    secrets = {"NAME_OF_KEY": "hush-hush"}
    bench.secrets = secrets.get
    crew.context = msgspec.structs.replace(crew.context, secrets=secrets.get)
    with QdrantServer(tmp_path / "keyed", api_key="hush-hush") as server:
        headers = {"api-key": "hush-hush"}
        with httpx.Client(base_url=server.rest_url, trust_env=False, headers=headers) as rest:
            make(rest)
            write(rest, range(30))

        assert bench.entry(server.url + "&api_key_env=NAME_OF_KEY").record_count == 30
        sent = pickle.dumps(crew.jobs)
        assert b"NAME_OF_KEY" in sent
        assert b"hush-hush" not in sent
        with pytest.raises(RequestError, match="the URL has the API key in it"):
            bench.entry(server.url + "&api_key=hush-hush")


def test_runs_that_begin_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    """A run's directory is made before it is locked; who tidies up then must not take it for debris."""
    ids = itertools.count()

    def run(_: int) -> bool:
        with (
            Spool(tmp_path / "spool", 1 << 20, lambda: f"{next(ids):026}") as spool,
            spool.kept("a") as place,
        ):
            (place / "file").write_text("x")
            spool.new_path().mkdir()
            return True

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(run, range(200)))


def test_shards_that_come_or_go_stop_the_backup() -> None:
    shards = [ShardLayout(shard_id=n, replicas=(Replica(peer_id=1),)) for n in range(3)]
    moved = [msgspec.structs.replace(each, replicas=(Replica(peer_id=2),)) for each in shards]
    description = CollectionDescription(name="docs", schema=CollectionSchema(vectors=()))
    parts = tuple(
        ShardPart(
            url="",
            physical="docs",
            description=description,
            layout=each,
            shard_ids=(0, 1, 2),
            addresses={},
            preferred=1,
        )
        for each in shards
    )
    division = Division(description=description, parts=parts)

    require_same_shards("docs", division, moved)
    with pytest.raises(UnavailableError, match=r"changed from \[0, 1, 2\] to \[0, 1\]"):
        require_same_shards("docs", division, shards[:2])
