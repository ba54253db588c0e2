"""Several test servers that behave as one cluster; see `cluster` for what they share."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from recollect.testing.qdrant_server.access import Keys
from recollect.testing.qdrant_server.cluster import PEER_ID, Cluster
from recollect.testing.qdrant_server.faults import Faults
from recollect.testing.qdrant_server.rest import RestFace
from recollect.testing.qdrant_server.routes import RouteTable
from recollect.testing.qdrant_server.rpc import RpcFace
from recollect.testing.qdrant_server.server import ROUTES, SERVICES
from recollect.testing.qdrant_server.storage import Storage

PEER_STEP = 1_000_003
INTERNAL_PORT = 6335


class QdrantNode:
    """One node of a test cluster. Its switches concern its own REST calls."""

    def __init__(self, storage: Storage, keys: Keys, peer_id: int) -> None:
        self.peer_id = peer_id
        self.faults = Faults()
        self._rest = RestFace(storage, keys, RouteTable(ROUTES), peer_id=peer_id, faults=self.faults)
        self._rpc = RpcFace(storage, keys, SERVICES)
        self.rest_port = self._rest.port
        self.grpc_port = self._rpc.port
        self._is_running = True

    def stop(self) -> None:
        """Stop as a killed process does; the others go on. Safe to call twice."""
        self.faults.clear()
        if self._is_running:
            self._rest.close()
            self._rpc.close()
        self._is_running = False


class QdrantCluster:
    """Nodes on free loopback ports, running while the context lasts.

    Args:
        directory: Made if it does not exist.
        node_count: How many nodes.
        api_key: Asked of every call if given.
    """

    def __init__(self, directory: Path, node_count: int = 3, *, api_key: str | None = None) -> None:
        self.faults = Faults()
        self.nodes: list[QdrantNode] = []
        self.placement = Cluster(
            {
                PEER_ID + each * PEER_STEP: f"http://127.0.0.1:{INTERNAL_PORT + each}/"
                for each in range(node_count)
            }
        )
        self._directory = directory
        self._keys = Keys(api_key)
        self._storage: Storage | None = None

    def __enter__(self) -> Self:
        self._storage = Storage(self._directory, self.faults, self.placement)
        self.nodes = [QdrantNode(self._storage, self._keys, peer) for peer in self.placement.peers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.clear()
        for node in self.nodes:
            node.stop()
        if self._storage is not None:
            self._storage.close()

    def optimize(self, name: str) -> bool:
        """Let the optimizers of a collection run; tells whether they did anything."""
        assert self._storage is not None, "the cluster runs only inside its context"
        return self._storage.get(name).optimize()

    def node(self, peer_id: int) -> QdrantNode:
        """Return the node of a peer."""
        return next(node for node in self.nodes if node.peer_id == peer_id)

    @property
    def rest_url(self) -> str:
        """Where the REST interface of the first node is."""
        return f"http://127.0.0.1:{self.nodes[0].rest_port}"

    @property
    def url(self) -> str:
        """The URL that the Qdrant adapter takes: the first node, and where all the others are."""
        first = self.nodes[0]
        others = ",".join(f"127.0.0.1:{node.rest_port}" for node in self.nodes)
        return f"qdrant://127.0.0.1:{first.grpc_port}?rest={first.rest_port}&nodes={others}"
