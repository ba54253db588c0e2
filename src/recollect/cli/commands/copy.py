"""`recollect copy`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recollect.cli.options import DryRunOption
from recollect.cli.session import Session
from recollect.cli.text import count_text, seconds_text, size_text
from recollect.errors import RequestError
from recollect.operations import copy
from recollect.values.snapshot import Snapshot

STOPPED = "snapshots that were copied are whole; run the same command again, it goes on with the rest"


def run(
    session: Session,
    snapshot: Annotated[
        list[str] | None, typer.Argument(metavar="[SNAP]...", help="Snapshots to copy; all if none is named.")
    ] = None,
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="REPO", help="Repository to copy into; `recollect init` makes one.")
    ] = "",
    dry_run: DryRunOption = False,
) -> None:
    """Copy snapshots into another repository, under the same ids.

    Only what is not there yet travels, and every object is checked on the way. Afterwards either
    repository restores alone.
    """
    if not to:
        raise RequestError("no repository to copy into is named", "give --to REPO")
    destination, wanted = session.other_repository(to), tuple(snapshot or ())
    if dry_run:
        plan = copy.plan(session.repository(), destination, wanted)
        session.output.say(_planned(plan))
        session.output.summary(_plan_facts(plan))
        return
    with session.reading(f"copy to {destination.url}") as origin:
        plan = copy.plan(origin, destination, wanted)
        report = copy.apply(
            plan,
            origin,
            destination,
            clock=session.context.clock,
            random_bytes=session.context.random_bytes,
            on_event=session.output.on_event,
            wait_s=session.wait_s,
        )
    session.output.say(
        f"copied {_snapshots(report.snapshots)} into {destination.url}: "
        f"{count_text(report.object_count, 'object')}, {size_text(report.added_bytes)} added, "
        f"{seconds_text(report.duration_seconds)}{_there(plan)}"
    )
    session.output.summary(
        {
            **_plan_facts(plan),
            "is_dry_run": False,
            "copied": [each.id for each in report.snapshots],
            "object_count": report.object_count,
            "added_bytes": report.added_bytes,
            "duration_seconds": round(report.duration_seconds, 3),
        }
    )


def _planned(plan: copy.CopyPlan) -> str:
    return (
        f"{_snapshots(plan.snapshots)} would be copied, {count_text(len(plan.objects), 'object')} "
        f"({size_text(plan.byte_size)}){_there(plan)}; nothing was changed (--dry-run)"
    )


def _plan_facts(plan: copy.CopyPlan) -> dict[str, Any]:
    return {
        "is_dry_run": True,
        "copied": [each.id for each in plan.snapshots],
        "present": plan.present,
        "object_count": len(plan.objects),
        "added_bytes": plan.byte_size,
    }


def _snapshots(snapshots: tuple[Snapshot, ...]) -> str:
    return count_text(len(snapshots), "snapshot")


def _there(plan: copy.CopyPlan) -> str:
    return f"; {_snapshots_there(len(plan.present))}" if plan.present else ""


def _snapshots_there(count: int) -> str:
    return f"{count_text(count, 'snapshot')} {'was' if count == 1 else 'were'} there already"
