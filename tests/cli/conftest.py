"""The command line in this process, against in-memory engines and repositories of the test's own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recollect.cli.main import main
from recollect.engines.memory import MemoryEngine, open_memory
from recollect.testing.records import Row, build_records
from recollect.values.key import encode_keys
from recollect.values.schema import CollectionSchema, VectorSpec

DOCS = CollectionSchema(vectors=(VectorSpec(name="", dimension=3, metric="cosine"),))
_numbers = itertools.count()


class Result(msgspec.Struct, frozen=True):
    """What one run printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """JSON lines of standard output."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The closing JSON line."""
        assert self.lines[-1]["message_type"] == "summary"
        return self.lines[-1]

    def of_type(self, message_type: str) -> list[dict[str, Any]]:
        """All JSON lines of one type."""
        return [line for line in self.lines if line["message_type"] == message_type]

    @property
    def error(self) -> dict[str, Any]:
        """The JSON error on standard error."""
        found = json.loads(self.stderr.splitlines()[-1])
        assert isinstance(found, dict)
        return found


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `recollect …` in this process, in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

    def call(*words: str) -> Result:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def engine() -> MemoryEngine:
    """A database of its own with one collection of four records."""
    engine = open_memory(f"cli-{next(_numbers)}")
    engine.create("docs", DOCS, aliases=("papers",))
    put(engine, {1: [1, 0, 0], 2: [0, 1, 0], 3: [0, 0, 1], 4: [1, 1, 0]})
    return engine


def put(engine: MemoryEngine, vectors: dict[int, list[float]], **payload: Any) -> None:
    """Write records of `docs`; the payload holds the id and what else is given."""
    rows = [
        Row(id=key, payload={"n": key, **payload}, vectors={"": vector}) for key, vector in vectors.items()
    ]
    engine.upsert("docs", build_records(DOCS, rows))


def remove(engine: MemoryEngine, *ids: int) -> None:
    """Delete records of `docs`."""
    engine.delete("docs", encode_keys(list(ids)))


@pytest.fixture
def repo(run: Run, tmp_path: Path) -> str:
    """An empty repository in a directory of the test's own."""
    place = str(tmp_path / "repository")
    assert run("init", "-r", place).code == 0
    return place
