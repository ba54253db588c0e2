"""The spool's budget when streams break, and a node that denies to have anything new."""

from __future__ import annotations

import os

import httpx
import pytest

from recollect.engines.edge.captured import open_captured
from recollect.engines.qdrant.capture.spool import disk_bytes
from recollect.errors import IntegrityError, UnavailableError
from recollect.testing.qdrant_server import QdrantServer
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import make, write

PARTIAL = "POST /collections/{name}/shards/{shard}/snapshot/partial/create"


@pytest.fixture
def filled(rest: httpx.Client) -> httpx.Client:
    make(rest)
    write(rest, range(300))
    return rest


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("switch", "value"), [("truncated_to", -1024), ("omits_trailer", True)])
def test_what_a_broken_stream_took_of_the_spool_is_given_back(
    bench: Bench, server: QdrantServer, switch: str, *, value: object
) -> None:
    """Three attempts fail for what is wrong with them, and not for room."""
    bench.entry(server.url)
    bench.spool_bytes = 3 * disk_bytes(bench.spool)
    bench.spool.rename(bench.directory / "elsewhere")
    setattr(server.faults.snapshots, switch, value)

    with pytest.raises(UnavailableError, match="does not end as an archive does"):
        bench.entry(server.url + "&capture=snapshot", compare="scan")


@pytest.mark.usefixtures("filled")
def test_a_node_that_says_nothing_changed_when_nothing_was_here_is_not_believed(
    bench: Bench, server: QdrantServer
) -> None:
    server.faults.refuse(PARTIAL, status=304)

    with pytest.raises(UnavailableError, match="nothing was here before"):
        bench.entry(server.url + "&capture=snapshot")


def test_a_full_backup_is_not_answered_with_what_was_kept(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    bench.entry(server.url)
    write(filled, range(300, 310))
    server.faults.refuse(PARTIAL, status=304, count=1)

    assert bench.entry(server.url + "&capture=snapshot", compare="nothing").record_count == 310


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("days", "transfer"), [(89, "none"), (91, "all")])
def test_a_kept_shard_that_nobody_used_for_long_goes(
    bench: Bench, server: QdrantServer, days: int, transfer: str
) -> None:
    """Of collections that are gone, records would stay in the spool for ever."""
    bench.entry(server.url)
    (place,) = (bench.spool / "shards").iterdir()
    used_ns = place.stat().st_mtime_ns - days * 24 * 3600 * 10**9
    os.utime(place, ns=(used_ns, used_ns))

    (shard,) = bench.entry(server.url).shards

    assert shard.transfer == transfer
    (place,) = (bench.spool / "shards").iterdir()
    assert place.stat().st_mtime_ns > used_ns + 24 * 3600 * 10**9


@pytest.mark.parametrize("name", ["mutable_id_tracker.versions", "mutable_id_tracker.mappings"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_kept_shard_that_lost_a_file_is_fetched_whole(
    bench: Bench, server: QdrantServer, rest: httpx.Client, name: str, *, is_there: bool
) -> None:
    """The engine opens it all the same, without its records."""
    make(rest)
    write(rest, range(300))
    bench.entry(server.url)
    file = next((bench.spool / "shards").rglob(name))
    file.unlink()
    if is_there:
        file.touch()

    entry = bench.entry(server.url, compare="scan")

    assert (entry.record_count, entry.shards[0].transfer) == (300, "all")


@pytest.mark.usefixtures("filled")
def test_a_file_that_the_engine_panics_at_is_damage(bench: Bench, server: QdrantServer) -> None:
    entry = bench.entry(server.url)
    (directory,) = (bench.spool / "shards").glob("*/shard")
    os.truncate(next(directory.rglob("vectors/status.dat")), 0)

    with pytest.raises(IntegrityError, match="panicked"), open_captured(directory, entry.schema):
        pass
