"""Every command that README and the guides show is run, in order, in one shell a document."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "docs/guides/qdrant.md",
    "docs/guides/recover-now.md",
    "docs/guides/retention.md",
    "docs/guides/second-copy.md",
    "docs/tutorial/README.md",
]

# `make` runs these tests, and installing is what the machine's preparation did.
NOT_RUN = ("make ", "pip install")

_BLOCK = re.compile(
    r"(?:<!-- test: (?P<note>[a-z ]+) -->\n)?```(?P<language>[a-z]*)\n(?P<body>.*?)```", re.DOTALL
)


def commands(document: str) -> list[str]:
    """Return the shell lines of a document's plain code blocks, without what is not run."""
    lines = []
    for block in _BLOCK.finditer((ROOT / document).read_text(encoding="utf-8")):
        if block["language"] or block["note"] == "skip":
            continue
        lines += [line for line in block["body"].splitlines() if line and not line.startswith(NOT_RUN)]
    return lines


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_the_document_succeeds(document: str, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    script = "\n".join(["set -euo pipefail", *commands(document)])
    binaries = str(Path(sys.executable).parent)
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
    }

    done = subprocess.run(  # noqa: PLW1510 - the assertion shows what was printed
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_the_readme_shows_commands_to_run() -> None:
    shown = commands("README.md")

    assert sum(line.startswith("recollect ") for line in shown) >= 15
