from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.clock import ManualClock
from recollect.database import Database, DatabaseOptions, Transaction
from recollect.database.operation import StateRestore
from recollect.database.state import NO_TRANSACTION, StateTable
from recollect.errors import ConflictError, NotFoundError, RequestError


def test_every_write_gives_a_key_its_next_version(db: Database) -> None:
    first = db.state.set("ns", "agent", "k", {"v": 1})
    second = db.state.set("ns", "agent", "k", [1, {"nested": [None, True, 1.5]}])

    record = db.state.get("ns", "agent", "k")

    assert (record.value, record.version, record.commit_ts) == ([1, {"nested": [None, True, 1.5]}], 2, second)
    old = db.state.get_at_version("ns", "agent", "k", 1)
    assert (old.value, old.commit_ts, old.exists) == ({"v": 1}, first, True)
    assert not db.state.get_at_version("ns", "agent", "k", 3).exists


def test_a_deletion_is_a_version_without_a_value(db: Database) -> None:
    db.state.set("ns", "a", "k", 1)
    commit_ts = db.state.delete("ns", "a", "k")

    record = db.state.get("ns", "a", "k")

    assert (record.exists, record.value, record.version, record.commit_ts) == (False, None, 2, commit_ts)
    assert db.state.list_keys("ns", "a") == []
    assert len(db.state) == 0
    db.state.set("ns", "a", "k", None)
    assert db.state.get("ns", "a", "k")[3:] == (None, 3, commit_ts + 1, True)
    assert db.state.list_keys("ns", "a") == ["k"]
    assert [version.exists for version in db.state.history("ns", "a", "k")] == [True, False, True]


def test_a_key_that_never_was_does_not_exist(db: Database) -> None:
    record = db.state.get("ns", "a", "k")
    assert (record.exists, record.version, record.commit_ts) == (False, 0, 0)


def test_names_with_separators_do_not_collide(db: Database) -> None:
    db.state.set("a", "b:c", "d", 1)
    db.state.set("a:b", "c", "d", 2)
    db.state.set("a", "b", "c:d", 3)
    db.state.set("a", "b", "c\0d", 4)

    assert db.state.get("a", "b:c", "d").value == 1
    assert db.state.get("a:b", "c", "d").value == 2
    assert db.state.list_keys("a", "b") == ["c\0d", "c:d"]


def test_keys_are_listed_by_code_point_and_found_by_prefix(db: Database) -> None:
    keys = ["b", "a/2", "a/10", "é", "a", "Z", "\U0001f600", "a/1"]
    db.state.set_many("ns", "x", keys, list(range(len(keys))))
    db.state.delete("ns", "x", "a/10")
    db.state.set("other", "x", "a/0", 0)

    assert db.state.list_keys("ns", "x") == ["Z", "a", "a/1", "a/2", "b", "é", "\U0001f600"]
    assert [(record.key, record.value) for record in db.state.scan_prefix("ns", "x", "a/")] == [
        ("a/1", 7),
        ("a/2", 1),
    ]
    db.state.set("ns", "x", "a/15", 15)
    assert [record.key for record in db.state.scan_prefix("ns", "x", "a/1")] == ["a/1", "a/15"]


@given(keys=st.sets(st.text(max_size=4)), gone=st.sets(st.text(max_size=4)), prefix=st.text(max_size=2))
def test_a_prefix_finds_what_begins_with_it(keys: set[str], gone: set[str], prefix: str) -> None:
    table = StateTable()
    for commit_ts, (key, value) in enumerate(
        [*((key, b"1") for key in keys), *((key, None) for key in gone)]
    ):
        table.write(("ns", "a", key), value, commit_ts + 1, NO_TRANSACTION)

    expected = sorted(key for key in keys - gone if key.startswith(prefix))
    assert table.keys("ns", "a", prefix) == expected
    assert [table.read(row).key for row in table.live_rows("ns", "a", prefix)] == expected


