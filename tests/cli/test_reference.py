"""The reference pages name what there is, and nothing else."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recollect import errors, settings
from recollect.cli.main import COMMANDS
from recollect.engines.memory import MemoryEngine
from recollect.policy.retention import RetentionRules
from tests.cli.conftest import Run, remove

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def classes() -> list[type[errors.RecollectError]]:
    found = [one for one in vars(errors).values() if isinstance(one, type)]
    return [one for one in found if issubclass(one, errors.RecollectError)]


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    written = subprocess.run(
        [sys.executable, "tools/reference.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert page("cli.md") == written.stdout, "run `make reference`"


@pytest.mark.parametrize("one", classes(), ids=lambda one: one.__name__)
def test_an_error_is_documented_with_its_kind_code_and_whether_a_retry_helps(
    one: type[errors.RecollectError],
) -> None:
    retry = "yes" if one.retryable else "no"

    assert f"| `{one.__name__}` | `{one.kind}` | {one.exit_code} | {retry} |" in page("errors.md")


def test_no_error_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^\| `(\w+Error)`", page("errors.md"), re.MULTILINE)) == {
        c.__name__ for c in classes()
    }


def test_kinds_are_unique() -> None:
    kinds = [one.kind for one in classes()]

    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("one", classes(), ids=lambda one: one.__name__)
def test_an_error_survives_a_trip_to_another_process(one: type[errors.RecollectError]) -> None:
    copy = pickle.loads(pickle.dumps(one("it failed", "do that")))  # noqa: S301 -- our own bytes

    assert (type(copy), copy.message, copy.next_step) == (one, "it failed", "do that")


def test_every_setting_is_documented() -> None:
    text = page("settings.md")
    names = [*settings.FileSettings.__struct_fields__, *RetentionRules.__struct_fields__]

    assert [name for name in names if f"`{name}`" not in text and f"`[{name}]`" not in text] == []
    assert [name for name in settings._VARIABLES if f"`{settings.PREFIX}{name}`" not in text] == []


def test_the_settings_file_of_the_page_is_valid(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", page("settings.md"), re.DOTALL)
    assert example is not None
    file = tmp_path / "config.toml"
    file.write_text(example[1], "utf-8")

    loaded = settings.load_settings(settings.Flags(config=str(file)), {})

    assert loaded.retention is not None
    assert loaded.retention.keep_daily == 7


def keys_of(value: Any, prefix: str = "") -> set[str]:
    """Return the field names in a JSON line; below data that is the user's own they mean nothing to us."""
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item, prefix)}
    if not isinstance(value, dict) or prefix in {"payload", "versions", "settings", "origins", "snapshot"}:
        return set()
    return set(value) | {key for name, item in value.items() for key in keys_of(item, name)}


def test_every_json_field_is_documented(run: Run, repo: str, engine: MemoryEngine, tmp_path: Path) -> None:
    source = engine.info().url
    commands = [
        ["backup", source],
        ["snapshots"],
        ["ls", "latest"],
        ["ls", "latest", "--collection", "docs"],
        ["stats"],
        ["verify", "--read-data"],
        ["restore", "latest", source, "--dry-run", "--collection", "docs:x"],
        ["restore", "latest", source, "--collection", "docs:x"],
        ["tag", "latest", "--add", "t"],
        ["export", "latest", str(tmp_path / "out.parquet")],
        ["search", "latest", "--like", "1"],
        ["diff", "latest", source, "--records"],
        ["verify", "--against", source],
        ["forget", "--keep-last", "1", "--prune"],
        ["prune"],
        ["unlock"],
        ["config"],
        ["completion", "bash"],
        ["version"],
    ]
    seen: dict[str, set[str]] = {}
    for words in commands:
        if words[0] == "diff":
            remove(engine, 1)
        result = run(*words, "-r", repo, "--json")
        assert result.of_type("summary") == [result.lines[-1]]
        for line in [*result.lines, *map(json.loads, result.stderr.splitlines())]:
            seen.setdefault(words[0], set()).update(keys_of(line), {line["message_type"]})

    text = page("json.md")
    sections = dict(re.findall(r"^\*\*(\w+)\*\*(.*?)(?=^\*\*|\Z)", text, re.MULTILINE | re.DOTALL))
    common = text.split("## Commands")[0]

    assert set(sections) == set(COMMANDS)
    missing = {
        (command, key)
        for command, keys in seen.items()
        for key in keys
        if f"`{key}`" not in sections[command] and f"`{key}`" not in common
    }
    # A sweep within forget has the fields of prune, as the page says.
    missing -= {("forget", key) for key in seen["prune"]}
    assert missing == set()
