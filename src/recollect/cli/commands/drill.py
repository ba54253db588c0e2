"""`recollect drill`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from recollect import __version__, wiring
from recollect.catalog.catalog import Catalog
from recollect.catalog.drills import list_drills
from recollect.cli.drill_page import drill_page
from recollect.cli.options import CollectionsOption
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, seconds_text, time_text
from recollect.engines.base import Target
from recollect.errors import AccessError, VerificationError
from recollect.operations import drill
from recollect.operations.reading import unless_forgotten
from recollect.repository.repository import Repository
from recollect.values.drill import DrillReport
from recollect.values.snapshot import Snapshot

STOPPED = "what was restored for the drill was dropped; nothing was written into the ledger"


def run(
    session: Session,
    snapshot: Annotated[
        str, typer.Argument(metavar="[SNAP]", help="Snapshot; by default the newest.", show_default=False)
    ] = "latest",
    *,
    target: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Restore into this engine instead of a Qdrant Edge shard in --scratch."
        ),
    ] = "",
    scratch: Annotated[
        str,
        typer.Option(metavar="DIR", help="Where the scratch shard goes; by default the temporary directory."),
    ] = "",
    collection: CollectionsOption = None,
    queries: Annotated[int, typer.Option(metavar="N", help="Queries to replay of each collection.")] = 20,
    k: Annotated[int, typer.Option("-k", metavar="K", help="Neighbours of one query.")] = 10,
    min_recall: Annotated[
        float, typer.Option(metavar="R", help="Mean recall below which the drill fails.")
    ] = 0.9,
    report: Annotated[str, typer.Option(metavar="FILE", help="Also write the report as JSON.")] = "",
    html: Annotated[str, typer.Option(metavar="FILE", help="Also write it as a page of HTML.")] = "",
    ledger: Annotated[bool, typer.Option("--ledger", help="Run no drill; list those that were run.")] = False,
) -> None:
    """Restore a snapshot into a scratch engine, prove it, replay queries, and write down the result.

    The fingerprint must be equal and the index must find what exact search finds; otherwise the drill
    failed, exit code 22. The ledger in the repository remembers every drill.
    """
    if ledger:
        _tell_ledger(session, list_drills(session.repository()))
        return
    options = drill.DrillOptions(
        collections=tuple(collection or ()),
        query_count=queries,
        k=k,
        recall_required=min_recall,
        host=session.settings.host,
        tool_version=__version__,
    )
    with (
        session.reading(f"drill of {snapshot}") as repository,
        _scratch_directory(scratch) as directory,
    ):

        def open_scratch(number: int) -> Target:
            return wiring.open_target(target or f"edge://{quote(directory)}/{number}", session.context)

        catalog = Catalog(repository)
        found = catalog.find(snapshot)
        with unless_forgotten(catalog, found):
            result = _drill(session, repository, found, open_scratch, options)
    _write(report, msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    _write(html, drill_page(result).encode())
    _tell(session, result)


@contextmanager
def _scratch_directory(place: str) -> Iterator[str]:
    try:
        directory = tempfile.TemporaryDirectory(prefix="recollect-drill-", dir=place or None)
    except OSError as error:
        raise AccessError(
            f"no scratch shard can be made in {place or 'the temporary directory'}: {error.strerror}",
            "name a directory that exists and may be written: --scratch DIR",
        ) from error
    with directory as path:
        yield path


def _drill(
    session: Session,
    repository: Repository,
    snapshot: Snapshot,
    open_scratch: drill.OpenScratch,
    options: drill.DrillOptions,
) -> DrillReport:
    return drill.run(
        repository,
        snapshot,
        open_scratch,
        options=options,
        clock=session.context.clock,
        random_bytes=session.context.random_bytes,
        on_event=session.output.on_event,
    )


def _write(path: str, content: bytes) -> None:
    if not path:
        return
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise AccessError(
            f"the report {path} cannot be written: {error.strerror}",
            "the ledger has it: recollect drill --ledger",
        ) from error


def _tell(session: Session, report: DrillReport) -> None:
    session.output.table(
        ["Collection", "Records", "Equal", "Restore", "Index", "Queries", "Recall", "Worst", "Latency"],
        [
            [
                one.name,
                count_text(one.record_count),
                "yes" if one.is_match else "NO",
                seconds_text(one.restore_seconds),
                seconds_text(one.index_seconds),
                str(one.query_count),
                f"{one.recall_mean:.3f}" if one.query_count else "-",
                f"{one.recall_min:.3f}" if one.query_count else "-",
                f"{one.latency_ms_mean:.1f} ms" if one.query_count else "-",
            ]
            for one in report.collections
        ],
        right=["Records", "Queries"],
    )
    session.output.summary(
        {"drill_id": report.id, "is_passed": report.is_passed, **msgspec.to_builtins(report)}
    )
    if not report.is_passed:
        raise VerificationError(
            f"the drill of snapshot {report.snapshot_id} failed: {report.failure}",
            "run `recollect verify --read-data`, and drill an earlier snapshot: recollect drill latest~1",
        )
    session.output.say(
        printable(f"drill passed: snapshot {report.snapshot_id} restores into {report.target}, ")
        + seconds_text(report.duration_seconds)
    )


def _tell_ledger(session: Session, reports: list[DrillReport]) -> None:
    for one in reports:
        session.output.emit("drill", {"is_passed": one.is_passed, **msgspec.to_builtins(one)})
    session.output.table(
        ["When", "Snapshot", "Into", "Time", "Result"],
        [
            [
                time_text(one.started_at),
                one.snapshot_id,
                printable(one.target),
                seconds_text(one.duration_seconds),
                "passed" if one.is_passed else printable(f"FAILED: {one.failure}"),
            ]
            for one in reports
        ],
    )
    session.output.summary({"drill_count": len(reports)})