def test_a_transaction_is_one_commit_over_all_stores(db: Database) -> None:
    transaction = db.state.begin()
    transaction.write("ns", "a", "k", 1)
    transaction.write("ns", "a", "k", 2)
    transaction.delete("ns", "a", "gone")
    transaction.vectors.set("v", [1, 2])
    transaction.events.add("c", "i", 1)
    assert not db.state.get("ns", "a", "k").exists
    assert db.commit_ts == 0

    assert transaction.commit() == 1

    assert db.state.get("ns", "a", "k").version == 2
    assert "v" in db.vectors
    assert db.events.contexts() == ["c"]
    (event,) = db.state.replay("ns", "a")
    assert event.transaction_id == transaction.id
    assert [(one.key, one.value, one.version, one.is_delete) for one in event.operations] == [
        ("k", 1, 1, False),
        ("k", 2, 2, False),
        ("gone", None, 1, True),
    ]


def test_a_transaction_ends_once(db: Database, clock: ManualClock) -> None:
    committed, aborted, expired = db.begin(), db.begin(), db.begin(timeout=1.0)
    committed.commit()
    aborted.write("ns", "a", "k", 1)
    aborted.abort()
    aborted.abort()
    clock.advance(1.0)

    for transaction, status in ((committed, "committed"), (aborted, "aborted"), (expired, "expired")):
        with pytest.raises(ConflictError, match=status):
            transaction.commit()
        with pytest.raises(ConflictError, match=status):
            transaction.write("ns", "a", "k", 1)
        assert db.transaction(transaction.id).status == status
    expired.abort()
    with pytest.raises(ConflictError, match="it is committed"):
        committed.abort()
    with pytest.raises(NotFoundError, match="no transaction 'x'"):
        db.transaction("x")
    assert db.commit_ts == 1
    assert db.open_transaction_count == 0


def test_of_many_commits_of_one_transaction_one_goes_through(db: Database) -> None:
    for _ in range(20):
        before, transaction = db.commit_ts, db.begin()
        transaction.write("ns", "a", "k", 1)
        barrier = threading.Barrier(8)

        def commit(transaction: Transaction = transaction, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                return f"committed {transaction.commit()}"
            except ConflictError as error:
                return error.message.rpartition(" is ")[2]

        with ThreadPoolExecutor(8) as pool:
            said = Counter(future.result() for future in [pool.submit(commit) for _ in range(8)])

        assert said == {f"committed {before + 1}": 1, "committed already": 7}
        assert db.commit_ts == before + 1


def test_a_write_beside_the_commit_is_part_of_it_or_refused(db: Database) -> None:
    for number in range(20):
        agent, transaction, barrier = f"agent-{number}", db.begin(), threading.Barrier(2)

        def write(
            transaction: Transaction = transaction, barrier: threading.Barrier = barrier, agent: str = agent
        ) -> int:
            barrier.wait()
            for count in range(200):
                try:
                    transaction.write("ns", agent, f"k{count}", 1)
                except ConflictError:
                    return count
            return 200

        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write)
            barrier.wait()
            transaction.commit()

        assert len(db.state.list_keys("ns", agent)) == written.result()


def test_what_an_ended_transaction_staged_is_let_go(db: Database, clock: ManualClock) -> None:
    committed, expired = db.begin(), db.begin(timeout=1.0)
    for transaction in (committed, expired):
        transaction.write("ns", "a", "k", "x" * 1000)
    committed.commit()
    clock.advance(1.0)

    assert db.open_transaction_count == 0  # nobody used the expired one again
    assert db.expired_transaction_count == 1
    assert committed.operations == []
    assert expired.operations == []


def test_what_open_transactions_stage_is_bounded(tmp_path: Path, clock: ManualClock) -> None:
    options = DatabaseOptions(transaction_bytes_max=3000)
    with Database.open(tmp_path / "data", fsync="off", options=options, clock=clock) as db:
        left, right = db.begin(timeout=1.0), db.begin()
        left.write("ns", "a", "k", "x" * 2000)
        with pytest.raises(ConflictError, match="pass the limit of 3000"):
            right.write("ns", "a", "k", "x" * 2000)
        assert right.status == "open"
        clock.advance(1.0)
        right.write("ns", "a", "k", "x" * 2000)
        right.commit()
        db.begin().write("ns", "a", "k", "x" * 2000)


