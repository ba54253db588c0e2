"""Start and stop of the test server."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from recollect.testing.qdrant_server import (
    rest_collections,
    rest_points,
    rest_service,
    rest_shards,
    rest_snapshots,
)
from recollect.testing.qdrant_server.access import Keys
from recollect.testing.qdrant_server.faults import Faults
from recollect.testing.qdrant_server.rest import RestFace
from recollect.testing.qdrant_server.routes import RouteTable
from recollect.testing.qdrant_server.rpc import RpcFace
from recollect.testing.qdrant_server.rpc_collections import COLLECTIONS, HEALTH
from recollect.testing.qdrant_server.rpc_points import SERVICE as POINTS
from recollect.testing.qdrant_server.rpc_snapshots import SERVICE as SNAPSHOTS
from recollect.testing.qdrant_server.storage import Storage

ROUTES = [
    *rest_service.ROUTES,
    *rest_collections.ROUTES,
    *rest_points.ROUTES,
    *rest_snapshots.ROUTES,
    *rest_shards.ROUTES,
]
SERVICES = [POINTS, COLLECTIONS, HEALTH, SNAPSHOTS]


class QdrantServer:
    """A server on free loopback ports, running while the context lasts.

    Its collections live in `directory` and are there again for the next server on it.

    Args:
        directory: Made if it does not exist.
        faults: What goes wrong; can be switched while the server runs.
        api_key: Asked of every call if given.
        read_only_api_key: Lets its holder read.
        port: REST port, for a server that is to come back where it was; a free one by default.
    """

    def __init__(
        self,
        directory: Path,
        faults: Faults | None = None,
        *,
        api_key: str | None = None,
        read_only_api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self.faults = faults or Faults()
        self._directory = directory
        self._keys = Keys(api_key, read_only_api_key)
        self._port = port
        self._storage: Storage | None = None
        self._rest: RestFace | None = None
        self._rpc: RpcFace | None = None

    def __enter__(self) -> Self:
        self._storage = Storage(self._directory, self.faults)
        self._rest = RestFace(self._storage, self._keys, RouteTable(ROUTES), self._port)
        self._rpc = RpcFace(self._storage, self._keys, SERVICES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as a killed process does: connections break. Collections are flushed. Safe to call twice."""
        self.faults.clear()
        if self._rest is not None:
            self._rest.close()
        if self._rpc is not None:
            self._rpc.close()
        if self._storage is not None:
            self._storage.close()
        self._rest = self._rpc = self._storage = None

    def optimize(self, name: str) -> bool:
        """Let the optimizers of a collection run (they never do by themselves); tells whether they did."""
        assert self._storage is not None, "the server runs only inside its context"
        return self._storage.get(name).optimize()

    @property
    def rest_port(self) -> int:
        """The REST port."""
        assert self._rest is not None, "the server runs only inside its context"
        return self._rest.port

    @property
    def grpc_port(self) -> int:
        """The gRPC port."""
        assert self._rpc is not None, "the server runs only inside its context"
        return self._rpc.port

    @property
    def rest_url(self) -> str:
        """Where REST is."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def url(self) -> str:
        """The URL that the Qdrant adapter takes."""
        return f"qdrant://127.0.0.1:{self.grpc_port}?rest={self.rest_port}"
