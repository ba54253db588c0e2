"""A snapshot that somebody wrote by hand, digest and all: refused as damaged, never followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recollect.codec.document import open_document, seal_document
from recollect.errors import AccessError, IntegrityError
from recollect.operations import export, verify
from recollect.operations.verify import VerifyOptions
from recollect.repository import layout
from recollect.storage.local import LocalStore
from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.values.schema import CollectionSchema, VectorSpec

SCHEMA = CollectionSchema(vectors=(VectorSpec(name="", dimension=2, metric="dot"),))
FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "path": lambda entry: segment(entry)["index"].update(digest="../../../../etc/passwd"),
    "line end": lambda entry: segment(entry)["index"].update(digest="a" * 64 + "\n"),
    "size": lambda entry: segment(entry)["index"].update(byte_size=-1),
    "rows": lambda entry: segment(entry).update(row_count=-1),
    "keys": lambda entry: segment(entry).update(key_min="zz"),
    "dimension": lambda entry: entry["schema"]["vectors"][0].update(dimension=10**12),
}


def segment(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry["runs"][0][0]
    return found


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """Return a driver over a directory, with one snapshot."""
    made = Driver(LocalStore(tmp_path))
    made.init()
    made.create("c", SCHEMA, [Row(id=1, payload={"n": 1}, vectors={"": [1.0, 2.0]})])
    made.backup()
    return made


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_snapshot_is_damage(driver: Driver, name: str) -> None:
    key = layout.snapshot_key(driver.catalog().ids()[0])
    content = json.loads(open_document(driver.store.get(key)))
    FORGERIES[name](content["collections"][0])
    driver.store.put(key, seal_document(json.dumps(content).encode()))

    with pytest.raises(IntegrityError, match="damaged"):
        driver.catalog().list()
    report = verify.run(driver.open(), options=VerifyOptions(share=verify.Share()))
    assert [problem.kind for problem in report.problems] == ["snapshot"]


def test_what_the_repository_refuses_is_not_blamed_on_the_exported_file(
    driver: Driver, tmp_path: Path
) -> None:
    entry = driver.catalog().list()[0].collections[0]
    held = tmp_path / layout.object_key(entry.segments()[0].index.digest)
    held.unlink()
    held.symlink_to("/etc/hostname")

    with pytest.raises(AccessError, match="symbolic link"):
        export.run(driver.open(), entry, tmp_path / "out.parquet")
