"""A Qdrant-compatible server for tests: REST and gRPC over real Qdrant Edge shards.

It exists so that the Qdrant adapter is tested over real sockets, with faults that a
real server shows once a year. It is no database server: one process, loopback only,
no optimizers in the background, no replication, a subset of the API.

`QdrantServer` starts it, `QdrantCluster` several that act as one; `Faults` says what goes wrong; `python -m
recollect.testing.qdrant_server DIRECTORY` runs one by hand.
"""

from recollect.testing.qdrant_server.faults import Faults
from recollect.testing.qdrant_server.nodes import QdrantCluster, QdrantNode
from recollect.testing.qdrant_server.server import QdrantServer

__all__ = ["Faults", "QdrantCluster", "QdrantNode", "QdrantServer"]
