from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import pytest
from qdrant_client import QdrantClient, models

from recollect.clock import ManualClock
from recollect.compat.arcaneum import dump, load
from recollect.compat.arcaneum.directory import collection_of
from recollect.engines.qdrant.snapshots import QdrantSnapshots
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RequestError,
    UnavailableError,
    UnsupportedError,
)
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.event import Event, Note
from tests.arcaneum.conftest import count

EVERYTHING = load.LoadOptions()
UPLOAD = "POST /collections/{name}/snapshots/upload"


class Loader:
    def __init__(self, server: QdrantSnapshots, clock: ManualClock) -> None:
        self.server, self.clock = server, clock
        self.notes: list[str] = []

    def plan(self, directory: Path, options: load.LoadOptions = EVERYTHING) -> load.LoadPlan:
        return load.plan(directory, self.server, options=options, on_event=self.hear)

    def __call__(self, directory: Path, options: load.LoadOptions = EVERYTHING) -> load.LoadReport:
        plan = self.plan(directory, options)
        return load.apply(plan, self.server, options=options, clock=self.clock, on_event=self.hear)

    def hear(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.message)


@pytest.fixture
def run(server: QdrantSnapshots, clock: ManualClock) -> Loader:
    return Loader(server, clock)


@pytest.fixture
def dumped(server: QdrantSnapshots, clock: ManualClock, tmp_path: Path) -> Path:
    options = dump.DumpOptions(directory=tmp_path / "backups")
    return dump.run(server, options=options, clock=clock).path


@pytest.fixture
def scripted(dumped: Path, tmp_path: Path) -> Path:
    """A directory as the scripts leave it: snapshot files and the text manifest."""
    directory = tmp_path / "scripted"
    shutil.copytree(dumped, directory)
    (directory / "manifest.json").unlink()
    return directory


def rewrite(dumped: Path, **changes: object) -> None:
    """Change a member of every collection in a manifest."""
    path = dumped / "manifest.json"
    content = msgspec.json.decode(path.read_bytes())
    for each in content["collections"]:
        each.update(changes)
    path.write_bytes(msgspec.json.encode(content))


def changed_calls(qdrant: QdrantServer) -> list[str]:
    return [call for call in qdrant.faults.calls if "upload" in call or "recover" in call]


def test_load_brings_lost_and_damaged_collections_back(
    run: Loader, dumped: Path, client: QdrantClient
) -> None:
    client.delete_collection("pearldiver")
    client.delete("my code", [1, 2])

    report = run(dumped)

    assert report.is_complete
    assert (count(client, "pearldiver"), count(client, "my code")) == (30, 5)
    assert client.scroll("pearldiver", limit=3, with_vectors=True)[0][2].vector == [1.0, 2.0, 3.0, 2.0]
    assert client.list_snapshots("pearldiver") == []


def test_a_plan_says_what_is_replaced_and_changes_nothing(
    run: Loader, dumped: Path, client: QdrantClient, qdrant: QdrantServer
) -> None:
    client.delete_collection("pearldiver")

    plan = run.plan(dumped)

    assert {step.name: step.replaced_count for step in plan.steps} == {"pearldiver": None, "my code": 5}
    assert changed_calls(qdrant) == []


def test_a_directory_of_the_scripts_loads_too(run: Loader, scripted: Path, client: QdrantClient) -> None:
    client.delete_collection("pearldiver")

    report = run(scripted)

    assert report.is_complete
    assert [(each.name, each.record_count) for each in report.collections] == [
        ("my code", 5),
        ("pearldiver", 30),
    ]


def test_snapshots_below_subdirectories_are_found(run: Loader, scripted: Path, client: QdrantClient) -> None:
    (scripted / "qdrant").mkdir()
    for path in scripted.glob("*.snapshot"):
        path.rename(scripted / "qdrant" / path.name)
    client.delete_collection("pearldiver")

    assert run(scripted).is_complete


def test_a_collection_of_the_text_manifest_without_a_file_is_damage(run: Loader, scripted: Path) -> None:
    next(scripted.glob("my code-*")).unlink()

    with pytest.raises(IntegrityError, match="lists 'my code'"):
        run(scripted)


