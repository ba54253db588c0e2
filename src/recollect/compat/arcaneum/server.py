"""Opens the Qdrant server that a dump or a load talks to."""

from __future__ import annotations

from recollect.engines.qdrant.snapshots import QdrantSnapshots
from recollect.wiring import Context


def open_server(url: str, context: Context) -> QdrantSnapshots:
    """Return the snapshot calls of a server: `http://host:6333`, `qdrant://host:6334`, or bare `host:6333`.

    Nothing is sent yet.
    """
    full = url if "://" in url else f"http://{url}"
    return QdrantSnapshots(full, secrets=context.secrets, clock=context.clock)
