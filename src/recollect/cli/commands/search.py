"""`recollect search`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import typer

from recollect.cli.options import CollectionOption, SnapshotArgument
from recollect.cli.session import Session, chosen_collection
from recollect.cli.text import printable
from recollect.errors import AccessError, NotFoundError, RequestError
from recollect.operations import search
from recollect.operations.reading import unless_forgotten
from recollect.repository.repository import Repository
from recollect.values.key import RecordId, parse_record_id
from recollect.values.snapshot import CollectionEntry

STOPPED = "nothing was changed"
PAYLOAD_SHOWN_MAX = 100

Vector = npt.NDArray[np.float32]


def run(
    session: Session,
    snapshot: SnapshotArgument,
    *,
    collection: CollectionOption = "",
    vector: Annotated[
        str, typer.Option(metavar="FILE", help="File with the query: a JSON list of numbers, or .npy.")
    ] = "",
    like: Annotated[
        str, typer.Option(metavar="ID", help="Take the vector of this record; `=42` is the string 42.")
    ] = "",
    k: Annotated[int, typer.Option("-k", "--limit", metavar="K", help="How many neighbours.")] = 10,
    using: Annotated[str, typer.Option(metavar="NAME", help="Named vector to search by.")] = "",
) -> None:
    """Find the exact nearest neighbours in a snapshot, without restoring it."""
    if bool(vector) == bool(like):
        raise RequestError("a search needs one query", "give --vector FILE or --like ID")
    catalog = session.catalog()
    found = catalog.find(snapshot)
    entry = chosen_collection(found, collection)
    record_id = parse_record_id(like) if like else None
    with unless_forgotten(catalog, found):
        query = _query(catalog.repository, entry, vector, record_id, using)
        neighbours = search.run(
            catalog.repository,
            entry,
            query,
            vector=using,
            k=k,
            exclude=record_id,
            on_event=session.output.on_event,
        )
    session.output.table(
        ["Score", "ID", "Payload"],
        [[f"{one.score:.4f}", str(one.record_id), _shortened(one.payload)] for one in neighbours],
        right=["Score"],
    )
    for one in neighbours:
        payload = msgspec.Raw(one.payload.encode("utf-8")) if one.payload is not None else None
        session.output.emit("neighbour", {"record_id": one.record_id, "score": one.score, "payload": payload})
    facts = {"snapshot_id": found.id, "collection": entry.name, "neighbour_count": len(neighbours)}
    session.output.summary(facts)


def _query(
    repository: Repository, entry: CollectionEntry, file: str, record_id: RecordId | None, using: str
) -> Vector:
    if record_id is not None:
        return search.vector_of(repository, entry, record_id, using)
    return read_vector(Path(file))


def read_vector(path: Path) -> Vector:
    """Read a query from a JSON list or a NumPy file.

    Shapes: (d,) float32; a NumPy file may hold (1, d).

    Raises:
        NotFoundError, AccessError: The file is absent or unreadable. RequestError: It holds no vector.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise AccessError(f"reading {path}: {error.strerror}") from error
    try:
        if content.startswith(b"\x93NUMPY"):
            values = np.load(io.BytesIO(content), allow_pickle=False)
            return np.ascontiguousarray(
                values.reshape(-1) if values.shape[:-1] in {(), (1,)} else values, dtype=np.float32
            )
        return np.array(msgspec.json.decode(content, type=list[float]), dtype=np.float32)
    except (ValueError, TypeError, msgspec.DecodeError) as error:
        raise RequestError(
            f"{path} holds no vector: {error}", "write a JSON list of numbers, or a .npy file"
        ) from error


def _shortened(payload: str | None) -> str:
    text = printable(payload or "")
    return text if len(text) <= PAYLOAD_SHOWN_MAX else text[: PAYLOAD_SHOWN_MAX - 1] + "…"
