"""Which nodes a server's cluster has, and which of them hold which shard.

The cluster tells the nodes' internal addresses. A node's REST interface is taken to be on the same host,
at the port of the server that was asked, unless `nodes=` says where it is. A node that is reached is
asked who it is: another one's shard would be another replica's, with other files.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import msgspec

from recollect.engines.qdrant.address import Address
from recollect.engines.qdrant.capture.access import Access
from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.failures import understood
from recollect.errors import RecollectError, UnavailableError

ACTIVE = ("Active", "ActiveRead", "ReshardingScaleDown")
"""States of a replica that has all of its shard's records."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A shard as one node holds it.

    Attributes:
        peer_id: The node's; 0 where there is no cluster.
        state: As the cluster calls it.
    """

    peer_id: int
    state: str = "Active"

    @property
    def is_active(self) -> bool:
        """Whether it has all of its shard's records."""
        return self.state in ACTIVE


class ShardLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One shard and its replicas, by peer id."""

    shard_id: int
    shard_key: str | int | None = None
    replicas: tuple[Replica, ...]

    @property
    def peers(self) -> tuple[str, ...]:
        """The nodes that hold it, as a snapshot lists them; none where there is no cluster."""
        return tuple(str(each.peer_id) for each in self.replicas if each.peer_id)


class Nodes:
    """Where each peer is. Safe to share between threads once made."""

    def __init__(self, access: Access, addresses: dict[int, Address]) -> None:
        self._access = access
        self._addresses = addresses

    @property
    def peer_ids(self) -> tuple[int, ...]:
        """All peers, ascending."""
        return tuple(sorted(self._addresses))

    @property
    def addresses(self) -> dict[int, Address]:
        """Where each peer is."""
        return dict(self._addresses)

    def connect(self, peer_id: int) -> Connection:
        """Return a new connection to a node; the caller closes it.

        Raises:
            UnavailableError: It cannot be reached, or somebody else answers.
        """
        address = self._addresses.get(peer_id)
        if address is None:
            raise UnavailableError(f"the cluster does not tell where its node {peer_id} is")
        connection = self._access.connect(address)
        if peer_id == 0:
            return connection
        try:
            found = _peer_id(connection)
        except RecollectError:
            connection.close()
            raise
        if found != peer_id:
            connection.close()
            raise UnavailableError(
                f"{address.rest_url} is the node {found}, and not {peer_id}",
                "say where the nodes are: nodes=HOST:PORT,HOST:PORT in the URL",
            )
        return connection


def find_nodes(connection: Connection, access: Access) -> Nodes:
    """Ask the server for its cluster, and the nodes that are named in the URL who they are.

    A named node that does not answer is left out: another replica may do.
    """
    own = connection.address
    action = "asking for the cluster"
    answer = connection.rest("GET", "/cluster", action=action)
    with understood(action, own):
        if answer.get("status") != "enabled":
            return Nodes(access, {0: own})
        addresses = {int(peer): _derived(own, facts) for peer, facts in answer.get("peers", {}).items()}
        addresses[int(answer["peer_id"])] = own
    for text in own.nodes:
        host, _, port = text.rpartition(":")
        address = own.node(host.strip("[]"), int(port))
        named = access.connect(address)
        try:
            addresses[_peer_id(named)] = address
        except UnavailableError:
            continue
        finally:
            named.close()
    return Nodes(access, addresses)


def find_shards(connection: Connection, collection: str, *, is_cluster: bool) -> list[ShardLayout]:
    """Ask which shards a collection has, ascending, and who holds them."""
    path = collection_path(collection, "/cluster")
    action = f"asking for the shards of {collection!r}"
    answer = connection.rest("GET", path, action=action)
    with understood(action, connection.address):
        return _shard_layouts(answer, is_cluster=is_cluster)


def _shard_layouts(answer: dict[str, Any], *, is_cluster: bool) -> list[ShardLayout]:
    own = int(answer["peer_id"]) if is_cluster else 0
    found: dict[int, list[Replica]] = {}
    keys: dict[int, Any] = {}
    for shard in [*answer.get("local_shards", []), *answer.get("remote_shards", [])]:
        number = int(shard["shard_id"])
        peer_id = int(shard.get("peer_id", own))
        found.setdefault(number, []).append(Replica(peer_id=peer_id, state=str(shard["state"])))
        keys[number] = msgspec.convert(shard.get("shard_key"), int | str | None)
    return [
        ShardLayout(
            shard_id=number,
            shard_key=keys[number],
            replicas=tuple(sorted(found[number], key=lambda replica: replica.peer_id)),
        )
        for number in sorted(found)
    ]


def spread(layouts: list[ShardLayout]) -> dict[int, int]:
    """Choose a peer for each shard so that no node has more to send than it must; 0 where none is active."""
    load: Counter[int] = Counter()
    chosen: dict[int, int] = {}
    for layout in sorted(layouts, key=lambda each: len(each.replicas)):
        active = [replica.peer_id for replica in layout.replicas if replica.is_active]
        chosen[layout.shard_id] = min(active, key=lambda peer: (load[peer], peer), default=0)
        load[chosen[layout.shard_id]] += 1
    return chosen


def _peer_id(connection: Connection) -> int:
    action = "asking a node who it is"
    answer = connection.rest("GET", "/cluster", action=action)
    with understood(action, connection.address):
        return int(answer.get("peer_id") or 0)


def _derived(own: Address, facts: dict[str, Any]) -> Address:
    host = urlsplit(str(facts.get("uri", ""))).hostname or own.host
    return own.node(host, own.rest_port)
