"""`recollect restore`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any

import typer

from recollect.catalog.catalog import Catalog
from recollect.cli import undeletion
from recollect.cli.options import DryRunOption, SnapshotArgument
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, seconds_text, size_text
from recollect.engines.base import Target
from recollect.errors import RequestError
from recollect.operations import restore
from recollect.operations.reading import unless_forgotten
from recollect.operations.restore_plan import Estimate, Wanted
from recollect.values.snapshot import Snapshot

STOPPED = "the target is as it was before, unless the summary was printed; run the same command again"


TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="Database, such as qdrant://host:6334 or edge:///path.")
]
RenamedOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="C[:NEWNAME]", help="Only this collection, under a new name if given; may be repeated."
    ),
]
FastOption = Annotated[
    bool, typer.Option("--fast", help="By the engine's own files, with their index (backup --physical).")
]
LogicalOption = Annotated[
    bool, typer.Option("--logical", help="By records, even where files would be faster.")
]


def run(
    session: Session,
    snapshot: SnapshotArgument,
    target: TargetArgument,
    *,
    collection: RenamedOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace collections that exist and hold records.")
    ] = False,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID,…|@FILE",
            help="Only these records, into the collection that is in use; may be repeated.",
        ),
    ] = None,
    filter: Annotated[  # noqa: A002 -- the option's name
        list[str] | None,
        typer.Option(
            metavar="F=V", help="Only records whose payload fits, as --ids; may be repeated: all must fit."
        ),
    ] = None,
    fast: FastOption = False,
    logical: LogicalOption = False,
    dry_run: DryRunOption = False,
) -> int:
    """Restore collections of a snapshot into TARGET.

    All or nothing: everything is checked and written under temporary names, compared record by record
    with the snapshot, and only then switched into place. With --ids or --filter, selected records of one
    collection are written into the live one instead; those that are there with other content are
    kept unless --replace is given.
    """
    if ids or filter:
        if len(collection or ()) > 1:
            raise RequestError("--ids and --filter select from one collection", "name it with --collection C")
        if fast or logical:
            raise RequestError(
                "--fast and --logical are for whole collections; selected records come back as records",
                "leave them out",
            )
        selection = undeletion.read_selection(ids or [], filter or [])
        name = (collection or [""])[0]
        return undeletion.run(session, snapshot, target, name, selection, replace=replace, dry_run=dry_run)
    way = _way(is_fast=fast, is_logical=logical)
    existing: restore.Existing = "replace" if replace else "refuse"
    with (
        nullcontext(session.repository()) if dry_run else session.reading(f"restore of {snapshot}")
    ) as repository:
        catalog = Catalog(repository)
        found = catalog.find(snapshot)
        collections = tuple(_renaming(text, found) for text in collection or ())
        options = restore.RestoreOptions(collections=collections, existing=existing, way=way)
        with session.target(target) as opened:
            plan = restore.plan(found, opened, options=options, history=catalog.survey()[0])
            if dry_run:
                _tell_plan(session, plan)
                return 0
            _apply(session, catalog, plan, opened)
    return 0


def _apply(session: Session, catalog: Catalog, plan: restore.RestorePlan, target: Target) -> None:
    with unless_forgotten(catalog, plan.snapshot):
        report = restore.apply(
            plan,
            catalog.repository,
            target,
            clock=session.context.clock,
            on_event=session.output.on_event,
        )
    _tell(session, report)


def _way(*, is_fast: bool, is_logical: bool) -> Wanted:
    if is_fast and is_logical:
        raise RequestError("--fast and --logical are given", "choose one, or none for the planner's choice")
    return "files" if is_fast else "records" if is_logical else "auto"


def _renaming(text: str, snapshot: Snapshot) -> tuple[str, str]:
    """Read `C` or `C:NEWNAME`; a collection whose name has a colon is taken as it stands."""
    if any(entry.name == text for entry in snapshot.collections):
        return text, text
    name, _, new_name = text.rpartition(":") if ":" in text else (text, "", text)
    if not name or not new_name:
        raise RequestError(f"--collection is {text!r}", "write C, or C:NEWNAME")
    return name, new_name


def _tell_plan(session: Session, plan: restore.RestorePlan) -> None:
    session.output.say(f"would restore snapshot {plan.snapshot.id} into {printable(plan.target_url)}:")
    rows = [
        [
            step.entry.name,
            step.target_name,
            f"replace {count_text(step.replaced_count, 'record')}" if step.action == "replace" else "create",
            count_text(step.entry.record_count),
            step.way.method,
            size_text(step.stored_bytes),
            size_text(step.way.estimate.sent_bytes),
            _time_text(step.way.estimate),
        ]
        for step in plan.steps
    ]
    session.output.table(
        ["Collection", "As", "Action", "Records", "By", "To read", "To send", "About"],
        rows,
        right=["Records", "To read", "To send"],
    )
    for step in plan.steps:
        base = f" {step.way.base.snapshot_id}" if step.way.base is not None else ""
        session.output.say(f"{step.target_name}: by {step.way.method}{base} ({step.way.reason})")
    session.output.say("nothing was changed (--dry-run)")
    steps = [
        {
            "name": step.entry.name,
            "target_name": step.target_name,
            "action": step.action,
            "record_count": step.entry.record_count,
            "replaced_count": step.replaced_count,
            "stored_bytes": step.stored_bytes,
            "method": step.way.method,
            "reason": step.way.reason,
            "base": step.way.base.snapshot_id if step.way.base is not None else None,
            "sent_bytes": step.way.estimate.sent_bytes,
            "seconds": round(step.way.estimate.seconds, 1),
            "index_seconds": round(step.way.estimate.index_seconds, 1),
            "fingerprint": step.entry.fingerprint,
        }
        for step in plan.steps
    ]
    session.output.summary(
        {"snapshot_id": plan.snapshot.id, "target": plan.target_url, "is_dry_run": True, "collections": steps}
    )


def _time_text(estimate: Estimate) -> str:
    index = f" + {seconds_text(estimate.index_seconds)} for the index" if estimate.index_seconds >= 1 else ""
    return f"{seconds_text(estimate.seconds)}{index}"


def _tell(session: Session, report: restore.RestoreReport) -> None:
    output = session.output
    output.table(
        ["Collection", "As", "Records", "By", "Fingerprint", "Matches"],
        [
            [
                one.name,
                one.target_name,
                count_text(one.record_count),
                one.method,
                one.fingerprint,
                "yes" if one.is_match else "NO",
            ]
            for one in report.collections
        ],
        right=["Records"],
    )
    for one in report.collections:
        if one.adapted_count:
            output.note(
                f"{one.target_name}: {count_text(one.adapted_count, 'record')} adapted "
                "to what this engine can hold"
            )
    output.say(
        f"restored snapshot {report.snapshot_id} into {printable(report.target_url)}, every record compared, "
        f"{seconds_text(report.duration_seconds)}"
    )
    output.summary(_facts(report))


def _facts(report: restore.RestoreReport) -> dict[str, Any]:
    collections = [
        {
            "name": one.name,
            "target_name": one.target_name,
            "record_count": one.record_count,
            "fingerprint": one.fingerprint,
            "expected_fingerprint": one.expected,
            "fingerprint_matched": one.is_match,
            "adapted_count": one.adapted_count,
            "method": one.method,
        }
        for one in report.collections
    ]
    return {
        "snapshot_id": report.snapshot_id,
        "target": report.target_url,
        "is_dry_run": False,
        "fingerprint_matched": all(one.is_match for one in report.collections),
        "collections": collections,
        "duration_seconds": round(report.duration_seconds, 3),
    }
