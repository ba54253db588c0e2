"""`recollect find`."""

from __future__ import annotations

from typing import Annotated

import typer

from recollect.cli.session import Session
from recollect.cli.text import SHORT_ID_LENGTH, count_text, printable, time_text
from recollect.errors import EXIT_PARTIAL
from recollect.operations import find
from recollect.operations.forget import SnapshotFilter
from recollect.values.key import RecordId, parse_record_id
from recollect.wiring import recorded_source

STOPPED = "nothing was changed"


def run(
    session: Session,
    record: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Record ids; =42 is the string 42, not the number.")
    ],
    *,
    collection: Annotated[
        str, typer.Option("--collection", metavar="C", help="Only this collection; else all.")
    ] = "",
    source: Annotated[str, typer.Option(metavar="URL", help="Only snapshots of this source.")] = "",
) -> int:
    """Show in which snapshots records stand, and between which of them they changed.

    Exit code 3: some ids are in no snapshot.
    """
    chosen = SnapshotFilter(source=recorded_source(source) if source else "")
    catalog = session.catalog()
    snapshots, unreadable = catalog.survey()
    for key, error in unreadable:
        session.output.note(f"{key} is left out: {error.message}")
    ids = [parse_record_id(text) for text in record]
    histories = find.run(
        catalog.repository,
        [snapshot for snapshot in snapshots if chosen.fits(snapshot)],
        ids,
        collection=collection,
        on_event=session.output.on_event,
    )
    for history in histories:
        _tell(session, history)
    known = {history.record_id for history in histories}
    absent = [record_id for record_id in dict.fromkeys(ids) if record_id not in known]
    for record_id in absent:
        session.output.note(f"no snapshot that was looked at has a record {_id_text(record_id)}")
    session.output.summary({"record_count": len(histories), "absent_ids": absent})
    return EXIT_PARTIAL if absent else 0


def _tell(session: Session, history: find.RecordHistory) -> None:
    session.output.say(
        printable(f"record {_id_text(history.record_id)} of {history.collection} in {history.source}")
    )
    session.output.table(
        ["Change", "From", "Time (UTC)", "To", "Time (UTC)", "Snapshots"],
        [
            [
                ", ".join([version.change, *version.fields]) if version.fields else version.change,
                version.first.id[:SHORT_ID_LENGTH],
                time_text(version.first.created_at),
                version.last.id[:SHORT_ID_LENGTH],
                time_text(version.last.created_at),
                count_text(len(version.snapshots)),
            ]
            for version in history.versions
        ],
        right=["Snapshots"],
    )
    facts = {
        "record_id": history.record_id,
        "source": history.source,
        "collection": history.collection,
        "versions": [
            {
                "change": version.change,
                "fields": version.fields,
                "snapshots": version.snapshots,
                "first_created_at": version.first.created_at,
                "last_created_at": version.last.created_at,
            }
            for version in history.versions
        ],
    }
    session.output.emit("record", facts)


def _id_text(record_id: RecordId) -> str:
    """Render an id so that a number and a text of digits can be told apart."""
    return (
        f"={record_id}"
        if isinstance(record_id, str) and parse_record_id(record_id) != record_id
        else str(record_id)
    )
