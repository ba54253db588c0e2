"""The guide's page of NumPy reads a snapshot without Recollect."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recollect.compat.ruvector import SnapshotManager
from recollect.database import Database
from recollect.values.key import decode_key
from recollect.values.payload import decode_payload
from tests.ruvector.samples import content, run

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "ruvector.md"


@pytest.mark.parametrize("compression", [True, False])
def test_the_guides_reader_reads_every_record(
    make_manager: Callable[..., SnapshotManager], database: Database, tmp_path: Path, *, compression: bool
) -> None:
    snapshot = run(make_manager(compression=compression).create_snapshot(database, "one"))
    directory = tmp_path / "snapshots" / f"snapshot-{snapshot.id}"
    (page,) = (
        code
        for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        if "def blocks" in code
    )
    names: dict[str, Any] = {}
    exec(page, names)  # noqa: S102

    matrix = names["read_vectors"](directory / "vectors.bin.gz")
    records = names["read_records"](directory / "metadata.bin.gz")

    found = {}
    for (key, metadata), row in zip(records, matrix, strict=True):
        record_id = decode_key(key)
        found[type(record_id), record_id] = (
            row.tobytes(),
            None if metadata is None else decode_payload(metadata),
        )
    assert found == content(database)
