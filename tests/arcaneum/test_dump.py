from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from qdrant_client import QdrantClient, models

from recollect.clock import ManualClock
from recollect.compat.arcaneum import dump
from recollect.compat.arcaneum.directory import collection_of
from recollect.compat.arcaneum.manifest import read_manifest
from recollect.engines.qdrant.snapshots import QdrantSnapshots
from recollect.errors import IntegrityError, NotFoundError, RecollectError, RequestError, UnavailableError
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.event import Event, Note
from tests.arcaneum.conftest import no_secret

CREATE, DOWNLOAD = "POST /collections/{name}/snapshots", "GET /collections/{name}/snapshots/{snapshot}"


class Dumper:
    def __init__(self, server: QdrantSnapshots, directory: Path, clock: ManualClock) -> None:
        self.server, self.directory, self.clock = server, directory, clock
        self.notes: list[str] = []

    def __call__(self, *collections: str, keep: int | None = None, container: str = "") -> dump.DumpReport:
        options = dump.DumpOptions(
            directory=self.directory, collections=collections, keep=keep, container=container
        )
        return dump.run(self.server, options=options, clock=self.clock, on_event=self.hear)

    def hear(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.message)

    def visible(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir()) if self.directory.exists() else []


@pytest.fixture
def run(server: QdrantSnapshots, tmp_path: Path, clock: ManualClock) -> Dumper:
    return Dumper(server, tmp_path / "backups", clock)


def left_on_server(client: QdrantClient) -> list[str]:
    return [each.name for name in ("pearldiver", "my code") for each in client.list_snapshots(name)]


