"""Capture by streamed shard snapshots: what is had, what it costs, and what is done when it goes wrong."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx
import pytest

from recollect.clock import ManualClock
from recollect.engines.qdrant.capture.receive import StreamLimits
from recollect.engines.qdrant.capture.spool import disk_bytes
from recollect.errors import IntegrityError, StorageFullError, UnavailableError
from recollect.segments.reader import RunsReader
from recollect.testing.qdrant_server import QdrantServer
from recollect.values.key import decode_keys
from recollect.values.snapshot import CollectionEntry
from tests.qdrant_production.capturing import Bench
from tests.qdrant_production.conftest import ask, drop, make, write

STREAM = "GET /collections/{name}/shards/{shard}/snapshot"
PARTIAL = "POST /collections/{name}/shards/{shard}/snapshot/partial/create"
INDEXING = {"indexing_threshold": 1, "vacuum_min_vector_number": 100}


@pytest.fixture
def filled(rest: httpx.Client) -> httpx.Client:
    make(rest, shard_number=2, optimizers_config=INDEXING)
    for start in range(0, 300, 100):
        write(rest, range(start, start + 100), seed=start)
    return rest


def ids(bench: Bench, entry: CollectionEntry) -> list[object]:
    reader = RunsReader(bench.repository, entry.schema, entry.runs)
    return [each for batch in reader.records() for each in decode_keys(batch.column("key"))]


def transfers(entry: CollectionEntry) -> list[str]:
    return [shard.transfer for shard in entry.shards]


@pytest.mark.usefixtures("filled")
def test_a_capture_has_one_instant_for_each_shard_and_says_so(bench: Bench, server: QdrantServer) -> None:
    entry = bench.entry(server.url)

    assert entry.consistency == "per-shard"
    assert {(shard.shard_id, shard.consistency) for shard in entry.shards} == {
        (n, "point-in-time") for n in (0, 1)
    }
    assert transfers(entry) == ["all", "all"]
    assert all(shard.transferred_bytes > 0 for shard in entry.shards)
    assert ids(bench, entry) == list(range(300))
    assert bench.notes == []


@pytest.mark.usefixtures("filled")
def test_a_scroll_and_a_capture_have_one_fingerprint(bench: Bench, server: QdrantServer) -> None:
    by_scroll = bench.entry(server.url + "&capture=scroll")
    by_stream = bench.entry(server.url, compare="scan")

    assert by_scroll.consistency == "fuzzy"
    assert by_stream.fingerprint == by_scroll.fingerprint
    assert by_stream.changes.total == 0


@pytest.mark.usefixtures("filled")
def test_nothing_changed_costs_nothing(bench: Bench, server: QdrantServer) -> None:
    before = bench.entry(server.url)

    entry = bench.entry(server.url)

    assert transfers(entry) == ["none", "none"]
    assert sum(shard.transferred_bytes for shard in entry.shards) == 0
    assert entry.runs == before.runs
    assert entry.fingerprint == before.fingerprint


def test_only_changed_files_travel_and_only_changed_records_are_stored(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    server.optimize("docs")
    before = bench.entry(server.url)
    write(filled, [5, 900], seed=5)
    drop(filled, [17])

    entry = bench.entry(server.url)

    assert "changes" in transfers(entry)
    moved, whole = (sum(s.transferred_bytes for s in each.shards) for each in (entry, before))
    assert 0 < moved < whole
    assert (entry.changes.added, entry.changes.changed, entry.changes.removed) == (1, 1, 1)
    assert entry.fingerprint == bench.entry(server.url + "&capture=scroll").fingerprint


def test_an_optimizer_run_changes_no_record(bench: Bench, server: QdrantServer, filled: httpx.Client) -> None:
    bench.entry(server.url)
    assert server.optimize("docs")

    entry = bench.entry(server.url)

    assert entry.changes.total == 0
    assert ids(bench, entry) == list(range(300))
    write(filled, [1], seed=77)
    assert bench.entry(server.url).changes.changed == 1


def test_many_rounds_stay_equal_to_what_the_server_holds(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    bench.entry(server.url)
    for number in range(6):
        write(filled, [number, 500 + number], seed=number + 50)
        drop(filled, [20 + number])
        if number % 2:
            server.optimize("docs")
        entry = bench.entry(server.url)
        assert entry.changes.total == 3
        assert entry.fingerprint == scrolled(bench, server.url)


def scrolled(bench: Bench, url: str) -> str:
    """Return the fingerprint of what the server hands out now."""
    other = Bench(bench.directory / f"other-{bench.new_id()}")
    return other.entry(url + "&capture=scroll").fingerprint


def test_records_that_scrolling_does_not_see_are_captured(
    bench: Bench, server: QdrantServer, rest: httpx.Client
) -> None:
    make(rest, optimizers_config={"prevent_unoptimized": True})
    write(rest, range(50))
    server.faults.hidden_points = 10

    entry = bench.entry(server.url)

    assert entry.record_count == 50
    with pytest.raises(UnavailableError, match="hides 10 points"):
        bench.entry(server.url + "&capture=scroll")


def test_a_collection_made_anew_under_the_old_name_is_read_anew(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    bench.entry(server.url)
    ask(filled, "DELETE", "/collections/docs")
    make(filled, shard_number=2)
    for start in range(0, 300, 100):
        write(filled, range(start, start + 100), seed=start + 1)

    entry = bench.entry(server.url)

    assert transfers(entry) == ["changes", "changes"]
    assert entry.changes.changed == 300
    assert entry.fingerprint == bench.entry(server.url + "&capture=scroll").fingerprint


def test_a_shard_that_went_back_to_an_older_state_is_read_whole(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    server.optimize("docs")
    shard = "/collections/docs/shards/0"
    old = filled.get(shard + "/snapshot").content
    for n in range(5):
        write(filled, range(300), seed=n)
    bench.entry(server.url)
    filled.post(shard + "/snapshots/upload", files={"snapshot": old})
    write(filled, [1], seed=9)

    entry = bench.entry(server.url)

    assert entry.fingerprint == bench.entry(server.url + "&capture=scroll").fingerprint


def test_a_server_without_partial_calls_streams_everything(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    server.faults.refuse("partial", status=404)
    first = bench.entry(server.url)
    write(filled, [3], seed=8)

    second = bench.entry(server.url)

    assert transfers(first) == transfers(second) == ["all", "all"]
    assert second.changes.total == 1
    assert bench.notes == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("status", [404, 403])
def test_a_server_that_gives_out_no_snapshots_is_scrolled_and_it_is_said(
    bench: Bench, server: QdrantServer, status: int
) -> None:
    server.faults.refuse("/snapshot", status=status)

    entry = bench.entry(server.url)

    assert entry.consistency == "fuzzy"
    assert {(shard.transfer, shard.consistency) for shard in entry.shards} == {("records", "fuzzy")}
    assert entry.record_count == 300
    assert "read by scrolling" in bench.notes[0]


def faulty(server: QdrantServer, name: str, value: object) -> None:
    setattr(server.faults.snapshots, name, value)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("switch", "value", "found"),
    [
        ("truncated_to", -1024, "does not end as an archive does"),
        ("truncated_to", -700, "does not end as an archive does"),
        ("truncated_to", 40_000, "no complete archive|does not end|ends early"),
        ("truncated_to", 0, "no complete archive|does not end|holds no segment"),
        ("omits_trailer", True, "does not end as an archive does"),
        ("without_shards", True, "holds no segment"),
        ("is_silent", True, "no byte came for"),
        ("stalls_after", 50_000, "no byte came for"),
    ],
)
def test_a_stream_that_is_not_whole_is_refused(
    bench: Bench, server: QdrantServer, switch: str, value: object, found: str
) -> None:
    faulty(server, switch, value)

    with pytest.raises(UnavailableError, match=found):
        bench.entry(server.url + "&capture=snapshot")

    server.faults.clear()
    assert bench.spooled() == [each for each in bench.spooled() if each.startswith("shards/")]
    assert bench.entry(server.url + "&capture=snapshot").record_count == 300


@pytest.mark.usefixtures("filled")
def test_after_a_bad_stream_scrolling_goes_on_and_it_is_said(bench: Bench, server: QdrantServer) -> None:
    faulty(server, "omits_trailer", value=True)

    entry = bench.entry(server.url)

    assert (entry.consistency, entry.record_count) == ("fuzzy", 300)
    assert "does not end as an archive does" in bench.notes[0]


@pytest.mark.usefixtures("filled")
def test_a_stream_cut_between_two_members_never_gets_in(bench: Bench, server: QdrantServer) -> None:
    """A server takes such an archive in "successfully", with fewer records."""
    with httpx.Client(base_url=server.rest_url, trust_env=False) as rest:
        size = len(rest.post("/collections/docs/shards/0/snapshot/partial/create", json={}).content)
    for length in range(512, size, 512 * 13):
        faulty(server, "truncated_to", length)
        with pytest.raises(UnavailableError):
            bench.entry(server.url + "&capture=snapshot")


@pytest.mark.usefixtures("filled")
def test_a_trickle_is_broken_off(bench: Bench, server: QdrantServer) -> None:
    faulty(server, "delay_s", 0.01)
    bench.clock = Watch()
    bench.limits = StreamLimits(idle_s=5, window_s=0.05, rate_min=100_000_000)

    with pytest.raises(UnavailableError, match="while the server holds a lock"):
        bench.entry(server.url + "&capture=snapshot")


class Watch:
    """A clock whose every look is 30 ms later; it does not sleep."""

    def __init__(self) -> None:
        self._clock = ManualClock()

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        self._clock.advance(0.03)
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


@pytest.mark.usefixtures("filled")
def test_a_passing_fault_is_waited_for(bench: Bench, server: QdrantServer) -> None:
    server.faults.refuse(PARTIAL, status=503, count=1)
    server.faults.drop_connection(PARTIAL, after=2, count=1)

    assert bench.entry(server.url + "&capture=snapshot").record_count == 300


@pytest.mark.usefixtures("filled")
def test_a_spool_that_is_too_small_is_refused_at_once(bench: Bench, server: QdrantServer) -> None:
    bench.spool_bytes = 100_000

    with pytest.raises(StorageFullError, match="the spool may hold"):
        bench.entry(server.url + "&capture=snapshot")
    assert not any(each.startswith("runs/") for each in bench.spooled())
    assert bench.entry(server.url).consistency == "fuzzy", "scrolling needs no spool"


def test_kept_shards_give_way_when_the_spool_is_small(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    bench.entry(server.url)
    make(filled, "other")
    write(filled, range(10), "other")
    ask(filled, "DELETE", "/collections/docs")
    bench.spool_bytes = disk_bytes(bench.spool)

    assert bench.entry(server.url + "&capture=snapshot").name == "other"
    assert sum(each.startswith("shards/") for each in bench.spooled()) == 2


@pytest.mark.usefixtures("filled")
def test_what_a_killed_run_left_is_removed_by_the_next(bench: Bench, server: QdrantServer) -> None:
    debris = [bench.spool / "runs" / "01debris", bench.spool / "shards" / "half"]
    for place in debris:
        (place / "shard" / "segments").mkdir(parents=True)
        (place / "shard" / "x.tar").write_bytes(b"x" * 1000)

    bench.entry(server.url)

    assert not any(place.exists() for place in debris)
    assert [each for each in bench.spooled() if each.startswith("runs/")] == []


def test_kept_files_of_another_boot_are_not_trusted(
    bench: Bench, server: QdrantServer, filled: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.entry(server.url)
    boot = bench.directory / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr("recollect.engines.qdrant.capture.kept.BOOT_FILE", boot)
    write(filled, [1], seed=3)

    entry = bench.entry(server.url)

    assert transfers(entry) == ["all", "all"]
    assert entry.changes.total == 1


def test_a_kept_shard_that_is_in_use_is_left_alone(
    bench: Bench, server: QdrantServer, filled: httpx.Client
) -> None:
    bench.entry(server.url)
    write(filled, [1], seed=3)
    source = bench.source(server.url)
    with source.hold() as view, view.capture("docs") as held:  # type: ignore[union-attr]  # a capturing view
        entry = bench.entry(server.url)
        assert transfers(entry) == ["all", "all"]
        assert [shard.transfer for shard in held.shards].count("changes") == 1
    source.close()


@pytest.mark.usefixtures("filled")
def test_a_full_backup_trusts_nothing_that_was_kept(bench: Bench, server: QdrantServer) -> None:
    bench.entry(server.url)

    assert transfers(bench.entry(server.url, compare="nothing")) == ["all", "all"]


@pytest.mark.usefixtures("filled")
def test_a_kept_file_that_is_damaged_does_not_stay(bench: Bench, server: QdrantServer) -> None:
    bench.entry(server.url)
    for path in bench.spool.glob("shards/*/shard/segments/*/segment.json"):
        path.write_bytes(b"{".ljust(path.stat().st_size))

    with pytest.raises((UnavailableError, IntegrityError)):
        bench.entry(server.url + "&capture=snapshot", compare="scan")
    assert bench.entry(server.url + "&capture=snapshot", compare="scan").record_count == 300


def test_a_point_in_two_shards_is_refused(bench: Bench, server: QdrantServer, filled: httpx.Client) -> None:
    content = filled.get("/collections/docs/shards/0/snapshot").content
    filled.post("/collections/docs/shards/1/snapshots/upload", files={"snapshot": content})

    with pytest.raises(IntegrityError, match="in two shards"):
        bench.entry(server.url)


@pytest.mark.usefixtures("filled")
def test_the_spool_is_private(bench: Bench, server: QdrantServer) -> None:
    bench.entry(server.url)

    assert bench.spool.stat().st_mode & 0o077 == 0
    assert Path(bench.spool / "shards").stat().st_mode & 0o077 == 0
