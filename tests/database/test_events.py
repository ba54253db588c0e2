from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recollect.clock import ManualClock
from recollect.database import ADD, DEL, Database, DatabaseOptions, Event, EventOptions, FusionOptions
from recollect.errors import RequestError


@contextmanager
def database(path: Path, **options: object) -> Iterator[Database]:
    events = EventOptions(**options)  # type: ignore[arg-type]
    opened = Database.open(path, fsync="off", clock=ManualClock(), options=DatabaseOptions(events=events))
    with opened:
        yield opened


def test_items_of_one_context_are_similar_by_the_product_of_their_scores(db: Database) -> None:
    """The figures are those of a real nvecd server."""
    db.events.add("ctx1", "item1", 100)
    db.events.add("ctx1", "item2", 90, timestamp=1_700_000_000)
    db.events.add("ctx1", "item3", 80)
    assert not db.events.add("ctx1", "item1", 100)
    assert db.events.set("ctx1", "like:1", 100)
    assert db.events.delete("ctx1", "like:1")
    assert not db.events.delete("ctx1", "like:1")

    assert db.events.similar("item1", 10) == [("like:1", 10000.0), ("item2", 9000.0), ("item3", 8000.0)]
    assert db.events.similar("nope", 10) == []
    assert db.events.counts.event_count == 7
    assert db.events.counts.duplicate_count == 2


def test_fusion_spreads_and_weighs_both_sides(db: Database) -> None:
    """The figures are those of a real nvecd server."""
    db.events.append(
        [Event(ADD, "c", "item1", 100), Event(ADD, "c", "item2", 90), Event(ADD, "c", "item3", 80)]
    )
    db.events.set("c", "like:1", 100)
    db.vectors.set_many(["item1", "item2"], [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0]])
    halves = FusionOptions(alpha=0.5, beta=0.5)

    found = db.similar("item1", 10, fusion=halves)

    assert [(match.id, round(match.score, 4)) for match in found] == [
        ("item2", 0.7469),
        ("like:1", 0.5),
        ("item3", 0.0),
    ]
    assert db.similar("item1", 1, fusion=halves)[0].id == "item2"
    assert db.similar("nothing", 3) == []


def test_a_context_keeps_its_latest_events(tmp_path: Path) -> None:
    with database(tmp_path, ctx_buffer_size=3) as db:
        db.events.add_many("c", [f"i{n}" for n in range(5)], [1, 2, 3, 4, 5])

        assert [event.item for event in db.events.events("c")] == ["i2", "i3", "i4"]
        assert db.events.stored_count == 3
        # i4 came when i1, i2 and i3 were there.
        assert db.events.similar("i4", 9) == [("i3", 20.0), ("i2", 15.0), ("i1", 10.0)]


def test_add_is_a_duplicate_within_its_window_from_the_first(tmp_path: Path) -> None:
    with database(tmp_path, dedup_window_sec=60) as db:
        accepted = [db.events.add("c", "i", 1, timestamp=moment) for moment in (1000, 1060, 940, 1061, 1100)]
        assert accepted == [True, False, False, True, False]
        assert db.events.add("c", "i", 2, timestamp=1000)


def test_set_is_a_duplicate_while_the_score_stays_and_del_while_deleted(db: Database) -> None:
    assert [db.events.set("c", "i", score) for score in (5, 5, 6, 5)] == [True, False, True, True]
    assert [db.events.delete("c", "i"), db.events.delete("c", "i")] == [True, False]
    assert db.events.set("c", "i", 5)
    assert db.events.events("c")[-2].score == 0


def test_the_least_recently_written_context_goes_first(tmp_path: Path) -> None:
    with database(tmp_path, max_contexts=2) as db:
        for context in ("a", "b", "a", "c"):
            db.events.add(context, f"of-{context}-{db.commit_ts}", 1)
        assert db.events.contexts() == ["a", "c"]
        assert db.events.events("b") == []


def test_negative_signals_lower_what_a_deleted_item_occurs_with(tmp_path: Path) -> None:
    with database(tmp_path, negative_signals=True, negative_weight=0.5) as db:
        db.events.add_many("c", ["x", "y"], [10, 20])
        db.events.delete("c", "y")

        assert db.events.weight("x", "y") == 200 - 5
        assert db.events.weight("y", "x") == 200 - 5


def test_age_weighs_a_pair_when_asked_for(tmp_path: Path) -> None:
    with database(tmp_path, temporal_cooccurrence=True, temporal_half_life_sec=100.0) as db:
        db.events.add("c", "old", 10, timestamp=1000)
        db.events.add("c", "new", 10, timestamp=1100)

        assert db.events.weight("old", "new") == 50.0


def test_decay_lowers_all_weights_and_drops_the_weak(tmp_path: Path) -> None:
    with database(tmp_path, decay_alpha=0.5, min_support=3.0) as db:
        db.events.add_many("c", ["a", "b", "e"], [4, 2, 1])  # ab 8, ae 4, be 2
        db.events.decay()

        assert db.events.similar("a", 9) == [("b", 4.0)]
        assert db.events.pair_count == 1
        assert db.events.item_count == 2
        db.events.add("d", "a", 1)
        db.events.add("d", "e", 1)
        assert db.events.similar("e", 9) == [("a", 1.0)]


def test_only_the_strongest_neighbours_are_kept(tmp_path: Path) -> None:
    with database(tmp_path, max_neighbors_per_item=2) as db:
        db.events.add_many("c", ["a", "b", "x", "y"], [1, 2, 3, 4])

        assert db.events.similar("a", 9) == [("y", 4.0), ("x", 3.0)]
        assert db.events.neighbor_count("y") == 2


def test_all_content_can_be_taken_out_and_put_elsewhere(db: Database, tmp_path: Path) -> None:
    db.events.add_many("c", ["a", "b"], [1, 2], [10, 20])
    db.events.add_many("d", ["b", "x"], [3, 4], [30, 40])
    content = db.events.content()

    with Database.open(tmp_path / "other", fsync="off") as other:
        other.events.add("gone", "g", 1)
        other.events.add("gone", "h", 1)
        other.events.replace(content)

        assert other.events.content() == content
        assert other.events.similar("g", 5) == []
        assert other.events.contexts() == ["c", "d"]
        assert other.events.counts.event_count == 4


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event(ADD, "", "i", 1), "a context must not be empty"),
        (Event(ADD, "c", "", 1), "an item must not be empty"),
        (Event(ADD, "c", "i", 2**31), "a score must be between"),
        (Event(ADD, "c", "i", 1, -1), "a timestamp must be between"),
        (Event(9, "c", "i", 1), "no kind of event"),
        (Event(DEL, "c", "\ud800", 1), "not valid Unicode"),
    ],
)
def test_a_bad_event_is_refused(db: Database, event: Event, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        db.events.append([event])
    assert db.commit_ts == 0
