"""Which nodes a test cluster has, and which node holds which replica.

All nodes share one storage: a node answers for every collection, as a real one does by asking the
others, but gives out the files of those shards only of which it holds a replica. Segments have another
name on each node, as the segments of real replicas have.
"""

from __future__ import annotations

from uuid import UUID

PEER_ID = 1
"""The peer of a server that is not in a cluster, and of the first node of one."""

_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC834


class Cluster:
    """Peers and replicas. Replicas are dealt out in turn until `place` says otherwise.

    Attributes:
        peers: Internal address by peer id.
    """

    def __init__(self, peers: dict[int, str]) -> None:
        self.peers = peers
        self._placed: dict[tuple[str, int], dict[int, str]] = {}

    def place(self, collection: str, shard: int, replicas: dict[int, str]) -> None:
        """Say which peers hold a shard, and in which state their replicas are."""
        self._placed[collection, shard] = replicas

    def replicas(self, collection: str, shard: int, factor: int, state: str) -> dict[int, str]:
        """Return the states of a shard's replicas by peer."""
        placed = self._placed.get((collection, shard))
        if placed is not None:
            return dict(placed)
        order = sorted(self.peers)
        chosen = [order[(shard + each) % len(order)] for each in range(min(factor, len(order)))]
        return dict.fromkeys(chosen, state)


def segment_on(peer_id: int, segment: str) -> str:
    """Return what a segment is called on a peer; applied twice, what it was called before."""
    return str(UUID(int=UUID(segment).int ^ (peer_id - PEER_ID) * _SPREAD % (1 << 128)))
