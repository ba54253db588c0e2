"""Servers that answer nonsense, and dumps that somebody tampered with: nothing leaves its directory."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from recollect.clock import ManualClock
from recollect.compat.arcaneum import directory as dumps
from recollect.compat.arcaneum import load
from recollect.engines.qdrant.archive import check_archive
from recollect.engines.qdrant.connection import collection_path
from recollect.engines.qdrant.snapshots import QdrantSnapshots, SnapshotFacts
from recollect.errors import IntegrityError, NotFoundError, RecollectError, RequestError, UnavailableError
from tests.arcaneum.conftest import no_secret
from tests.arcaneum.test_dump import Dumper
from tests.arcaneum.test_load import Loader

Key: TypeAlias = str | tuple[str, str]
"""A path, or a method and a path."""
ENDS: dict[Key, Any] = {
    "/collections": {"collections": [{"name": "docs"}]},
    "/aliases": {"aliases": []},
    "/collections/docs": {"config": {}, "payload_schema": {}},
    "/collections/docs/cluster": {"local_shards": [{"shard_id": 0}], "remote_shards": []},
    "/collections/docs/points/count": {"count": 1},
    "/collections/docs/snapshots": [],
}


@contextmanager
def answering(answers: dict[Key, Any]) -> Iterator[str]:
    """Run a server that answers paths with these results, and everything else with some content."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path = self.path.partition("?")[0]
            body = b"content"
            if path == "/":
                body = b'{"title": "qdrant", "version": "1.17.0"}'
            elif (self.command, path) in answers or path in answers:
                found = answers.get((self.command, path), answers.get(path))
                body = found if isinstance(found, bytes) else json.dumps({"result": found}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - as the base class calls them

        def log_message(self, *words: object) -> None:
            del words

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def snapshots_of(url: str) -> QdrantSnapshots:
    return QdrantSnapshots(url, secrets=no_secret, clock=ManualClock())


NONSENSE: list[Any] = [
    b"<html>log in</html>",
    b"[]",
    b"null",
    None,
    [],
    {},
    7,
    [None],
    [{}],
    [{"name": None}],
]


@pytest.mark.parametrize("path", sorted(map(str, ENDS)))
def test_a_server_that_answers_nonsense_is_told_from_a_bug(path: str, tmp_path: Path) -> None:
    answers: dict[Key, Any] = dict(ENDS)
    with answering(answers) as url, closing(snapshots_of(url)) as server:
        run = Dumper(server, tmp_path / "backups", ManualClock())
        for nonsense in NONSENSE:
            answers[path] = nonsense
            with pytest.raises(RecollectError):
                run()
    assert run.visible() == []


@pytest.mark.parametrize(
    "name", ["../../evil.snapshot", "/evil.snapshot", "..", ".", "", "a/b.snapshot", "a\\b", "a\0b"]
)
def test_a_snapshots_name_never_leads_out_of_the_dump(name: str, tmp_path: Path) -> None:
    made = {"name": name, "size": 7, "creation_time": None, "checksum": None}
    answers: dict[Key, Any] = {**ENDS, ("POST", "/collections/docs/snapshots"): made}
    with answering(answers) as url, closing(snapshots_of(url)) as server:
        run = Dumper(server, tmp_path / "deep" / "backups", ManualClock())
        with pytest.raises(IntegrityError, match="no name of a file"):
            run()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_a_collections_name_is_never_a_step_of_a_path(name: str) -> None:
    with pytest.raises(RequestError, match="no name of a collection"):
        collection_path(name, "/snapshots/upload")


@pytest.fixture
def dump_run(server: QdrantSnapshots, tmp_path: Path, clock: ManualClock) -> Dumper:
    return Dumper(server, tmp_path / "backups", clock)


@pytest.fixture
def loader(server: QdrantSnapshots, clock: ManualClock) -> Loader:
    return Loader(server, clock)


def tampered(dumped: Path, **changes: object) -> None:
    """Change the first collection of a manifest."""
    path = dumped / "manifest.json"
    content = msgspec.json.decode(path.read_bytes())
    content["collections"][0].update(changes)
    path.write_bytes(msgspec.json.encode(content))


@pytest.mark.parametrize(
    "file", ["../secret.snapshot", "/etc/passwd", "..", ".", "", "a\0b", "sub/x.snapshot"]
)
def test_a_manifest_cannot_name_a_file_elsewhere(dump_run: Dumper, loader: Loader, file: str) -> None:
    path = dump_run().path
    tampered(path, file=file)

    with pytest.raises(IntegrityError, match="no file of this directory"):
        loader.plan(path)


def test_a_collection_that_is_listed_twice_is_refused(dump_run: Dumper, loader: Loader) -> None:
    path = dump_run().path
    tampered(path, name="pearldiver")

    with pytest.raises(IntegrityError, match="lists the collection 'pearldiver' twice"):
        loader.plan(path)


def test_a_link_among_the_dumps_is_none_of_them(dump_run: Dumper, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "manifest.txt").write_text("precious")
    dump_run.directory.mkdir()
    link = dump_run.directory / "qdrant-snapshots-2020-01-01-000000"
    link.symlink_to(elsewhere)

    report = dump_run(keep=1)

    assert report.removed == ()
    assert link.is_symlink()
    assert (elsewhere / "manifest.txt").read_text() == "precious"


def test_a_link_in_a_dump_keeps_the_dump(dump_run: Dumper, tmp_path: Path) -> None:
    old = dump_run().path
    (tmp_path / "precious").write_text("precious")
    (old / "more.snapshot").symlink_to(tmp_path / "precious")
    dump_run.clock.advance(5)

    assert dump_run(keep=1).removed == ()
    assert old.is_dir()


def test_what_a_killed_removal_left_is_removed_by_the_next(dump_run: Dumper) -> None:
    old = dump_run().path
    hidden = old.with_name(f".{old.name}.removing")
    old.rename(hidden)
    foreign = dump_run.directory / ".mine.removing"
    foreign.mkdir()
    dump_run.clock.advance(5)

    report = dump_run(keep=1)

    assert not hidden.exists()
    assert foreign.is_dir()
    assert dumps.dumps_in(dump_run.directory) == [report.path]


def test_a_collection_that_the_manifest_calls_a_step_of_a_path_is_not_loaded(
    dump_run: Dumper, loader: Loader
) -> None:
    path = dump_run().path
    tampered(path, name="..")

    report = loader(path, load.LoadOptions(collections=("..",)))

    assert not report.is_complete
    assert "no name of a collection" in report.collections[0].message
    with pytest.raises(NotFoundError):
        loader.plan(path, load.LoadOptions(collections=("../x",)))


def archive(path: Path, config: bytes, *, sparse_size: int = 0) -> Path:
    """Write a snapshot archive with this configuration, which may claim to have more bytes than it has."""
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as made:
        member = tarfile.TarInfo("config.json")
        member.size = len(config)
        if sparse_size:
            member.pax_headers = {
                "GNU.sparse.size": str(sparse_size),
                "GNU.sparse.numblocks": "1",
                "GNU.sparse.map": f"0,{len(config)}",
            }
        made.addfile(member, io.BytesIO(config))
        segment = tarfile.TarInfo("0/segments/one.tar")
        made.addfile(segment, io.BytesIO(b""))
    return path


@pytest.mark.parametrize(
    "config",
    [
        b"[]",
        b"null",
        b'{"params": [1]}',
        b'{"params": {"shard_number": "many"}}',
        b'{"params": {"shard_number": 1000000000000}}',
        b'{"params": {"shard_number": 1e999}}',
        b"[" * 200_000,
        b"\xff",
    ],
)
def test_the_configuration_of_an_archive_can_say_what_it_wants(tmp_path: Path, config: bytes) -> None:
    with pytest.raises(IntegrityError, match="cannot be trusted"):
        check_archive(archive(tmp_path / "x.snapshot", config))


def test_an_archive_that_claims_to_hold_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.snapshot", b"{}", sparse_size=1 << 40)

    with pytest.raises(IntegrityError, match="has 1099511627776 bytes"):
        check_archive(path)


def test_a_link_that_comes_out_of_a_container_is_no_snapshot(server: QdrantSnapshots, tmp_path: Path) -> None:
    secret = archive(tmp_path / "secret", b"{}")
    (tmp_path / "arrived").symlink_to(secret)
    facts = SnapshotFacts(name="x.snapshot", byte_size=secret.stat().st_size)

    with pytest.raises(IntegrityError, match="is no file"):
        server.accept(facts, tmp_path / "arrived", tmp_path / "x.snapshot")

    assert not (tmp_path / "x.snapshot").exists()


def test_a_file_where_the_backup_directory_should_be_is_called_one(dump_run: Dumper, tmp_path: Path) -> None:
    dump_run.directory = tmp_path / "file"
    dump_run.directory.write_text("mine", "utf-8")

    with pytest.raises(UnavailableError, match=r"creating .*file: File exists"):
        dump_run()

    assert dump_run.directory.read_text("utf-8") == "mine"
