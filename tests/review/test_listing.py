"""Reading from a repository: many round trips at once, around what is damaged, and beside a prune."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from recollect.catalog.catalog import Catalog
from recollect.cli.main import main
from recollect.repository import layout
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import Driver
from recollect.testing.faults import READS, count_operations
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS

SNAPSHOT_COUNT = 8
DEADLINE_S = 60


@pytest.fixture
def many() -> Driver:
    driver = Driver()
    driver.init()
    driver.create("docs", SOME_VECTORS, [Row(id=1, vectors={"": [1.0, 2.0]})])
    for _ in range(SNAPSHOT_COUNT):
        driver.backup()
    return driver


class MeetingStore(MemoryStore):
    """A store whose reads of snapshots return only when several are under way."""

    def __init__(self, url: str, parties: int) -> None:
        super().__init__(url)
        self._meeting = threading.Barrier(parties)

    def get(self, key: str) -> bytes:
        if key.startswith(layout.SNAPSHOTS):
            self._meeting.wait(DEADLINE_S)
        return super().get(key)


def test_snapshots_are_read_many_at_once(many: Driver) -> None:
    store = MeetingStore(many.store.url, SNAPSHOT_COUNT)
    for item in many.store.list(""):
        store.put(item.key, many.store.get(item.key))
    catalog = Catalog(many.open(store))

    assert [snapshot.id for snapshot in catalog.list()] == catalog.ids()
    assert len(catalog.mark().snapshots) == SNAPSHOT_COUNT


def test_a_listing_reads_each_snapshot_once_and_the_tags_of_those_that_were_tagged(many: Driver) -> None:
    many.catalog().tag(many.catalog().ids()[0], add=["kept"])

    reads = count_operations(lambda store: Catalog(many.open(store)).list(), many.store, counted=READS)

    configuration, listings, tag_revisions = 1, 2, 1
    assert reads == configuration + listings + tag_revisions + SNAPSHOT_COUNT


@pytest.fixture
def damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str, str]:
    """Return a repository of two snapshots of a shard, the damaged and the sound one's id."""
    from recollect.testing.sample.__main__ import main as make_sample  # noqa: PLC0415 -- loads the engine

    repository, shard = tmp_path / "repository", tmp_path / "sentences"
    assert make_sample([str(shard)]) == 0
    assert main(["init", "-r", str(repository)]) == 0
    for _ in range(2):
        assert main(["backup", str(shard), "-r", str(repository)]) == 0
    damaged, sound = sorted((repository / "snapshots").iterdir())
    damaged.write_bytes(damaged.read_bytes().replace(b"sentences", b"sentenced"))
    capsys.readouterr()
    return repository, damaged.stem, sound.stem


def test_a_damaged_snapshot_is_not_in_the_way_of_another_one(
    damaged: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, _, sound = damaged
    (repository / "snapshots" / "notes.json").write_text("a foreign file")

    assert main(["restore", sound, str(tmp_path / "restored"), "-r", str(repository)]) == 0
    assert "every record compared" in capsys.readouterr().out


def test_the_snapshots_that_can_be_read_are_listed_beside_a_damaged_one(
    damaged: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    repository, broken, sound = damaged

    assert main(["snapshots", "-r", str(repository)]) == 20
    shown = capsys.readouterr()
    assert sound[:12] in shown.out
    assert broken in shown.err


def test_a_part_without_an_object_is_not_passed_off_as_a_proof(
    damaged: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    repository, _, sound = damaged
    share = "999999998/999999999"

    assert main(["verify", sound, "--read-data-subset", share, "-r", str(repository)]) == 0
    assert "no object falls into this part" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "holders"),
    [
        (["restore", "SNAP", "OUT"], 1),
        (["restore", "SNAP", "OUT", "--dry-run"], 0),
        (["export", "SNAP", "OUT"], 1),
        (["drill", "SNAP"], 1),
        (["copy", "SNAP", "--to", "OTHER"], 1),
        (["search", "SNAP", "--like", "1"], 0),
    ],
)
def test_long_reads_hold_a_lease_and_give_it_back(
    words: list[str], holders: int, damaged: tuple[Path, str, str], tmp_path: Path
) -> None:
    repository, _, sound = damaged
    leases = repository / "leases"
    leases.rmdir()
    assert main(["init", "-r", str(tmp_path / "other")]) == 0
    places = {"SNAP": sound, "OUT": str(tmp_path / "out"), "OTHER": str(tmp_path / "other")}

    assert main([*(places.get(word, word) for word in words), "-r", str(repository)]) == 0

    assert leases.is_dir() == bool(holders), "the directory of leases is made with the first one and stays"
    assert not holders or not list(leases.iterdir())
