"""`recollect diff`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from recollect import wiring
from recollect.catalog.catalog import Catalog
from recollect.cli.options import CollectionsOption
from recollect.cli.session import Session, only_collection
from recollect.cli.text import count_text, printable
from recollect.errors import RequestError
from recollect.operations import diff
from recollect.operations.reading import unless_forgotten
from recollect.repository.repository import Repository

STOPPED = "nothing was changed"
MARKS = {"added": "+", "changed": "~", "removed": "-"}


def run(
    session: Session,
    before: Annotated[str, typer.Argument(metavar="A", help="Snapshot, or the URL of a live database.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Snapshot, or the URL of a live database.")],
    *,
    collection: CollectionsOption = None,
    records: Annotated[bool, typer.Option("--records", help="List every record that differs.")] = False,
) -> None:
    """Show how B differs from A: two snapshots, or a snapshot and a live database."""
    if wiring.is_source_url(before) and wiring.is_source_url(after):
        raise RequestError(
            "both sides are live databases", "back one of them up first, then compare with the snapshot"
        )
    repository = session.repository()
    with ExitStack() as stack:
        sides = [
            _side(session, repository, text, other, stack)
            for text, other in ((before, after), (after, before))
        ]
        stored = [side.snapshot for side in sides if isinstance(side, diff.SnapshotSide)]
        with unless_forgotten(Catalog(repository), *stored):
            found = diff.run(
                *sides,
                collections=tuple(collection or ()),
                on_record=(lambda record: _tell_record(session, record)) if records else None,
            )
    _tell(session, sides, found)


def _side(session: Session, repository: Repository, text: str, other: str, stack: ExitStack) -> diff.Side:
    if not wiring.is_source_url(text):
        return diff.SnapshotSide(repository, Catalog(repository).find(text))
    compared = only_collection(Catalog(repository).find(other))
    source = stack.enter_context(session.source(text, collection=compared))
    return diff.LiveSide(source, stack.enter_context(source.hold()), session.output.on_event)


def _tell_record(session: Session, record: diff.RecordDifference) -> None:
    what = ", ".join(record.fields)
    line = f"{MARKS[record.change]} {record.collection}/{record.record_id}" + (f"  {what}" if what else "")
    session.output.say(printable(line))
    session.output.emit("record", record)


def _tell(session: Session, sides: list[diff.Side], found: list[diff.CollectionDifference]) -> None:
    rows = []
    for one in found:
        counts = [
            count_text(count) for count in (one.changes.added, one.changes.changed, one.changes.removed)
        ]
        rows.append([one.name, one.state, *counts, one.reason])
        session.output.emit("collection", one)
    session.output.say(f"from {sides[0].label} to {sides[1].label}")
    session.output.table(
        ["Collection", "State", "Added", "Changed", "Removed", ""],
        rows,
        right=["Added", "Changed", "Removed"],
    )
    session.output.summary(
        {
            "before": sides[0].label,
            "after": sides[1].label,
            "is_same": all(one.state == "same" for one in found),
            "added": sum(one.changes.added for one in found),
            "changed": sum(one.changes.changed for one in found),
            "removed": sum(one.changes.removed for one in found),
        }
    )
