"""`recollect backup`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recollect import __version__
from recollect.catalog.tags import check_tag
from recollect.cli.options import CollectionsOption, read_text
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, seconds_text, size_text
from recollect.errors import RequestError
from recollect.operations import backup
from recollect.policy.duration import Duration, parse_duration
from recollect.values.snapshot import CollectionEntry

STOPPED = "no snapshot was made; run the same command again, it reuses what was stored already"


PhysicalOption = Annotated[
    bool,
    typer.Option(
        "--physical", help="Store the engine's own files too: a restore then brings the index along."
    ),
]
PhysicalEveryOption = Annotated[
    str, typer.Option(metavar="D", help="Do so if it can be done and the newest such snapshot is older: 7d.")
]
ExecutorOption = Annotated[
    str,
    typer.Option(
        metavar="E", help="Who reads shards of a server: threads:N, processes:N, or dask://host:8786."
    ),
]


def run(
    session: Session,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Database, such as qdrant://host:6334 or edge:///path [RECOLLECT_SOURCE].",
            show_default=False,
        ),
    ] = "",
    *,
    collection: CollectionsOption = None,
    name: Annotated[str, typer.Option(metavar="N", help="Name of the snapshot, to select it by.")] = "",
    description: Annotated[str, typer.Option(metavar="D", help="A sentence to keep with the snapshot.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="T", help="Tag; may be repeated.")] = None,
    host: Annotated[str, typer.Option(metavar="H", help="Host to record instead of this one.")] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Store everything anew, comparing with no earlier snapshot.")
    ] = False,
    physical: PhysicalOption = False,
    physical_every: PhysicalEveryOption = "",
    executor: ExecutorOption = "",
    scan: Annotated[
        bool, typer.Option("--scan", help="Read every record even where the engine can tell what changed.")
    ] = False,
) -> None:
    """Back up the collections of SOURCE and commit one snapshot.

    Only changes since the newest snapshot of the same source are stored; every snapshot
    restores alone all the same.
    """
    url = source or session.settings.source
    if not url:
        raise RequestError("no source is named", "give its URL, or set RECOLLECT_SOURCE")
    if full and scan:
        raise RequestError("--full and --scan are given", "--full reads and stores everything: it is enough")
    options = backup.BackupOptions(
        collections=tuple(collection or ()),
        name=read_text(name, "--name"),
        description=read_text(description, "--description"),
        tags=tuple(check_tag(read_text(each, "--tag")) for each in tag or ()),
        host=read_text(host or session.settings.host, "--host"),
        tool_version=__version__,
        compare="nothing" if full else "scan" if scan else "changes",
        files=_files_after(physical_every, is_now=physical),
        files_or="fail" if physical else "records",
        wait_s=session.wait_s,
    )
    repository = session.repository()
    with session.workforce(executor) as workforce, session.source(url) as opened:
        report = backup.run(
            opened,
            repository,
            options=options,
            clock=session.context.clock,
            random_bytes=session.context.random_bytes,
            workforce=workforce,
            on_event=session.output.on_event,
        )
    _tell(session, report)


def _files_after(every: str, *, is_now: bool) -> Duration | None:
    """Return how old the newest stored files must be for new ones; None for never."""
    if is_now and every:
        raise RequestError("--physical and --physical-every are given", "--physical is always: it is enough")
    if is_now:
        return Duration()
    return parse_duration(every) if every else None


def _tell(session: Session, report: backup.BackupReport) -> None:
    snapshot, output = report.snapshot, session.output
    named = f" ({snapshot.name})" if snapshot.name else ""
    output.say(f"snapshot {snapshot.id}{named} of {snapshot.source}")
    output.table(
        ["Collection", "Records", "Added", "Changed", "Removed", "Consistency"],
        [_row(entry) for entry in snapshot.collections],
        right=["Records", "Added", "Changed", "Removed"],
    )
    with_files = [entry.name for entry in snapshot.collections if entry.has_files]
    if with_files:
        output.say(f"with the engine's own files: {', '.join(map(printable, with_files))}")
    output.say(
        f"{size_text(report.source_bytes)} of records, {size_text(report.stored_bytes)} added "
        f"to the repository, {seconds_text(report.duration_seconds)}"
    )
    output.summary(
        {
            "snapshot_id": snapshot.id,
            "parent": snapshot.parent,
            "name": snapshot.name,
            "source": snapshot.source,
            "created_at": snapshot.created_at,
            "collections": [_facts(entry) for entry in snapshot.collections],
            "source_bytes": report.source_bytes,
            "stored_bytes": report.stored_bytes,
            "duration_seconds": round(report.duration_seconds, 3),
        }
    )


def _row(entry: CollectionEntry) -> list[str]:
    changes = entry.changes
    counts = (entry.record_count, changes.added, changes.changed, changes.removed)
    return [entry.name, *map(count_text, counts), entry.consistency]


def _facts(entry: CollectionEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "record_count": entry.record_count,
        "fingerprint": entry.fingerprint,
        "added": entry.changes.added,
        "changed": entry.changes.changed,
        "removed": entry.changes.removed,
        "consistency": entry.consistency,
        "source_bytes": entry.source_bytes,
        "has_files": entry.has_files,
        "shards": [
            {
                "shard_id": shard.shard_id,
                "shard_key": shard.shard_key,
                "replica": shard.replica,
                "replicas": shard.replicas,
                "consistency": shard.consistency,
                "transfer": shard.transfer,
                "transferred_bytes": shard.transferred_bytes,
            }
            for shard in entry.shards
        ],
    }
