"""`recollect prune`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recollect.cli.options import DryRunOption
from recollect.cli.session import Session
from recollect.cli.text import count_text, size_text
from recollect.operations import prune
from recollect.repository.garbage import GarbagePlan, SweepReport
from recollect.repository.repository import Repository

STOPPED = "what snapshots need was not touched; run the same command again to go on"


def run(session: Session, *, dry_run: DryRunOption = False) -> None:
    """Delete objects that no snapshot needs, and what dead processes left behind.

    Safe beside running backups and restores: it waits for them, and takes nothing that they rely on.
    """
    session.output.summary(sweep(session, session.repository(), dry_run=dry_run))


def sweep(
    session: Session, repository: Repository, forgotten: Sequence[str] = (), *, dry_run: bool
) -> dict[str, Any]:
    """Carry a prune out, or plan it, tell of it, and return its facts; `forgotten` are as good as gone."""
    plan = prune.plan(repository, without=forgotten)  # of a dry run they are there still
    report = None
    if not dry_run:
        report = prune.apply(
            plan,
            repository,
            clock=session.context.clock,
            random_bytes=session.context.random_bytes,
            on_event=session.output.on_event,
            wait_s=session.wait_s,
        )
    _tell(session, plan, report)
    return _facts(plan, report)


def _tell(session: Session, plan: GarbagePlan, report: SweepReport | None) -> None:
    unneeded = f"{count_text(len(plan.garbage), 'object')} ({size_text(plan.garbage_bytes)})"
    if report is None:
        for key, byte_size in plan.garbage:
            session.output.detail(f"{key}  {size_text(byte_size)}")
        session.output.say(f"{unneeded} would be deleted; nothing was changed (--dry-run)")
        return
    deleted = f"{count_text(report.deleted_count, 'object')} ({size_text(report.deleted_bytes)})"
    left = (
        f", and {count_text(report.debris_count, 'leftover file')} of dead processes"
        if report.debris_count
        else ""
    )
    session.output.say(
        f"deleted {deleted}{left}; {size_text(plan.object_bytes - report.deleted_bytes)} remain"
    )


def _facts(plan: GarbagePlan, report: SweepReport | None) -> dict[str, Any]:
    return {
        "is_dry_run": report is None,
        "object_count": plan.object_count,
        "object_bytes": plan.object_bytes,
        "garbage_count": len(plan.garbage),
        "garbage_bytes": plan.garbage_bytes,
        "deleted_count": report.deleted_count if report else 0,
        "deleted_bytes": report.deleted_bytes if report else 0,
        "debris_count": report.debris_count if report else 0,
    }
