from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.clock import SystemClock
from recollect.compat.statehouse.json_snapshot import (
    drop_old_snapshots,
    import_snapshot,
    read_snapshot,
    write_snapshot,
)
from recollect.compat.statehouse.messages import MESSAGES, SERVICES
from recollect.compat.statehouse.server import StatehouseServer
from recollect.compat.statehouse.service import StatehouseService
from recollect.compat.statehouse.values import fill_struct, from_struct
from recollect.database import Database
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from tests.statehouse.conftest import Served


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as opened:
        yield opened


def call(channel: grpc.Channel, name: str, /, **fields: Any) -> Any:
    for service, methods in SERVICES.items():
        for method in methods:
            if method.name == name:
                stub = channel.unary_unary(
                    f"/{service}/{name}",
                    request_serializer=method.request.SerializeToString,
                    response_deserializer=method.response.FromString,
                )
                return stub(method.request(**fields))
    raise AssertionError(name)


def status(channel: grpc.Channel, name: str, /, **fields: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, name, **fields)
    return caught.value.code(), caught.value.details()


def struct(value: dict[str, Any]) -> Any:
    message = MESSAGES["WriteRequest"]()
    fill_struct(message.value, value)
    return message.value


def test_unknown_transactions_are_not_found(channel: grpc.Channel) -> None:
    for name in ("Commit", "Delete"):
        code, details = status(channel, name, txn_id="nope")
        assert code is grpc.StatusCode.NOT_FOUND
        assert "nope" in details
    call(channel, "Abort", txn_id="nope")


def test_a_second_commit_fails_its_precondition(channel: grpc.Channel) -> None:
    txn_id = call(channel, "BeginTransaction").txn_id
    assert call(channel, "Commit", txn_id=txn_id).commit_ts == 1
    assert status(channel, "Commit", txn_id=txn_id)[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert status(channel, "Abort", txn_id=txn_id)[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_bad_arguments_are_told_apart(channel: grpc.Channel) -> None:
    txn_id = call(channel, "BeginTransaction").txn_id
    named = {"txn_id": txn_id, "namespace": "n", "agent_id": "a"}
    for fields in (
        {**named, "key": "", "value": struct({})},
        {**named, "key": "k"},
        {**named, "key": "k", "value": struct({"x": float("nan")})},
        {**named, "key": "k" * 70_000, "value": struct({})},
    ):
        assert status(channel, "Write", **fields)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert status(channel, "BeginTransaction", timeout_ms=0)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_names_with_colons_do_not_collide(channel: grpc.Channel) -> None:
    txn_id = call(channel, "BeginTransaction").txn_id
    for namespace, agent, key in (("a", "b:c", "d"), ("a:b", "c", "d"), ("a", "b", "c:d")):
        call(
            channel,
            "Write",
            txn_id=txn_id,
            namespace=namespace,
            agent_id=agent,
            key=key,
            value=struct({"k": key}),
        )
    call(channel, "Commit", txn_id=txn_id)
    assert list(call(channel, "ListKeys", namespace="a", agent_id="b").keys) == ["c:d"]
    assert call(channel, "GetState", namespace="a:b", agent_id="c", key="d").version == 1


def test_a_number_that_no_double_can_be_is_said(channel: grpc.Channel, served: Served) -> None:
    served.database.state.set("n", "a", "k", {"v": 10**400})
    code, details = status(channel, "GetState", namespace="n", agent_id="a", key="k")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "no double" in details


def test_snapshots_can_be_taken_and_listed(channel: grpc.Channel, served: Served) -> None:
    served.database.state.set("n", "a", "k", {"v": 1})
    made = call(channel, "CreateSnapshot", name="before", description="an upgrade")
    assert (made.commit_ts, made.name) == (1, "before")
    assert [one.id for one in call(channel, "ListSnapshots").snapshots] == [made.id]


def test_an_address_that_cannot_be_had_is_said() -> None:
    with pytest.raises(UnavailableError, match="cannot listen"):
        StatehouseServer(StatehouseService(None), "256.0.0.1:1")  # type: ignore[arg-type]


def test_calls_are_counted(channel: grpc.Channel, served: Served) -> None:
    txn_id = call(channel, "BeginTransaction").txn_id
    call(channel, "Delete", txn_id=txn_id, namespace="n", agent_id="a", key="k")
    call(channel, "Commit", txn_id=txn_id)
    call(channel, "GetState", namespace="n", agent_id="a", key="k")
    assert served.service.counters.snapshot() == {
        "transactions_started": 1,
        "deletes": 1,
        "transactions_committed": 1,
        "reads": 1,
    }


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(), _JSON, max_size=5))
def test_values_survive_the_way_through_a_struct(value: dict[str, Any]) -> None:
    assert from_struct(struct(value)) == value


def test_json_snapshots_carry_everything_and_come_back(served: Served, tmp_path: Path) -> None:
    db = served.database
    db.state.set("default", "agent-1", "memory", {"fact": "x"})
    db.state.set("default", "agent-1", "memory", {"fact": "y"})
    db.state.set("a:b", "c", "d:e", [1])
    db.state.delete("default", "agent-1", "gone")
    frozen = db._tables.freeze()

    path = write_snapshot(frozen.state, frozen.commit_ts, tmp_path / "snapshots", now=served.clock.now())

    written = json.loads(path.read_text())
    assert path.name == "snapshot-4.json"
    assert written["version"] == 1
    assert written["commit_ts"] == 4
    assert written["state"] == {
        "default:agent-1:memory": {"value": {"fact": "y"}, "version": 2, "commit_ts": 2},
        "a:b:c:d:e": {"value": [1], "version": 1, "commit_ts": 3},
    }
    commit_ts, keys = read_snapshot(path)
    assert commit_ts == 4
    assert [tuple(key) for key in keys] == [
        ("default", "agent-1", "memory", b'{"fact":"y"}', 2, 2),
        ("a:b", "c", "d:e", b"[1]", 1, 3),
        ("default", "agent-1", "gone", None, 1, 4),
    ]