def test_a_transaction_block_commits_at_its_end_and_aborts_on_an_error(db: Database) -> None:
    with db.begin() as transaction:
        transaction.write("ns", "a", "k", 1)
    interrupted = db.begin()
    interrupted.write("ns", "a", "k", 2)
    interrupted.__exit__(ZeroDivisionError)
    assert interrupted.status == "aborted"

    assert db.state.get("ns", "a", "k").value == 1
    assert db.commit_ts == 1


def test_a_transaction_that_cannot_be_applied_changes_nothing(db: Database) -> None:
    db.vectors.set("a", [1, 0])
    transaction = db.begin()
    transaction.write("ns", "a", "k", 1)
    transaction.vectors.set("b", [1, 0, 0])

    with pytest.raises(RequestError, match="expected 2, got 3"):
        transaction.commit()

    assert db.commit_ts == 1
    assert not db.state.get("ns", "a", "k").exists


def test_replay_shows_an_agent_its_own_writes_only(db: Database) -> None:
    for turn in range(5):
        with db.begin() as transaction:
            transaction.write("ns", "a", "k", turn)
            transaction.write("ns", "b", "k", "secret")
            transaction.write("other", "a", "k", "secret")
        db.state.set("ns", "b", "k", "secret")

    events = list(db.state.replay("ns", "a", start_ts=3, end_ts=7))

    assert [event.commit_ts for event in events] == [3, 5, 7]
    assert [one.value for event in events for one in event.operations] == [1, 2, 3]
    assert list(db.state.replay("ns", "nobody")) == []
    assert len(list(db.state.replay("ns", "a"))) == 5


@pytest.mark.parametrize("name", [("", "a", "k"), ("n", "", "k"), ("n", "a", ""), ("n", "a", "k" * 70_000)])
def test_a_bad_name_is_refused(db: Database, name: tuple[str, str, str]) -> None:
    with pytest.raises(RequestError, match=r"empty|bytes"):
        db.state.set(*name, 1)
    assert db.commit_ts == 0


@pytest.mark.parametrize("value", [float("nan"), {"x": [float("inf")]}, object(), "\ud800"])
def test_a_value_that_json_cannot_carry_is_refused(db: Database, value: object) -> None:
    with pytest.raises(RequestError):
        db.state.set("ns", "a", "k", value)
    assert db.commit_ts == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=300))
def test_the_table_remembers_every_version(writes: list[tuple[str, str, bool]]) -> None:
    table, model = StateTable(), dict[tuple[str, str], list[bytes | None]]()
    for number, (agent, key, is_delete) in enumerate(writes):
        value = None if is_delete else b"%d" % number
        versions = model.setdefault((agent, key), [])
        versions.append(value)
        assert table.write(("ns", agent, key), value, number + 1, NO_TRANSACTION) == len(versions)

    for (agent, key), versions in model.items():
        for number, value in enumerate(versions, 1):
            found = table.at_version("ns", agent, key, number)
            assert found is not None
            assert (found.value, found.version) == (value, number)
        assert table.at_version("ns", agent, key, len(versions) + 1) is None
        assert table.at_version("ns", agent, key, 0) is None
    live = {name for name, versions in model.items() if versions[-1] is not None}
    assert table.live_count == len(live)
    for agent in "abc":
        assert table.keys("ns", agent) == sorted(key for owner, key in live if owner == agent)


def test_restored_versions_give_way_to_a_writer_that_came_first(db: Database) -> None:
    """As when a dump is loaded while another face writes: what is in the log can always be applied."""
    db.state.set("ns", "a", "k", "first")
    db.state.set("ns", "a", "k", "second")

    db.commit(
        [
            StateRestore("ns", "a", "k", b'"restored"', 2, 1),
            StateRestore("ns", "a", "k", b'"later"', 9, 1),
            StateRestore("ns", "a", "new", b'"restored"', 5, 1),
        ]
    )

    def versions(database: Database, key: str) -> list[tuple[int, object]]:
        return [(each.version, each.value) for each in database.state.history("ns", "a", key)]

    expected = [(1, "first"), (2, "second"), (3, "restored"), (9, "later")]
    assert versions(db, "k") == expected
    assert versions(db, "new") == [(5, "restored")]
    path = db.path
    db.close()
    with Database.open(path) as again:
        assert versions(again, "k") == expected
