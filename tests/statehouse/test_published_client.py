"""The published `statehouse` package, unchanged, against our server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.statehouse.conftest import Served

statehouse = pytest.importorskip("statehouse", reason="the published Statehouse client is not installed")


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with statehouse.Statehouse(url=served.address) as opened:
        yield opened


def test_health_and_version(client: Any) -> None:
    assert client.health() == "ok"
    version, _ = client.version()
    assert version


def test_a_written_value_is_read_with_its_version(client: Any) -> None:
    transaction = client.begin_transaction()
    transaction.write(agent_id="agent-1", key="memory", value={"fact": "sky is blue", "n": 1, "list": [1, 2]})
    commit_ts = transaction.commit()

    state = client.get_state(agent_id="agent-1", key="memory")

    assert state.exists
    assert (state.version, state.commit_ts) == (1, commit_ts)
    assert state.value["fact"] == "sky is blue"
    assert state.value["n"] == 1.0
    assert not client.get_state(agent_id="agent-1", key="other").exists


def test_versions_deletes_listing_and_scan(client: Any) -> None:
    for number in range(3):
        with client.begin_transaction() as transaction:
            transaction.write(agent_id="a", key="k/1", value={"n": number})
            transaction.write(agent_id="a", key="k/2", value={"n": number})
    with client.begin_transaction() as transaction:
        transaction.delete(agent_id="a", key="k/2")

    assert client.get_state_at_version(agent_id="a", key="k/1", version=2).value["n"] == 1.0
    assert client.list_keys(agent_id="a") == ["k/1"]
    assert [found.version for found in client.scan_prefix(agent_id="a", prefix="k/")] == [3]
    gone = client.get_state(agent_id="a", key="k/2")
    assert (gone.exists, gone.version) == (False, 4)
    with pytest.raises(statehouse.StatehouseError, match="NOT_FOUND"):
        client.get_state_at_version(agent_id="a", key="k/1", version=9)


def test_replay_is_isolated_per_agent(client: Any) -> None:
    for number in range(3):
        with client.begin_transaction() as transaction:
            transaction.write(agent_id="a", key="k", value={"n": number})
            transaction.write(agent_id="b", key="secret", value={"n": number})

    events = list(client.replay(agent_id="a", start_ts=2, end_ts=3))

    assert [event.commit_ts for event in events] == [2, 3]
    assert [operation.key for event in events for operation in event.operations] == ["k", "k"]
    assert len(list(client.replay(agent_id="a"))) == 3
    assert events[0].txn_id


def test_an_aborted_transaction_leaves_nothing(client: Any) -> None:
    transaction = client.begin_transaction()
    transaction.write(agent_id="a", key="k", value={"n": 1})
    transaction.abort()
    transaction.abort()

    assert client.list_keys(agent_id="a") == []


def test_an_expired_transaction_says_so(client: Any, served: Served) -> None:
    transaction = client.begin_transaction(timeout_ms=50)
    served.clock.advance(0.05)

    with pytest.raises(statehouse.TransactionError, match="DEADLINE_EXCEEDED"):
        transaction.write(agent_id="a", key="k", value={"n": 1})


def test_namespaces_are_apart(served: Served) -> None:
    with (
        statehouse.Statehouse(url=served.address, namespace="one") as one,
        statehouse.Statehouse(url=served.address, namespace="two") as two,
    ):
        with one.begin_transaction() as transaction:
            transaction.write(agent_id="a", key="k", value={"n": 1})
        assert one.list_keys(agent_id="a") == ["k"]
        assert two.list_keys(agent_id="a") == []
