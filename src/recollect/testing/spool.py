"""A target that keeps what is restored in a file: a restore of any size without an engine and its memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema


class SpooledTarget:
    """A target of one collection in an Arrow file, which takes and gives back records without keeping them.

    Args:
        directory: An empty or absent directory; the collection becomes `records.arrow` in it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "records.arrow"

    @property
    def capabilities(self) -> Capabilities:
        """Records come back in the order in which they were written."""
        return Capabilities(point_in_time=True, ordered_scan=True)

    def info(self) -> EngineInfo:
        """Identify the directory."""
        return EngineInfo(product="spool", url=f"spool:{self._directory}")

    def find(self, name: str) -> CollectionDescription | None:
        """Describe what was restored; None before that."""
        if not self._path.exists():
            return None
        with pa.ipc.open_stream(self._path) as stream:
            count = sum(batch.num_rows for batch in stream)
        return CollectionDescription(name=name, schema=CollectionSchema(), record_count=count)

    def check_schema(self, schema: CollectionSchema) -> None:
        """Accept every schema."""

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> SpooledStage:  # noqa: ARG002
        """Begin the file under another name."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return SpooledStage(self._path, schema)

    def close(self) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory)


class SpooledStage:
    """The file while it is written."""

    def __init__(self, path: Path, schema: CollectionSchema) -> None:
        self._path = path
        self._staging = path.with_suffix(".staging")
        self._file = self._staging.open("wb")
        self._writer = pa.ipc.new_stream(self._file, columns.record_schema(schema))

    def write(self, records: pa.RecordBatch) -> None:
        """Append records."""
        self._writer.write_batch(records)

    def finish(self) -> None:
        """End the file."""
        self._writer.close()
        self._file.close()

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read the file back, a batch at a time."""
        with self._staging.open("rb") as file, pa.ipc.open_stream(file) as stream:
            yield from columns.rebatch(iter(stream), rows_max=batch_rows)

    def switch(self) -> None:
        """Give the file its name."""
        self._staging.replace(self._path)

    def discard(self) -> None:
        """Remove the file unless it has its name."""
        self._file.close()
        self._staging.unlink(missing_ok=True)
