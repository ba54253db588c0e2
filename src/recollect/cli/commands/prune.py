"""`recollect prune`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from recollect.cli.options import DryRunOption
from recollect.cli.session import Session
from recollect.cli.text import count_text, size_text
from recollect.operations import expire_log, prune
from recollect.operations.expire_log import Extent, LogPlan
from recollect.repository.garbage import GarbagePlan, SweepReport
from recollect.repository.repository import Repository

STOPPED = "what snapshots need was not touched; run the same command again to go on"


def run(
    session: Session,
    *,
    expire: Annotated[
        bool,
        typer.Option("--expire-log", help="Also archived log before the oldest base of each database."),
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete objects that no snapshot needs, and what dead processes left behind.

    Safe beside running backups and restores: it waits for them, and takes nothing that they rely on.
    Archived log that no recovery can use goes as well. With --expire-log also what lies before the
    oldest base (a checkpoint, or a backup of the whole database): commits before it cannot be
    recovered any more, later ones can.
    """
    extent: Extent = "before-oldest-base" if expire else "unreachable"
    session.output.summary(sweep(session, session.repository(), dry_run=dry_run, extent=extent))


def sweep(
    session: Session,
    repository: Repository,
    forgotten: Sequence[str] = (),
    *,
    dry_run: bool,
    extent: Extent = "unreachable",
) -> dict[str, Any]:
    """Carry a prune out, or plan it, tell of it, and return its facts; `forgotten` are as good as gone."""
    plan = prune.plan(repository, without=forgotten)  # of a dry run they are there still
    log = log_found = expire_log.plan(repository, extent=extent, without=forgotten)
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
        log = expire_log.apply(
            log,
            repository,
            clock=session.context.clock,
            random_bytes=session.context.random_bytes,
            wait_s=session.wait_s,
        )
    _tell(session, plan, report)
    _tell_log(session, log, dry_run=dry_run)
    return _facts(plan, report) | {
        "log_piece_count": len(log_found.pieces),
        "log_bytes": log_found.byte_size,
        "log_deleted_count": 0 if dry_run else len(log.pieces),
        "log_deleted_bytes": 0 if dry_run else log.byte_size,
    }


def _tell_log(session: Session, log: LogPlan, *, dry_run: bool) -> None:
    if not log.pieces:
        return
    what = f"{count_text(len(log.pieces), 'piece')} of archived log ({size_text(log.byte_size)})"
    if dry_run:
        for stream, piece in log.pieces:
            session.output.detail(
                f"commits {piece.first} to {piece.last} of {stream}  {size_text(piece.byte_size)}"
            )
    session.output.say(f"{what} would be deleted" if dry_run else f"deleted {what}")


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