def test_a_snapshot_of_the_documented_shape_is_read(tmp_path: Path) -> None:
    path = tmp_path / "snapshot-9.json"
    state = {"default:a:k:x": {"value": {"n": 1}, "version": 5, "commit_ts": 7}}
    path.write_text(json.dumps({"version": 1, "created_at": 1, "commit_ts": 9, "state": state}))

    assert read_snapshot(path) == (9, [("default", "a", "k:x", b'{"n": 1}', 5, 7)])
    path.write_text('{"version": 2}')
    with pytest.raises(FormatVersionError, match="expected 1, got 2"):
        read_snapshot(path)
    path.write_text("{")
    with pytest.raises(IntegrityError):
        read_snapshot(path)
    with pytest.raises(NotFoundError):
        read_snapshot(tmp_path / "none")


@pytest.mark.parametrize(
    ("commit_ts", "entry"),
    [
        ("-1", ""),
        (str(2**64), ""),
        ("9", '"n:a:k": {"value": 1, "version": 0, "commit_ts": 1}'),
        ("9", f'"n:a:k": {{"value": 1, "version": {2**70}, "commit_ts": 1}}'),
        ("9", '"n:a:k": {"value": 1, "version": 1, "commit_ts": -1}'),
        ("9", f'"n:a:k": {{"version": 1, "commit_ts": 1, "value": {"[" * 100_000}1{"]" * 100_000}}}'),
        ("9", '"nak": {"value": 1, "version": 1, "commit_ts": 1}'),
    ],
)
def test_a_snapshot_that_makes_no_sense_is_refused(tmp_path: Path, commit_ts: str, entry: str) -> None:
    path = tmp_path / "snapshot-9.json"
    path.write_text(f'{{"version": 1, "created_at": 1, "commit_ts": {commit_ts}, "state": {{{entry}}}}}')
    with pytest.raises(IntegrityError):
        import_snapshot(path, tmp_path / "new", clock=SystemClock(), random_bytes=os.urandom)
    assert not (tmp_path / "new").exists()


def test_only_old_json_snapshots_are_dropped(tmp_path: Path) -> None:
    for name in ("snapshot-9.json", "snapshot-10.json", "snapshot-100.json", "notes.json", "snapshot-x.json"):
        (tmp_path / name).write_text("{}")

    dropped = drop_old_snapshots(tmp_path, 2)

    assert [path.name for path in dropped] == ["snapshot-9.json"]
    assert len(list(tmp_path.iterdir())) == 4
    assert drop_old_snapshots(tmp_path, 0)
    assert (tmp_path / "snapshot-100.json").exists()


def test_a_json_snapshot_becomes_a_database_that_counts_on(served: Served, tmp_path: Path) -> None:
    db = served.database
    for number in range(3):
        db.state.set("default", "a", "k", {"n": number})
    db.state.delete("default", "a", "gone")
    frozen = db._tables.freeze()
    path = write_snapshot(frozen.state, frozen.commit_ts, tmp_path, now=served.clock.now())

    made = import_snapshot(path, tmp_path / "new", clock=served.clock, random_bytes=os.urandom)

    with Database.open(made.path) as back:
        assert back.commit_ts == 4
        assert back.state.get("default", "a", "k")[3:] == ({"n": 2}, 3, 3, True)
        assert back.state.set("default", "a", "k", {}) == 5
        assert back.state.get("default", "a", "k").version == 4
        back.state.set("default", "a", "gone", 1)
        assert back.state.get("default", "a", "gone").version == 2
    with pytest.raises(ConflictError, match="not empty"):
        import_snapshot(path, tmp_path / "new", clock=served.clock, random_bytes=os.urandom)


def test_an_expired_transaction_is_counted_once_whoever_asks(channel: grpc.Channel, served: Served) -> None:
    used, _forgotten = (call(channel, "BeginTransaction", timeout_ms=1000).txn_id for _ in range(2))
    served.clock.advance(1.0)

    for name in ("Commit", "Delete"):
        assert status(channel, name, txn_id=used)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    call(channel, "Abort", txn_id=used)

    found = {one.name: one.value for one in call(channel, "GetCounters").counters}
    assert (found["transactions_expired"], found["transactions_aborted"]) == (2, 0)
    assert found["open_transactions"] == 0


def test_the_server_says_what_it_has_counted(channel: grpc.Channel) -> None:
    txn_id = call(channel, "BeginTransaction").txn_id
    call(channel, "Write", txn_id=txn_id, namespace="n", agent_id="a", key="k", value=struct({"v": 1}))
    call(channel, "Commit", txn_id=txn_id)
    call(channel, "GetState", namespace="n", agent_id="a", key="k")
    call(channel, "BeginTransaction")
    call(channel, "CreateSnapshot")

    found = {one.name: one.value for one in call(channel, "GetCounters").counters}

    assert found == {
        "transactions_started": 2,
        "transactions_committed": 1,
        "transactions_aborted": 0,
        "transactions_expired": 0,
        "writes": 1,
        "deletes": 0,
        "reads": 1,
        "replay_events": 0,
        "commit_ts": 1,
        "checkpoint_ts": 1,
        "open_transactions": 1,
    }
