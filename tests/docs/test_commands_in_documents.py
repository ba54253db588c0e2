"""All commands and Python that README, tutorial and guides show are run, in order, one shell a document."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from recollect.testing.qdrant_server import QdrantServer
from tests.docs.documents import ROOT, commands, shell_script

GUIDES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/guides/*.md"))
DOCUMENTS = ["README.md", "docs/tutorial/README.md", *GUIDES]
BINARIES = Path(sys.executable).parent
# Pages without commands that could be run as they stand.
WITHOUT_COMMANDS = {"docs/guides/troubleshooting.md"}


class Surroundings:
    """What the documents' names stand for here; servers are started when a document needs them."""

    def __init__(self, directory: Path, environment: dict[str, str], stack: ExitStack) -> None:
        self._directory = directory
        self._environment = environment
        self._stack = stack

    def places(self, text: str) -> dict[str, str]:
        """Return places for the names that stand in a text."""
        makers: dict[str, Callable[[], dict[str, str]]] = {
            "localhost:633": lambda: self._qdrant("localhost"),
            "scratch:6334": lambda: self._qdrant("scratch"),
            "127.0.0.1:50051": self._statehouse,
        }
        found = {
            "2026-11-20T12:00:00Z": "$NOON",
            "s3://": f"{self._directory}/clouds/",
            "/srv/": f"{self._directory}/srv/",
            "/var/": f"{self._directory}/var/",
            "/etc/": f"{self._directory}/etc/",
        }
        for name, make in makers.items():
            if name in text:
                found |= make()
        return found

    def _qdrant(self, host: str) -> dict[str, str]:
        server = self._stack.enter_context(QdrantServer(self._directory / f"qdrant-{host}"))
        return {f"qdrant://{host}:6334": server.url, f"http://{host}:6333": server.rest_url}

    def _statehouse(self) -> dict[str, str]:
        port = self._stack.enter_context(serving(self._directory / "served", self._environment))
        return {"127.0.0.1:50051": f"127.0.0.1:{port}"}


@contextmanager
def serving(data: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run `recollect serve` on free ports; yields the port of Statehouse's face."""
    words = [str(BINARIES / "recollect"), "serve", "--data", str(data), "--json"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().split('"statehouse_port":')[1].split("}")[0])
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each not in WITHOUT_COMMANDS])
def test_everything_that_the_document_shows_succeeds(document: str, tmp_path: Path) -> None:
    for module in ("qdrant_edge", "qdrant_client", "usearch", "grpc"):
        pytest.importorskip(module)
    environment = {
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "ROOT": str(ROOT),
        "RECOLLECT_SERVE_STATEHOUSE_ADDRESS": "127.0.0.1:0",
        "RECOLLECT_SERVE_NVECD_ADDRESS": "127.0.0.1:0",
    }
    with ExitStack() as stack:
        surroundings = Surroundings(tmp_path, environment, stack)
        script = shell_script(document, surroundings.places((ROOT / document).read_text("utf-8")))
        done = subprocess.run(  # noqa: PLW1510 - the assertion shows what was printed
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
        )

    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_the_readme_shows_commands_to_run() -> None:
    assert len(commands("README.md")) >= 15


@pytest.mark.parametrize("document", sorted(WITHOUT_COMMANDS))
def test_a_page_that_is_not_run_has_nothing_to_run(document: str) -> None:
    assert shell_script(document, {}) == "set -euo pipefail"
