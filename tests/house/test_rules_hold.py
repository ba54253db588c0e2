"""The house rules hold in this tree. Exceptions stand here, each with its reason."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house import rules

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "recollect"
NOT_OURS = {".git", ".venv", "build", "dist", "__pycache__"}

EXCEPTIONS = {
    # typer reads a command's options from its signature: the signature is as long as the help text.
    ("functions_are_short", "src/recollect/cli/commands/forget.py"),
    # It stands for functions of any signature, which it takes from the command's module.
    ("bags_are_not_passed", "src/recollect/cli/command.py"),
}

SOURCE_RULES: list[Callable[[str], Iterator[str]]] = [
    rules.module_is_short,
    rules.functions_are_short,
    rules.parameters_are_few,
    rules.bags_are_not_passed,
    rules.nesting_is_shallow,
]
TEXT_RULES: list[Callable[[str], Iterator[str]]] = [rules.nothing_is_left_over, rules.no_machine_shows]


def files(*suffixes: str) -> list[Path]:
    """Return the project's files with one of these endings; tools' caches and .venv are not ours."""
    found = []
    for directory in [ROOT, *(path for path in ROOT.iterdir() if path.is_dir())]:
        is_cache = directory.name.endswith("_cache") or directory.name == ".hypothesis"
        if directory.name in NOT_OURS or is_cache:
            continue
        paths = directory.iterdir() if directory == ROOT else directory.rglob("*")
        found += [path for path in paths if path.is_file() and not NOT_OURS & set(path.parts)]
    return sorted({path for path in found if not suffixes or path.suffix in suffixes})


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def findings(rule: Callable[[str], Iterator[str]], paths: list[Path]) -> list[str]:
    return [
        f"{relative(path)}: {message}"
        for path in paths
        if (rule.__name__, relative(path)) not in EXCEPTIONS
        for message in rule(path.read_text("utf-8", errors="replace"))
    ]


@pytest.mark.parametrize("rule", SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_code_keeps_to(rule: Callable[[str], Iterator[str]]) -> None:
    assert findings(rule, [path for path in files(".py") if SOURCE in path.parents]) == []


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_to(rule: Callable[[str], Iterator[str]]) -> None:
    judged = [
        path for path in files() if path.suffix not in {".npy", ".parquet"} and path != Path(rules.__file__)
    ]

    assert findings(rule, judged) == []


def test_exceptions_are_still_needed() -> None:
    unneeded = [
        (name, path)
        for name, path in EXCEPTIONS
        if not list(getattr(rules, name)((ROOT / path).read_text("utf-8")))
    ]

    assert unneeded == []


def test_no_module_is_a_drawer() -> None:
    named = [path.relative_to(ROOT) for path in files(".py")]

    assert [f"{path}: {message}" for path in named for message in rules.name_is_no_drawer(path)] == []


def test_no_file_is_large() -> None:
    assert [relative(path) for path in files() if path.stat().st_size > rules.FILE_BYTES_MAX] == []


def test_links_in_documents_resolve() -> None:
    broken = [
        f"{relative(path)}: {message}"
        for path in files(".md")
        for message in rules.links_resolve(path, path.read_text("utf-8"), ROOT)
    ]

    assert broken == []


def test_every_module_is_reached() -> None:
    """By another module; or it is the entry point, a command, or shipped for those who write adapters."""
    sources = {module_name(path): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    packages = {module_name(path) for path in SOURCE.rglob("__init__.py")}
    entries = {"recollect.__main__", "recollect.cli", "recollect.testing", "recollect.compat.nvecd.main"}

    assert rules.dead_modules(sources, entries) - packages == set()


def project() -> dict[str, list[str]]:
    """Return the declared requirements by group: runtime, each extra, dev."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups: dict[str, list[str]] = {"runtime": document["project"]["dependencies"]}
    groups |= document["project"]["optional-dependencies"]
    groups |= document["dependency-groups"]
    return groups


def declared(*groups: str) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for group in groups for text in project()[group]}


def foreign_imports(paths: list[Path]) -> dict[str, str]:
    """Return distribution → one file that imports it, for what is neither ours nor Python's."""
    owners = packages_distributions()
    found: dict[str, str] = {}
    for path in paths:
        for name in rules.imported_modules(path.read_text("utf-8")):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in {"recollect", "tests", "benchmarks"}:
                continue
            found[canonicalize_name(owners.get(top, [top])[0])] = relative(path)
    return found


def test_what_the_package_imports_is_declared() -> None:
    groups = [group for group in project() if group != "dev"]
    found = foreign_imports([path for path in files(".py") if SOURCE in path.parents])

    assert {name: path for name, path in found.items() if name not in declared(*groups)} == {}


def test_what_the_tests_import_is_declared() -> None:
    found = foreign_imports([path for path in files(".py") if ROOT / "tests" in path.parents])

    assert {name: path for name, path in found.items() if name not in declared(*project())} == {}


def test_every_declared_requirement_is_used() -> None:
    """Tools run by name, by the Makefile; hatchling and editables build; moto is loaded where it is there.

    PyYAML is what `msgspec.yaml` works with.
    """
    used = foreign_imports(files(".py")).keys()
    tools = {"ruff", "mypy", "import-linter", "hatchling", "editables", "moto"}
    plugins = {"pytest-randomly", "pytest-timeout", "pytest-xdist"}
    loaded = {"pyyaml"}

    assert declared(*project()) - used - tools - plugins - loaded == set()


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.+!]+", line) for line in entries), "only name==version"
    return dict(line.split("==") for line in entries)


def test_every_requirement_is_pinned_to_a_version_that_fits() -> None:
    versions = pinned()
    for text in [text for group in project().values() for text in group]:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not pinned: run `make pins`"
        assert version in requirement.specifier, f"{text} is pinned to {version}"