def test_what_is_left_of_a_damaged_directory_of_the_scripts_can_be_named(
    run: Loader, scripted: Path, client: QdrantClient
) -> None:
    """As the error advises."""
    next(scripted.glob("my code*")).unlink()
    client.delete_collection("pearldiver")

    report = run(scripted, load.LoadOptions(collections=("pearldiver",)))

    assert report.is_complete
    assert count(client, "pearldiver") == 30
    with pytest.raises(IntegrityError, match="lists 'my code', and there is no snapshot file"):
        run.plan(scripted, load.LoadOptions(collections=("my code",)))


def test_two_snapshots_of_one_collection_are_refused(run: Loader, scripted: Path) -> None:
    path = next(scripted.glob("my code-*"))
    shutil.copy(path, scripted / "my code-1234567890123456-2025-01-01-00-00-00.snapshot")

    with pytest.raises(RequestError, match="two snapshots of 'my code'"):
        run(scripted)


def test_a_missing_directory_and_an_empty_one_say_so(run: Loader, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Backup directory not found"):
        run(tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(NotFoundError, match="No snapshot files found"):
        run(tmp_path / "hollow")


@pytest.mark.parametrize("kind", ["flip", "cut", "gone", "no trailer"])
def test_damage_is_found_before_the_server_is_touched(
    run: Loader, dumped: Path, qdrant: QdrantServer, kind: str
) -> None:
    path = next(dumped.glob("pearldiver-*"))
    content = bytearray(path.read_bytes())
    if kind == "flip":
        content[len(content) // 2] ^= 1
    elif kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "no trailer":
        content = content[:-1024]
        rewrite_digest(dumped, path, bytes(content))
    path.write_bytes(content)
    if kind == "gone":
        path.unlink()

    qdrant.faults.calls.clear()
    with pytest.raises(IntegrityError):
        run(dumped)

    assert not qdrant.faults.calls


def rewrite_digest(dumped: Path, path: Path, content: bytes) -> None:
    manifest = dumped / "manifest.json"
    document = msgspec.json.decode(manifest.read_bytes())
    for each in document["collections"]:
        if each["file"] == path.name:
            each["sha256"] = hashlib.sha256(content).hexdigest()
    manifest.write_bytes(msgspec.json.encode(document))


def test_cut_files_of_the_scripts_are_found_by_their_structure(
    run: Loader, scripted: Path, qdrant: QdrantServer
) -> None:
    path = next(scripted.glob("pearldiver-*"))
    path.write_bytes(path.read_bytes()[:-1024])
    qdrant.faults.calls.clear()

    with pytest.raises(IntegrityError, match="does not end as an archive"):
        run(scripted)

    assert not qdrant.faults.calls


def test_load_waits_for_a_server_that_is_starting(run: Loader, dumped: Path, qdrant: QdrantServer) -> None:
    qdrant.faults.refuse("GET /healthz", count=3)

    assert run(dumped).is_complete
    assert qdrant.faults.calls["GET /healthz"] >= 4


def test_load_gives_up_after_thirty_seconds(run: Loader, dumped: Path, qdrant: QdrantServer) -> None:
    qdrant.stop()

    with pytest.raises(UnavailableError, match="not responding after 30 seconds"):
        run(dumped)


def test_counts_that_differ_are_a_failure(run: Loader, dumped: Path) -> None:
    rewrite(dumped, record_count_min=77, record_count_max=78)

    report = run(dumped)

    assert not report.is_complete
    assert not any(each.is_match for each in report.collections)
    assert all(not each.message for each in report.collections)


def test_another_version_is_refused_before_anything_is_changed(
    run: Loader, server: QdrantSnapshots, qdrant: QdrantServer, clock: ManualClock, tmp_path: Path
) -> None:
    qdrant.faults.snapshots.version = "1.17.3"
    old = dump.run(server, options=dump.DumpOptions(directory=tmp_path / "old"), clock=clock).path

    with pytest.raises(UnsupportedError, match=r"1\.17\.3.*1\.19\.0"):
        run(old)
    assert changed_calls(qdrant) == []


def test_a_failing_collection_is_named_and_the_others_are_restored(
    run: Loader, dumped: Path, qdrant: QdrantServer, client: QdrantClient
) -> None:
    client.delete_collection("pearldiver")
    qdrant.faults.refuse(UPLOAD, status=500, count=1)

    report = run(dumped)

    assert not report.is_complete
    assert [bool(each.message) for each in report.collections] == [True, False]
    assert count(client, "pearldiver") == 30


def test_records_are_kept_where_replacing_is_refused(run: Loader, dumped: Path, qdrant: QdrantServer) -> None:
    with pytest.raises(ConflictError, match=r"'my code'.*5 records"):
        run(dumped, load.LoadOptions(existing="refuse"))
    assert changed_calls(qdrant) == []


def test_one_collection_of_several_can_be_loaded(run: Loader, dumped: Path, client: QdrantClient) -> None:
    client.delete_collection("pearldiver")
    client.delete("my code", [1])

    run(dumped, load.LoadOptions(collections=("pearldiver",)))

    assert (count(client, "pearldiver"), count(client, "my code")) == (30, 4)
    with pytest.raises(NotFoundError, match="no collection 'other'"):
        run(dumped, load.LoadOptions(collections=("other",)))


def test_aliases_come_back_and_are_taken_from_nobody(
    run: Loader, server: QdrantSnapshots, client: QdrantClient, clock: ManualClock, tmp_path: Path
) -> None:
    set_alias(client, "current", "pearldiver")
    set_alias(client, "shared", "pearldiver")
    made = dump.run(server, options=dump.DumpOptions(directory=tmp_path / "b"), clock=clock).path
    client.delete_collection("pearldiver")
    set_alias(client, "shared", "my code")

    run(made)

    held = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
    assert held == {"current": "pearldiver", "shared": "my code"}
    assert "'shared' of 'pearldiver' leads elsewhere" in run.notes[0]


def set_alias(client: QdrantClient, alias: str, to: str) -> None:
    operation = models.CreateAlias(collection_name=to, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=operation)])


def test_a_name_that_is_an_alias_now_is_refused(run: Loader, dumped: Path, client: QdrantClient) -> None:
    client.delete_collection("pearldiver")
    set_alias(client, "pearldiver", "my code")

    with pytest.raises(ConflictError, match="'pearldiver' is an alias of 'my code'"):
        run(dumped)


def test_through_a_container_files_are_copied_in_and_removed(
    run: Loader, dumped: Path, docker: Path, client: QdrantClient, tmp_path: Path
) -> None:
    client.delete_collection("pearldiver")

    report = run(dumped, load.LoadOptions(collections=("pearldiver",), container="my-qdrant"))

    assert report.is_complete
    calls = [line.split()[0] for line in docker.read_text("utf-8").splitlines()]
    assert calls == ["inspect", "cp", "exec"]
    assert list((tmp_path / "server" / "snapshots").glob("*.snapshot")) == []
    assert count(client, "pearldiver") == 30


def test_a_container_is_asked_for_a_file_whatever_the_collection_is_called(
    run: Loader, docker: Path, client: QdrantClient, tmp_path: Path
) -> None:
    """The location is a URL: `#` and `%` mean something else in one."""
    name = "50% of #1"
    client.create_collection(name, models.VectorParams(size=4, distance=models.Distance.DOT))
    client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 2.0, 3.0, 4.0])])
    options = dump.DumpOptions(directory=tmp_path / "backups", collections=(name,))
    path = dump.run(run.server, options=options, clock=run.clock).path
    client.delete_collection(name)

    report = run(path, load.LoadOptions(container="my-qdrant"))

    assert report.is_complete, report
    assert docker.read_text("utf-8").count("cp ") == 1
    assert count(client, name) == 1


@pytest.mark.parametrize(
    ("file", "collection"),
    [
        ("cocalc2-5924904400319806-2023-05-13-14-52-29.snapshot", "cocalc2"),
        ("a-1-b-5924904400319806-2023-05-13-14-52-29.snapshot", "a-1-b"),
        ("two words-1234567890123-2023-05-13-14-52-29.snapshot", "two words"),
        ("x-2024-01-01-5924904400319806-2023-05-13-14-52-29.snapshot", "x-2024-01-01"),
        ("renamed.snapshot", "renamed"),
    ],
)
def test_the_collection_is_read_from_the_servers_file_name(file: str, collection: str) -> None:
    assert collection_of(file) == collection
