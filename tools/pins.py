"""Write requirements.txt: the exact version of every package that Recollect, its extras and its tests need.

Run by `make pins`. The versions are those installed in the environment that runs
this; the list is what is reachable from pyproject.toml, so that a package somebody
tried once does not get in. Each line says what asked for it.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# Exact versions of everything, written by `make pins` from pyproject.toml. Do not edit.
# "runtime" and "extra" are what an installation needs; "development" is for tests and checks.
"""


def reachable(requirements: list[str]) -> dict[str, str]:
    """Return name → version of these requirements and all that they need here."""
    found: dict[str, str] = {}
    queue: list[Requirement] = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        installed = distribution(name)
        found[name] = installed.version
        queue += [child for text in installed.requires or [] if applies(child := Requirement(text), wanted)]
    return found


def applies(child: Requirement, parent: Requirement) -> bool:
    """Tell whether a requirement of a package counts here, given the extras it was asked for with."""
    if child.marker is None:
        return True
    environment = {key: str(value) for key, value in default_environment().items()}
    return any(child.marker.evaluate({**environment, "extra": extra}) for extra in ["", *parent.extras])


def pins(project_file: Path) -> str:
    """Return the text of requirements.txt."""
    document = tomllib.loads(project_file.read_text("utf-8"))
    project = document["project"]
    groups = {"runtime": project["dependencies"]}
    groups |= {f"extra: {name}": wanted for name, wanted in project["optional-dependencies"].items()}
    groups["development"] = document["dependency-groups"]["dev"]
    versions: dict[str, str] = {}
    first_asked_by: dict[str, str] = {}
    for group, requirements in groups.items():
        for name, version in reachable(requirements).items():
            versions[name] = version
            first_asked_by.setdefault(name, group)
    lines = []
    for group in groups:
        lines.append(f"\n# {group}")
        members = sorted(name for name, asker in first_asked_by.items() if asker == group)
        lines += [f"{name}=={versions[name]}" for name in members]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(pins(Path("pyproject.toml")))
