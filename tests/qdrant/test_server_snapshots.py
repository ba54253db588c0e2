"""The test server's snapshots, driven by the stock client: real archives of the real engine's files."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.testing.qdrant_server import QdrantServer

SECOND = datetime(2026, 5, 13, 14, 52, 29, tzinfo=UTC)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def rest(server: QdrantServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.rest_url, trust_env=False, timeout=20) as opened:
        yield opened


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def client(server: QdrantServer, request: pytest.FixtureRequest) -> Iterator[QdrantClient]:
    stock = QdrantClient(
        url=server.rest_url, grpc_port=server.grpc_port, prefer_grpc=request.param, check_compatibility=False
    )
    fill(stock)
    yield stock
    stock.close()


def fill(client: QdrantClient, name: str = "docs", count: int = 20) -> None:
    client.create_collection(name, models.VectorParams(size=4, distance=models.Distance.DOT), shard_number=2)
    points = [
        models.PointStruct(id=n, vector=[1.0, 2.0, 3.0, float(n)], payload={"n": n}) for n in range(count)
    ]
    client.upsert(name, points)
    client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER)


def snap(client: QdrantClient) -> models.SnapshotDescription:
    made = client.create_snapshot("docs")
    assert made is not None
    return made


def ids(client: QdrantClient, name: str = "docs") -> list[int | str | UUID]:
    return [record.id for record in client.scroll(name, limit=1000)[0]]


def test_a_snapshot_brings_a_collection_back_as_it_was(client: QdrantClient) -> None:
    made = snap(client)
    client.delete("docs", [1, 2, 3])

    location = f"file:///qdrant/snapshots/docs/{made.name}"
    assert client.recover_snapshot("docs", location, checksum=made.checksum)

    assert ids(client) == list(range(20))
    assert client.scroll("docs", limit=3, with_vectors=True)[0][2].vector == [1, 2, 3, 2]
    assert client.get_collection("docs").payload_schema["n"].points == 20


def test_a_snapshot_makes_a_collection_that_is_gone(client: QdrantClient, server: QdrantServer) -> None:
    made = snap(client)
    client.delete_collection("docs")

    url = f"{server.rest_url}/collections/other/snapshots/{made.name}"
    client.recover_snapshot("docs", f"file:///qdrant/snapshots/docs/{made.name}")

    assert ids(client) == list(range(20))
    with pytest.raises(UnexpectedResponse, match="Failed to download"):
        client.recover_snapshot("other", url)


def test_it_recovers_from_another_server_over_http(
    client: QdrantClient, server: QdrantServer, tmp_path: Path
) -> None:
    made = snap(client)
    with QdrantServer(tmp_path / "second") as second:
        other = QdrantClient(url=second.rest_url, check_compatibility=False)
        location = f"{server.rest_url}/collections/docs/snapshots/{made.name}"

        other.recover_snapshot(
            "docs", location, checksum=made.checksum, priority=models.SnapshotPriority.SNAPSHOT
        )

        assert ids(other) == list(range(20))
        other.close()


def test_names_list_and_delete_are_those_of_a_real_server(client: QdrantClient, server: QdrantServer) -> None:
    server.faults.snapshots.frozen_at = SECOND

    made = snap(client)

    assert made.name == "docs-3141592653589793-2026-05-13-14-52-29.snapshot"
    assert [each.name for each in client.list_snapshots("docs")] == [made.name]
    client.delete_snapshot("docs", made.name)
    assert client.list_snapshots("docs") == []


def test_two_snapshots_in_one_second_overwrite_each_other(client: QdrantClient, server: QdrantServer) -> None:
    server.faults.snapshots.frozen_at = SECOND

    first = snap(client)
    client.delete("docs", [1])
    second = snap(client)

    assert first.name == second.name
    assert [each.checksum for each in client.list_snapshots("docs")] == [second.checksum]


def test_a_download_is_the_archive_of_the_checksum(
    client: QdrantClient, rest: httpx.Client, tmp_path: Path
) -> None:
    made = snap(client)

    content = rest.get(f"/collections/docs/snapshots/{made.name}").content

    assert hashlib.sha256(content).hexdigest() == made.checksum
    (tmp_path / "a.tar").write_bytes(content)
    with tarfile.open(tmp_path / "a.tar") as archive:
        names = archive.getnames()
    assert {"version.info", "config.json", "payload_index.json", "0/shard_config.json"} <= set(names)
    assert made.size == len(content) < 2_000_000, "holes are left out"


@pytest.mark.usefixtures("client")
def test_answers_are_compact_json_as_scripts_expect(rest: httpx.Client) -> None:
    made = rest.post("/collections/docs/snapshots")

    assert b'"status":"ok"' in made.content
    assert set(made.json()["result"]) == {"name", "creation_time", "size", "checksum"}
    assert rest.get("/healthz").status_code == 200


@pytest.mark.usefixtures("client")
def test_wait_false_is_accepted_and_done_later(rest: httpx.Client) -> None:
    answer = rest.post("/collections/docs/snapshots", params={"wait": "false"})

    assert answer.status_code == 202
    assert answer.json()["status"] == "accepted"
    assert "result" not in answer.json()
    for _ in range(500):
        if rest.get("/collections/docs/snapshots").json()["result"]:
            return
    pytest.fail("the snapshot never came")


def test_upload_checks_checksum_and_priority(client: QdrantClient, rest: httpx.Client) -> None:
    made = snap(client)
    content = rest.get(f"/collections/docs/snapshots/{made.name}").content
    path, files = "/collections/copy/snapshots/upload", {"snapshot": content}

    wrong = rest.post(path, params={"checksum": "0" * 64}, files=files)
    unknown = rest.post(path, params={"priority": "first"}, files=files)
    good = rest.post(path, params={"checksum": made.checksum, "priority": "snapshot"}, files=files)

    assert (wrong.status_code, unknown.status_code, good.status_code) == (400, 400, 200)
    assert "checksum mismatch" in wrong.json()["status"]["error"]
    assert ids(client, "copy") == list(range(20))


def test_a_truncated_download_breaks_off(
    client: QdrantClient, rest: httpx.Client, server: QdrantServer
) -> None:
    made = snap(client)
    server.faults.snapshots.truncated_to = 5000

    with pytest.raises(httpx.RemoteProtocolError):
        rest.get(f"/collections/docs/snapshots/{made.name}")
    server.faults.snapshots.declares_length = False
    assert len(rest.get(f"/collections/docs/snapshots/{made.name}").content) == 5000


def test_the_server_does_not_notice_a_missing_trailer(client: QdrantClient, server: QdrantServer) -> None:
    server.faults.snapshots.omits_trailer = True
    made = snap(client)

    client.recover_snapshot("docs", f"file:///qdrant/snapshots/docs/{made.name}")

    assert ids(client) == list(range(20))


def test_a_node_without_shards_tells_no_error(client: QdrantClient, server: QdrantServer) -> None:
    server.faults.snapshots.without_shards = True
    made = snap(client)

    client.recover_snapshot("docs", f"file:///qdrant/snapshots/docs/{made.name}")

    assert ids(client) == []


def test_another_version_is_refused(client: QdrantClient, server: QdrantServer) -> None:
    for version, is_taken in (("1.18.2", True), ("1.17.0", False), ("1.20.0", False)):
        server.faults.snapshots.version = version
        made = snap(client)
        location = f"file:///qdrant/snapshots/docs/{made.name}"
        if is_taken:
            client.recover_snapshot("docs", location)
        else:
            with pytest.raises(UnexpectedResponse, match=version):
                client.recover_snapshot("docs", location)


def test_a_silent_download_answers_and_sends_nothing(
    client: QdrantClient, rest: httpx.Client, server: QdrantServer
) -> None:
    made = snap(client)
    server.faults.snapshots.is_silent = True

    with pytest.raises(httpx.ReadTimeout):
        rest.get(f"/collections/docs/snapshots/{made.name}", timeout=0.2)
    server.faults.clear()


def test_snapshots_of_s3_have_no_checksum(client: QdrantClient, server: QdrantServer) -> None:
    server.faults.snapshots.null_checksum = True

    assert not snap(client).checksum


def test_a_full_snapshot_holds_every_collection_and_the_aliases(
    client: QdrantClient, rest: httpx.Client, tmp_path: Path
) -> None:
    made = client.create_full_snapshot()
    assert made is not None

    (tmp_path / "full.tar").write_bytes(rest.get(f"/snapshots/{made.name}").content)
    with tarfile.open(tmp_path / "full.tar") as archive:
        assert {name.split("-")[0] for name in archive.getnames()} == {"docs", "config.json"}
    assert [each.name for each in client.list_full_snapshots()] == [made.name]
    assert client.list_snapshots("docs") == []
    assert client.delete_full_snapshot(made.name)


@pytest.mark.parametrize("blocks", [[], [0], [3], [0, 2, 4, 6, 8, 10], list(range(0, 120, 2))])
def test_sparse_members_come_back_with_their_holes(tmp_path: Path, blocks: list[int]) -> None:
    source, packed = tmp_path / "source", tmp_path / "packed.tar"
    size = 130 * 65536 + 7
    with source.open("wb") as file:
        file.truncate(size)
        for block in blocks:
            file.seek(block * 65536)
            file.write(bytes([block + 1]) * 100)
    with packed.open("wb") as file:
        writer = SparseTarWriter(file)
        writer.add_file("a/" + "long-" * 30 + "name", source)
        writer.add_bytes("after", b"it")
        writer.end()

    with tarfile.open(packed) as archive:
        found = archive.extractfile(archive.getmembers()[0])
        assert found is not None
        assert found.read() == source.read_bytes()
        assert archive.getnames()[1] == "after"
    assert packed.stat().st_size < size
