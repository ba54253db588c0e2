"""The checkpoints of an embedded database, in its directory or at the server that has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from recollect.cli.session import Session
from recollect.database import CheckpointOptions, Database, DatabaseOptions, VectorOptions
from recollect.database.checkpoint.load import checkpoint_commit, checkpoints_newest_first
from recollect.database.data_directory import CHECKPOINTS, read_identity
from recollect.database.log.files import DiskFiles
from recollect.errors import LeaseHeldError, RepositoryNotFoundError, RequestError
from recollect.values.snapshot import Snapshot
from recollect.wiring import open_repository

DataArgument = Annotated[str, typer.Argument(metavar="[DATA]", help="The database's data directory.")]
ServerOption = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Ask a running `recollect serve` instead.")
]

# What is dropped after a checkpoint is for whoever runs the database to say; from here, nothing.
_KEEP_ALL = CheckpointOptions(
    commit_interval=0, time_interval_s=0.0, keep_last=1_000_000_000, log_window_s=50 * 365 * 86_400.0
)
_OPTIONS = DatabaseOptions(checkpoints=_KEEP_ALL, vectors=VectorOptions(hnsw_row_count_min=0))


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint."""

    id: str
    commit_ts: int
    name: str
    description: str


def take(session: Session, data: str, server: str, name: str, description: str) -> Checkpoint:
    """Take a checkpoint and return it.

    Raises:
        LeaseHeldError: The directory is in use.
        NotFoundError: There is no database in it.
    """
    path = _place(data, server)
    if path is None:
        from recollect.compat.statehouse.client import ServerClient  # noqa: PLC0415 - optional dependencies

        with ServerClient(server) as client:
            return Checkpoint(**client.create_checkpoint(name, description)._asdict())
    read_identity(DiskFiles(), path)  # or an empty database would be made
    try:
        database = Database.open(
            path, options=_OPTIONS, clock=session.context.clock, random_bytes=session.context.random_bytes
        )
    except LeaseHeldError as error:
        raise LeaseHeldError(
            error.message, "if `recollect serve` has it, give --server HOST:PORT; or close it there"
        ) from error
    with database:
        return _described(database.checkpoint(name or None, description or None))


def checkpoints(session: Session, data: str, server: str) -> list[Checkpoint]:
    """Return all checkpoints, oldest first; those that cannot be read are left out."""
    path = _place(data, server)
    if path is None:
        from recollect.compat.statehouse.client import ServerClient  # noqa: PLC0415 - optional dependencies

        with ServerClient(server) as client:
            return [Checkpoint(**one._asdict()) for one in client.checkpoints()]
    read_identity(DiskFiles(), path)
    try:
        repository = open_repository(str(path / CHECKPOINTS), session.context)
    except RepositoryNotFoundError:
        return []  # none was taken yet
    return [_described(one) for one in checkpoints_newest_first(repository)][::-1]


def _place(data: str, server: str) -> Path | None:
    if bool(data) == bool(server):
        raise RequestError(
            "name either a data directory or a server",
            "give DATA, or --server HOST:PORT of `recollect serve`",
        )
    return Path(data.removeprefix("recollect://")) if data else None


def _described(snapshot: Snapshot) -> Checkpoint:
    return Checkpoint(
        id=snapshot.id,
        commit_ts=checkpoint_commit(snapshot),
        name=snapshot.name,
        description=snapshot.description,
    )
