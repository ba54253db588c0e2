"""`recollect snapshots`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recollect.cli.session import Session
from recollect.cli.text import SHORT_ID_LENGTH, count_text, size_text, time_text
from recollect.operations.forget import SnapshotFilter
from recollect.values.snapshot import Snapshot
from recollect.wiring import recorded_source

STOPPED = "nothing was changed"


def run(
    session: Session,
    *,
    source: Annotated[str, typer.Option(metavar="URL", help="Only snapshots of this source.")] = "",
    host: Annotated[str, typer.Option(metavar="H", help="Only snapshots made on this host.")] = "",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Only snapshots with this tag; may be repeated.")
    ] = None,
    latest: Annotated[int, typer.Option(metavar="N", min=0, help="Only the newest N; 0 means all.")] = 0,
) -> None:
    """List snapshots, oldest first. Times are UTC.

    What cannot be read is reported after those that can, and the exit code is that of the damage.
    """
    chosen = SnapshotFilter(
        source=recorded_source(source) if source else "", host=host, tags=tuple(tag or ())
    )
    snapshots, unreadable = session.catalog().survey()
    found = [snapshot for snapshot in snapshots if chosen.fits(snapshot)][-latest:]
    if not found:
        session.output.say("no snapshots")
    else:
        session.output.table(
            ["ID", "Time (UTC)", "Name", "Host", "Source", "Tags", "Records", "Stored"],
            [_row(snapshot) for snapshot in found],
            right=["Records", "Stored"],
        )
    for snapshot in found:
        session.output.emit("snapshot", brief_facts(snapshot))
    if unreadable:
        raise unreadable[0][1]
    session.output.summary({"snapshot_count": len(found)})


def brief_facts(snapshot: Snapshot) -> dict[str, Any]:
    """Return what a listing tells of a snapshot."""
    names = (
        "engine",
        "engine_version",
        "source",
        "host",
        "tool_version",
        "parent",
        "name",
        "description",
        "tags",
    )
    return {
        "snapshot_id": snapshot.id,
        "created_at": snapshot.created_at,
        **{name: getattr(snapshot, name) for name in names},
        "collections": [
            {"name": entry.name, "record_count": entry.record_count, "fingerprint": entry.fingerprint}
            for entry in snapshot.collections
        ],
        "stored_bytes": snapshot.stored_bytes,
        "duration_seconds": snapshot.duration_seconds,
    }


def _row(snapshot: Snapshot) -> list[str]:
    return [
        snapshot.id[:SHORT_ID_LENGTH],
        time_text(snapshot.created_at),
        snapshot.name,
        snapshot.host,
        snapshot.source,
        ",".join(snapshot.tags),
        count_text(sum(entry.record_count for entry in snapshot.collections)),
        size_text(snapshot.stored_bytes),
    ]
