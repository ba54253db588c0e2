"""Each rule finds what it is for, and leaves the rest alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house import rules

# Put together, so that this file keeps to the rules itself.
LETTER, SLASH, DOT = "O", "/", "."

LONG = "def f():\n" + "    x = 1\n" * 60
DEEP = "def f():\n if a:\n  for b in c:\n   while d:\n    with e:\n     if g:\n      pass\n"
CHAIN = "def f():\n if a:\n  pass\n elif b:\n  pass\n elif c:\n  pass\n elif d:\n  pass\n elif e:\n  pass\n"


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (rules.module_is_short, "x = 1\n" * 401, "x = 1\n" * 400),
        (rules.functions_are_short, LONG, LONG.replace("    x = 1\n", "", 1)),
        (rules.parameters_are_few, "def f(a, b, c, d, e, g): ...", "def f(self, a, b, c, d, e, *, g): ..."),
        (rules.bags_are_not_passed, "def f(**options): ...", "def f(*values): ..."),
        (rules.nesting_is_shallow, DEEP, CHAIN),
        (rules.nothing_is_left_over, f"x = 1  # T{LETTER}DO: later", "todos = 1"),
        (rules.no_machine_shows, f"see {SLASH}root/x", "see root/x"),
        (rules.no_machine_shows, f"https://pypi{DOT}org/x", "pip install x"),
        (rules.no_machine_shows, "AKIA" + "A" * 16, "AKIA"),
    ],
)
def test_a_rule_finds_what_it_is_for(rule: Callable[[str], Iterator[str]], bad: str, good: str) -> None:
    assert list(rule(bad))
    assert not list(rule(good))


def test_drawers_are_found_as_modules_and_as_packages() -> None:
    assert list(rules.name_is_no_drawer(Path("recollect/utils.py")))
    assert list(rules.name_is_no_drawer(Path("recollect/common/key.py")))
    assert not list(rules.name_is_no_drawer(Path("recollect/values/key.py")))


def test_links_to_missing_files_and_headings_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The `first` part\n```\n# not a heading\n```\n", "utf-8")
    page = tmp_path / "page.md"

    def check(text: str) -> list[str]:
        return list(rules.links_resolve(page, text, tmp_path))

    assert check("[a](absent.md)")
    assert check("[a](other.md#second)")
    assert check("[a](other.md#not-a-heading)")
    assert check("[a](../outside.md)")
    assert not check("[a](other.md#the-first-part) [b](https://example.org/x)")
    assert not check("```\n[c](absent.md)\n```\n")


def test_modules_that_nobody_imports_are_found() -> None:
    sources = {
        "p.a": "from p import b",
        "p.b": "",
        "p.c": "import p.c",
        "p.cli.main": "import p.a",
    }

    assert rules.dead_modules(sources, {"p.cli"}) == {"p.c"}


def test_imports_are_found_in_every_form() -> None:
    found = rules.imported_modules("import a.b\nfrom c.d import e\ndef f():\n    import g\n")

    assert found == {"a.b", "c.d", "c.d.e", "g"}
