"""The test server's shard snapshots: what a real server does, and what goes wrong with one."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import qdrant_edge as edge

from recollect.testing.qdrant_server import QdrantCluster, QdrantServer
from tests.qdrant_production.conftest import ask, client, count, drop, make, points, write

P = "/collections/docs/shards/0"
INDEXING = {"indexing_threshold": 1, "vacuum_min_vector_number": 100}
"""Lets the optimizers build an index of a few records."""


@pytest.fixture
def filled(rest: httpx.Client) -> httpx.Client:
    make(rest, optimizers_config=INDEXING)
    write(rest, range(50))
    write(rest, range(50, 100))  # files of operation 0 always travel
    return rest


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


def partial(rest: httpx.Client, base: Any) -> httpx.Response:
    return rest.post(P + "/snapshot/partial/create", json=base)


def test_a_stream_is_an_archive_that_the_engine_opens(filled: httpx.Client, tmp_path: Path) -> None:
    content = filled.get(P + "/snapshot").content
    (tmp_path / "a.tar").write_bytes(content)

    edge.EdgeShard.unpack_snapshot(str(tmp_path / "a.tar"), str(tmp_path / "shard"))

    assert {"replica_state.json", "shard_config.json", "wal/closed-2"} <= set(names(content))
    assert not any("manifest" in name for name in names(content))
    assert content.endswith(bytes(1024))
    assert len(content) < 1_000_000, "holes are left out"
    assert len(list((tmp_path / "shard" / "segments").iterdir())) > 0


def test_the_same_manifest_is_answered_with_304(filled: httpx.Client) -> None:
    manifest = ask(filled, "GET", P + "/snapshot/partial/manifest")

    answer = partial(filled, manifest)

    assert (answer.status_code, answer.content) == (304, b"")


def test_a_partial_snapshot_has_every_manifest_and_only_newer_files(
    filled: httpx.Client, server: QdrantServer
) -> None:
    assert server.optimize("docs")
    before = ask(filled, "GET", P + "/snapshot/partial/manifest")
    whole = names(partial(filled, {}).content)
    write(filled, [5], seed=9)

    changed = names(partial(filled, before).content)

    segments = {name.split("/")[1] for name in whole if name.startswith("segments/")}
    for segment in segments:
        assert f"segments/{segment}/files/segment_manifest.json" in changed
    assert any(name.endswith("matrix.dat") for name in whole)
    assert not any(name.endswith("matrix.dat") for name in changed)


def test_partial_snapshots_lead_another_shard_to_the_same_state(filled: httpx.Client, tmp_path: Path) -> None:
    with QdrantServer(tmp_path / "second") as second, client(second.rest_url) as other:
        make(other)
        files = {"snapshot": filled.get(P + "/snapshot").content}
        assert other.post(P + "/snapshots/upload", files=files).status_code == 200
        base = ask(other, "GET", P + "/snapshot/partial/manifest")
        write(filled, [7, 200], seed=3)
        drop(filled, [1])

        changes = {"snapshot": partial(filled, base).content}
        assert other.post(P + "/snapshot/partial/recover", files=changes).status_code == 200

        assert points(other) == points(filled)
        write(filled, [300])
        ask(other, "POST", P + "/snapshot/partial/recover_from", {"peer_url": str(filled.base_url)})
        assert points(other) == points(filled)


def test_full_and_partial_snapshots_are_told_apart(filled: httpx.Client) -> None:
    whole, part = filled.get(P + "/snapshot").content, partial(filled, {}).content

    for path, content in (("/snapshots/upload", part), ("/snapshot/partial/recover", whole)):
        answer = filled.post(P + path, files={"snapshot": content})
        assert answer.status_code == 400
        assert "ensure you are not recovering" in answer.text


def test_a_second_partial_recovery_is_refused(filled: httpx.Client, server: QdrantServer) -> None:
    part = partial(filled, {}).content
    assert server._storage is not None
    with server._storage.get("docs").recovering:
        answer = filled.post(P + "/snapshot/partial/recover", files={"snapshot": part})

    assert answer.status_code == 503


def test_an_upload_with_another_checksum_is_refused(filled: httpx.Client) -> None:
    files = {"snapshot": filled.get(P + "/snapshot").content}

    answer = filled.post(P + "/snapshots/upload", params={"checksum": "0" * 64}, files=files)

    assert answer.status_code == 400
    assert count(filled) == 100


def test_stored_snapshots_are_listed_fetched_recovered_and_deleted(
    filled: httpx.Client, server: QdrantServer
) -> None:
    server.faults.snapshots.frozen_at = datetime(2026, 5, 13, 14, 52, 29, tzinfo=UTC)
    made = ask(filled, "POST", P + "/snapshots")
    drop(filled, [1, 2])

    assert [each["name"] for each in ask(filled, "GET", P + "/snapshots")] == [made["name"]]
    assert len(filled.get(f"{P}/snapshots/{made['name']}").content) == made["size"]
    body = {"location": made["name"], "checksum": made["checksum"], "priority": "snapshot"}
    ask(filled, "PUT", P + "/snapshots/recover", body)
    assert count(filled) == 100
    again = ask(filled, "POST", P + "/snapshots")
    assert again["name"] == made["name"], "names have seconds: the second one takes the first one's place"
    ask(filled, "DELETE", f"{P}/snapshots/{made['name']}")
    assert filled.get(f"{P}/snapshots/{made['name']}").status_code == 404


def test_what_goes_wrong_with_a_stream(filled: httpx.Client, server: QdrantServer) -> None:
    faults = server.faults.snapshots
    whole = filled.get(P + "/snapshot").content

    faults.truncated_to = -1024
    assert filled.get(P + "/snapshot").content == whole[:-1024]
    faults.truncated_to = None
    faults.omits_trailer = True
    assert len(filled.get(P + "/snapshot").content) == len(whole) - 1024
    faults.omits_trailer = False
    faults.without_shards = True
    assert not any("segments" in name for name in names(filled.get(P + "/snapshot").content))
    faults.without_shards = False
    faults.null_checksum = True
    assert ask(filled, "POST", P + "/snapshots")["checksum"] is None
    server.faults.refuse("GET " + "/collections/{name}/shards/{shard}/snapshot", status=503, count=1)
    assert filled.get(P + "/snapshot").status_code == 503
    for switch, value in (("is_silent", True), ("stalls_after", 20_000)):
        setattr(faults, switch, value)
        with pytest.raises(httpx.ReadTimeout):
            filled.get(P + "/snapshot", timeout=0.2)
        server.faults.clear()


def test_a_cluster_knows_its_peers_and_gives_out_only_local_shards(cluster: QdrantCluster) -> None:
    with client(cluster.rest_url) as rest:
        make(rest, shard_number=3, replication_factor=2)
        write(rest, range(60))
        found = ask(rest, "GET", "/cluster")
        first = ask(rest, "GET", "/collections/docs/cluster")

    assert set(found["peers"]) == {str(node.peer_id) for node in cluster.nodes}
    assert first["peer_id"] == cluster.nodes[0].peer_id
    assert len(first["local_shards"]) == 2
    assert len(first["remote_shards"]) == 4
    for node in cluster.nodes:
        with client(f"http://127.0.0.1:{node.rest_port}") as rest:
            local = {s["shard_id"] for s in ask(rest, "GET", "/collections/docs/cluster")["local_shards"]}
            for shard in range(3):
                answer = rest.get(f"/collections/docs/shards/{shard}/snapshot/partial/manifest")
                assert answer.status_code == (200 if shard in local else 404)


def test_replicas_have_segments_of_their_own(cluster: QdrantCluster) -> None:
    with client(cluster.rest_url) as rest:
        make(rest, replication_factor=2)
        write(rest, range(10))
    segments = []
    for node in cluster.nodes[:2]:
        with client(f"http://127.0.0.1:{node.rest_port}") as rest:
            segments.append(set(ask(rest, "GET", P + "/snapshot/partial/manifest")))

    assert segments[0].isdisjoint(segments[1])


def test_a_stopped_node_leaves_the_others_running(cluster: QdrantCluster) -> None:
    with client(cluster.rest_url) as rest:
        make(rest)
    cluster.nodes[0].stop()

    with pytest.raises(httpx.ConnectError):
        httpx.get(cluster.rest_url, trust_env=False)
    with client(f"http://127.0.0.1:{cluster.nodes[1].rest_port}") as rest:
        assert count(rest) == 0


def test_custom_shard_keys_hold_points_apart(rest: httpx.Client) -> None:
    make(rest, sharding_method="custom", shard_number=2)
    body = {"points": [{"id": 1, "vector": [1, 2, 3, 4]}]}
    assert rest.put("/collections/docs/points", json=body).status_code == 400
    for key in ("left", 7):
        ask(rest, "PUT", "/collections/docs/shards", {"shard_key": key})
    write(rest, range(10), shard_key="left")
    write(rest, range(5, 20), shard_key=7, seed=1)

    assert [count(rest, shard_key=key) for key in ("left", 7, ["left", 7])] == [10, 15, 25]
    assert [point["id"] for point in points(rest, shard_key="left")] == list(range(10))
    shards = ask(rest, "GET", "/collections/docs/cluster")["local_shards"]
    assert [shard["shard_key"] for shard in shards] == ["left", "left", 7, 7]
    drop(rest, [6], shard_key=7)
    assert [count(rest, shard_key=key) for key in ("left", 7)] == [10, 14]
