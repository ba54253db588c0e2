"""What format v1 cannot carry: content that no database could hold is refused before a commit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from recollect.clock import SystemClock
from recollect.compat.nvecd.extra import CollectionRows, Extra, StateRow, VectorRow, encode_extra
from recollect.compat.nvecd.face import Face
from recollect.compat.nvecd.snapshot.write import write_content
from recollect.database import Database
from tests.nvecd.faces import ask, settings_in
from tests.nvecd.snapshots import GOLDEN, decode

ROW = np.ones(3, dtype="<f4").tobytes()
SEVEN = b"\x10" + bytes(7) + b"\x07"


def state(**changes: Any) -> Extra:
    first = StateRow("n", "agent", "k", 1, 1, b"1")
    return Extra(state=[first, msgspec.structs.replace(first, version=2, **changes)])


def collection(name: str = "second", dimension: int = 3, metric: str = "cosine") -> Extra:
    return Extra(collections=[CollectionRows(name, dimension, metric, [VectorRow(b"0x", ROW, None)])])


BAD = {
    "a version that is not new": Extra(state=[*state().state, *state().state]),
    "a version below one": Extra(state=[StateRow("n", "agent", "k", -5, 1, b"1")]),
    "a commit below zero": state(commit_ts=-1),
    "a commit beyond 64 bits": state(commit_ts=2**63),
    "an empty name": state(agent=""),
    "a name that is too long": state(namespace="n" * 100_000),
    "a value that is no JSON": state(value=b"{nope"),
    "metadata that are no JSON": Extra(metadata={"item1": b"{nope"}),
    "metadata that are no object": Extra(metadata={"item1": b"[1]"}),
    "an id without a type": Extra(vectors=[VectorRow(b"", ROW, None)]),
    "an id of an unknown type": Extra(vectors=[VectorRow(b"\x99abc", ROW, None)]),
    "a text id beside those of the file": Extra(vectors=[VectorRow(b"0item1", ROW, None)]),
    "an id twice": Extra(vectors=[VectorRow(SEVEN, ROW, None)] * 2),
    "a vector of another dimension": Extra(vectors=[VectorRow(SEVEN, ROW[:8], None)]),
    "a vector of no whole number": Extra(vectors=[VectorRow(SEVEN, ROW[:7], None)]),
    "a vector that is not finite": Extra(vectors=[VectorRow(SEVEN, b"\xff" * 12, None)]),
    "a reserved collection": collection("events"),
    "a hidden collection": collection(".restoring.x"),
    "the default collection": collection("vectors"),
    "a collection twice": Extra(collections=collection().collections * 2),
    "an unknown metric": collection(metric="hamming"),
    "no dimension": collection(dimension=0),
    "a dimension that no vector has": collection(dimension=4),
}


def load(extra: Extra, face: Face, directory: Path) -> str:
    content = decode((GOLDEN / "example_meta.nvec").read_bytes(), directory / "scratch")
    descriptor = os.open(directory / "x.nvec", os.O_RDWR | os.O_CREAT, 0o600)
    write_content(descriptor, msgspec.structs.replace(content, extra=encode_extra(extra)))
    os.close(descriptor)
    return ask(face, "DUMP LOAD x.nvec")


@pytest.mark.parametrize("extra", [state(), collection(), Extra(vectors=[VectorRow(SEVEN, ROW, b"{}")])])
def test_good_content_is_loaded(extra: Extra, tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        face = Face(database, settings_in(tmp_path / "s"), SystemClock())
        face.dumps.directory.create()
        assert load(extra, face, tmp_path / "s").startswith("OK DUMP_LOADED")


@pytest.mark.parametrize("problem", BAD)
def test_content_that_cannot_be_applied_reaches_no_log(problem: str, tmp_path: Path) -> None:
    with Database.open(tmp_path / "data") as database:
        face = Face(database, settings_in(tmp_path / "s"), SystemClock())
        face.dumps.directory.create()
        ask(face, "VECSET mine 1 2 3")
        assert load(BAD[problem], face, tmp_path / "s").startswith("ERROR Failed to load snapshot from ")
        assert ask(face, "VECSET later 1 2 3") == "OK VECSET\r\n"
    with Database.open(tmp_path / "data") as database:
        assert database.vectors.ids() == ["later", "mine"]
        assert database.collections() == ["vectors"]
