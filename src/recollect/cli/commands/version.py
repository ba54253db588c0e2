"""`recollect version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from recollect import __version__
from recollect.cli.session import Session

STOPPED = "nothing was begun"

LIBRARIES = ("pyarrow", "numpy", "qdrant-edge-py", "qdrant-client", "obstore")


def run(session: Session) -> None:
    """Show the version of Recollect, of Python, and of the libraries that matter for what was stored."""
    found = {"recollect": __version__, "python": platform.python_version()}
    found |= {name: _version(name) for name in LIBRARIES}
    session.output.table(["Package", "Version"], [[name, found[name] or "not installed"] for name in found])
    session.output.summary({"versions": found})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
