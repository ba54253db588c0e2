"""Run the test server by hand: `python -m recollect.testing.qdrant_server DIRECTORY [API_KEY [PORT]]`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from recollect.testing.qdrant_server import QdrantServer


def main(arguments: list[str]) -> int:
    """Print the URL and serve until a signal comes."""
    if not 1 <= len(arguments) <= 3:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    directory, key, port = [*arguments, "", ""][:3]
    with QdrantServer(Path(directory), api_key=key or None, port=int(port or 0)) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    raise SystemExit(main(sys.argv[1:]))
