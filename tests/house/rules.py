"""The house rules that a program can check: each a function from text to what is wrong with it.

ruff and import-linter check the rest (pyproject.toml). An exception to a rule stands in
test_rules_hold.py beside its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
POSITIONAL_PARAMETERS_MAX = 5
NESTING_MAX = 4
FILE_BYTES_MAX = 600_000

DRAWERS = frozenset(
    {"utils", "util", "helpers", "helper", "common", "core", "misc", "manager", "handler", "base_utils"}
)
# Brackets around single characters keep this file from matching itself.
_LEFTOVERS = re.compile(r"\b(T[O]DO|FI[X]ME|X[X]X|HA[C]K)\b")
_MACHINE_PATHS = re.compile(r"[/](work|root|farm)[/]|[.]library[/]")
_REGISTRIES = re.compile(r"(pypi|npmjs|pythonhosted)[.]|crates[.]io")
_CREDENTIALS = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----|ghp_[A-Za-z0-9]{36}")
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)

Function = ast.FunctionDef | ast.AsyncFunctionDef
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def module_is_short(source: str) -> Iterator[str]:
    """A module has at most 400 lines."""
    count = source.count("\n")
    if count > MODULE_LINES_MAX:
        yield f"{count} lines, at most {MODULE_LINES_MAX}"


def functions_are_short(source: str) -> Iterator[str]:
    """A function has at most 60 lines, its signature and docstring included."""
    for function in _functions(source):
        count = (function.end_lineno or function.lineno) - function.lineno + 1
        if count > FUNCTION_LINES_MAX:
            yield f"line {function.lineno}: {function.name} has {count} lines, at most {FUNCTION_LINES_MAX}"


def parameters_are_few(source: str) -> Iterator[str]:
    """A function takes at most 5 parameters by position; the others are named by the caller."""
    for function in _functions(source):
        names = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
        count = len([name for name in names if name not in {"self", "cls"}])
        if count > POSITIONAL_PARAMETERS_MAX and function.name != "__init__":
            yield f"line {function.lineno}: {function.name} takes {count} parameters by position"


def bags_are_not_passed(source: str) -> Iterator[str]:
    """No function takes `**options`: it hides which ones exist."""
    for function in _functions(source):
        if function.args.kwarg is not None:
            yield f"line {function.lineno}: {function.name} takes **{function.args.kwarg.arg}"


def nesting_is_shallow(source: str) -> Iterator[str]:
    """Blocks nest at most 4 deep within a function."""
    for function in _functions(source):
        depth = _depth(function)
        if depth > NESTING_MAX:
            yield f"line {function.lineno}: {function.name} nests {depth} deep"


def name_is_no_drawer(path: Path) -> Iterator[str]:
    """No module or package is a drawer for whatever has no place."""
    for part in [*path.parent.parts, path.stem]:
        if part in DRAWERS:
            yield f"{part!r} says nothing about what is inside"


def nothing_is_left_over(text: str) -> Iterator[str]:
    """No note to oneself stays behind."""
    yield from _matches(_LEFTOVERS, text, "leftover")


def no_machine_shows(text: str) -> Iterator[str]:
    """No path of a particular machine, no package registry, no credential."""
    yield from _matches(_MACHINE_PATHS, text, "machine path")
    yield from _matches(_REGISTRIES, text, "package registry")
    yield from _matches(_CREDENTIALS, text, "credential")


def links_resolve(path: Path, text: str, root: Path) -> Iterator[str]:
    """Relative Markdown links lead to a file, and anchors to a heading."""
    prose = _FENCE.sub("", text)
    for target in _LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path.resolve()
        if not place.exists() or root.resolve() not in [place, *place.parents]:
            yield f"{target} leads nowhere"
        elif anchor and place.suffix == ".md" and anchor not in anchors(place.read_text("utf-8")):
            yield f"{target}: there is no such heading"


def anchors(markdown: str) -> set[str]:
    """Return the anchors that headings get: lower case, punctuation dropped, spaces to hyphens."""
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", markdown)):
        plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-"))
    return found


def imported_modules(source: str) -> set[str]:
    """Return the dotted names that a module imports, in whole; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def dead_modules(sources: dict[str, str], entries: set[str]) -> set[str]:
    """Return modules that no other module imports and that are no entry point (nor below one)."""
    imported = {name for module, source in sources.items() for name in imported_modules(source) - {module}}
    return {
        module
        for module in sources
        if module not in imported
        and not any(module == entry or module.startswith(entry + ".") for entry in entries)
    }


def _functions(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            yield node


def _depth(node: ast.AST) -> int:
    """Count the deepest chain of blocks below a node; functions within it are judged by themselves."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        deepest = max(deepest, _depth(child) + (isinstance(child, _BLOCKS) and not is_elif))
    return deepest


def _matches(pattern: re.Pattern[str], text: str, what: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = pattern.search(line)
        if match:
            yield f"line {number}: {what}: {match[0]}"