def test_every_collection_is_dumped_into_a_directory_of_the_scripts_form(
    run: Dumper, client: QdrantClient
) -> None:
    report = run()

    assert report.path.name == "qdrant-snapshots-2025-12-29-143022"
    assert [each.name for each in report.manifest.collections] == ["my code", "pearldiver"]
    for each in report.manifest.collections:
        content = (report.path / each.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each.sha256
        assert collection_of(each.file) == each.name
    assert [each.record_count_min for each in report.manifest.collections] == [5, 30]
    assert left_on_server(client) == []


def test_the_text_manifest_is_the_scripts_and_the_other_reads_back(run: Dumper) -> None:
    report = run()

    lines = (report.path / "manifest.txt").read_text("utf-8").splitlines()
    assert lines[:2] == ["Qdrant Backup Manifest", "======================"]
    assert lines[2] == "Backup Date: 2025-12-29 14:30:22 UTC"
    assert lines[6:10] == ["Collections Backed Up:", "my code", "pearldiver", ""]
    assert lines[10] == "Snapshot Files:"
    assert read_manifest(report.path / "manifest.json") == report.manifest


def test_what_a_native_snapshot_forgets_stands_in_the_manifest(run: Dumper, client: QdrantClient) -> None:
    alias = models.CreateAlias(collection_name="pearldiver", alias_name="current")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    client.create_payload_index("pearldiver", "n", models.PayloadSchemaType.INTEGER)

    found = run("current").manifest.collections[0]

    assert (found.name, found.aliases) == ("pearldiver", ("current",))
    assert found.config["params"]["vectors"]["size"] == 4
    assert found.payload_schema["n"]["data_type"] == "integer"
    assert found.version == "1.19.0"


def test_a_server_without_collections_leaves_nothing_behind(tmp_path: Path, clock: ManualClock) -> None:
    with QdrantServer(tmp_path / "empty") as empty:
        run = Dumper(QdrantSnapshots(empty.rest_url, secrets=no_secret, clock=clock), tmp_path / "b", clock)

        with pytest.raises(NotFoundError, match="No collections found"):
            run()
        run.server.close()

    assert run.visible() == []


def test_an_unknown_collection_is_named_with_those_that_exist(run: Dumper) -> None:
    with pytest.raises(NotFoundError, match=r"'other'.*my code, pearldiver"):
        run("other")


def test_a_server_that_is_down_is_waited_for_and_told(
    run: Dumper, qdrant: QdrantServer, clock: ManualClock
) -> None:
    qdrant.stop()

    with pytest.raises(UnavailableError, match="not responding after 5 seconds"):
        run()
    assert (clock.now() - datetime(2025, 12, 29, 14, 30, 22, tzinfo=UTC)).total_seconds() == 4


def test_one_failing_collection_does_not_keep_the_others(
    run: Dumper, qdrant: QdrantServer, client: QdrantClient
) -> None:
    qdrant.faults.refuse(CREATE, status=500, count=1)

    report = run()

    assert not report.is_complete
    assert [each.name for each in report.manifest.failed] == ["my code"]
    assert [each.name for each in report.manifest.collections] == ["pearldiver"]
    assert "Not Backed Up:" in (report.path / "manifest.txt").read_text("utf-8")
    assert left_on_server(client) == []


def test_when_all_fail_there_is_no_dump(run: Dumper, qdrant: QdrantServer) -> None:
    qdrant.faults.refuse(CREATE, status=503)

    with pytest.raises(UnavailableError, match="creating a snapshot"):
        run()
    assert run.visible() == []


@pytest.mark.parametrize(
    ("fault", "value", "said"),
    [
        ("truncated_to", 5000, "no answer|bytes"),
        ("omits_trailer", True, "does not end as an archive"),
        ("without_shards", True, "holds none of the collection's 1 shards"),
        ("is_silent", True, "no byte came for 0.3 s"),
        ("flipped_byte", 3000, "SHA-256"),
    ],
)
def test_a_bad_snapshot_never_becomes_part_of_a_dump(
    run: Dumper, qdrant: QdrantServer, client: QdrantClient, fault: str, value: object, said: str
) -> None:
    setattr(qdrant.faults.snapshots, fault, value)

    with pytest.raises(RecollectError, match=said):
        run("pearldiver")

    assert run.visible() == []
    qdrant.faults.clear()
    assert left_on_server(client) == []


def test_a_stream_without_a_length_that_ends_early_is_noticed(run: Dumper, qdrant: QdrantServer) -> None:
    qdrant.faults.snapshots.declares_length = False
    qdrant.faults.snapshots.truncated_to = 10240

    with pytest.raises(IntegrityError, match="10240 arrived"):
        run("pearldiver")


def test_a_slow_stream_is_waited_for(run: Dumper, qdrant: QdrantServer) -> None:
    qdrant.faults.snapshots.delay_s = 0.05

    assert run("pearldiver").is_complete


def test_without_a_server_checksum_the_archive_is_checked_and_the_manifest_says_so(
    run: Dumper, qdrant: QdrantServer
) -> None:
    qdrant.faults.snapshots.null_checksum = True

    found = run("pearldiver").manifest.collections[0]

    assert not found.is_proven
    assert len(found.sha256) == 64


def test_a_snapshot_of_the_same_second_and_name_is_not_deleted(
    run: Dumper, qdrant: QdrantServer, client: QdrantClient
) -> None:
    qdrant.faults.snapshots.frozen_at = datetime(2026, 1, 1, tzinfo=UTC)
    theirs = client.create_snapshot("pearldiver")
    assert theirs is not None

    run("pearldiver")

    assert left_on_server(client) == [theirs.name]


def test_a_leftover_on_the_server_is_told(run: Dumper, qdrant: QdrantServer) -> None:
    qdrant.faults.refuse("DELETE /collections/{name}/snapshots")

    assert run("pearldiver").is_complete
    assert "is left on the server" in run.notes[0]


def test_the_newest_dumps_stay_and_foreign_files_are_never_removed(run: Dumper) -> None:
    made = []
    for _ in range(4):
        made.append(run("my code").path)
        run.clock.advance(60)
    (made[0] / "notes.md").write_text("mine", "utf-8")
    (run.directory / "qdrant-snapshots-of-yesterday").mkdir()

    report = run("my code", keep=2)

    assert report.removed == (made[1], made[2])
    assert run.visible() == sorted(
        ["qdrant-snapshots-of-yesterday", made[0].name, made[3].name, report.path.name]
    )
    assert "holds files that no dump writes" in run.notes[-1]


def test_a_partial_dump_removes_no_complete_one(run: Dumper, qdrant: QdrantServer) -> None:
    first = run()
    run.clock.advance(60)
    qdrant.faults.refuse(CREATE, status=500, count=1)

    report = run(keep=1)

    assert report.removed == ()
    assert first.path.exists()


def test_keeping_no_dump_is_refused(run: Dumper) -> None:
    with pytest.raises(RequestError, match="--keep is 0"):
        run(keep=0)


def test_through_a_container_files_are_copied_and_checked(
    run: Dumper, docker: Path, client: QdrantClient
) -> None:
    report = run("pearldiver", container="my-qdrant")

    calls = docker.read_text("utf-8").splitlines()
    assert calls[0] == "inspect --type container my-qdrant"
    name = report.manifest.collections[0].file
    assert calls[1].startswith(f"cp my-qdrant:/qdrant/snapshots/pearldiver/{name} ")
    assert report.manifest.container == "my-qdrant"
    assert report.manifest.collections[0].is_proven
    assert left_on_server(client) == []


def test_an_unknown_container_falls_back_to_http_and_says_so(run: Dumper, docker: Path) -> None:
    report = run("pearldiver", container="other")

    assert report.is_complete
    assert "there is no container 'other'" in run.notes[0]
    assert len(docker.read_text("utf-8").splitlines()) == 1


def test_a_dump_holds_plain_archives_and_json_and_nothing_hidden(run: Dumper) -> None:
    report = run("pearldiver")

    with tarfile.open(report.path / report.manifest.collections[0].file) as archive:
        assert "config.json" in archive.getnames()
    assert msgspec.json.decode((report.path / "manifest.json").read_bytes())["format"] == "recollect-dump"
    made = [path.name for path in report.path.iterdir()]
    assert not any(name.startswith(".") for name in made)


def test_what_a_killed_dump_left_is_removed_by_the_next_and_a_living_one_is_left_alone(
    run: Dumper,
) -> None:
    run.directory.mkdir()
    dead = run.directory / ".qdrant-snapshots-2025-12-28-010203.part"
    alive = run.directory / ".qdrant-snapshots-2025-12-29-010203.part"
    foreign = run.directory / ".mine.part"
    for path in (dead, alive, foreign):
        path.mkdir()
        (path / "half.snapshot").write_bytes(b"half")
    hold = f"""
import sys
from pathlib import Path
from recollect.compat.arcaneum.directory import held
with held(Path({str(alive)!r})) as is_held:
    print(is_held, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        run()
        other.communicate("")

    assert not dead.exists()
    assert (alive / "half.snapshot").is_file()
    assert foreign.is_dir()
    assert any("left by an interrupted dump" in note for note in run.notes)
