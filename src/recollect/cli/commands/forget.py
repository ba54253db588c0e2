"""`recollect forget`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recollect.catalog.catalog import Catalog
from recollect.catalog.tags import check_tag
from recollect.cli.commands.prune import sweep
from recollect.cli.options import DryRunOption, read_count
from recollect.cli.session import Session
from recollect.cli.text import SHORT_ID_LENGTH, count_text, time_text
from recollect.errors import RequestError
from recollect.operations import forget
from recollect.policy.duration import Duration, parse_duration
from recollect.policy.retention import RetentionRules
from recollect.repository.repository import Repository
from recollect.wiring import recorded_source

STOPPED = "snapshots that were listed as kept are all there; run the same command again to go on"

_Count = Annotated[
    str, typer.Option(metavar="N", help="Keep the newest of each of the last N; `unlimited` for all.")
]
_Within = Annotated[str, typer.Option(metavar="DURATION", help="The same, within this time.")]


def run(
    session: Session,
    snapshots: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SNAP]...", help="Snapshots to drop, instead of a policy.", show_default=False
        ),
    ] = None,
    *,
    keep_last: Annotated[
        str, typer.Option(metavar="N", help="Keep the newest N snapshots; `unlimited` for all.")
    ] = "",
    keep_hourly: _Count = "",
    keep_daily: _Count = "",
    keep_weekly: _Count = "",
    keep_monthly: _Count = "",
    keep_yearly: _Count = "",
    keep_within: Annotated[
        str, typer.Option(metavar="DURATION", help="Keep everything this young, such as 30d or 1y5m7d2h.")
    ] = "",
    keep_within_hourly: _Within = "",
    keep_within_daily: _Within = "",
    keep_within_weekly: _Within = "",
    keep_within_monthly: _Within = "",
    keep_within_yearly: _Within = "",
    keep_tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Keep everything with this tag; may be repeated.")
    ] = None,
    source: Annotated[str, typer.Option(metavar="URL", help="Look at snapshots of this source only.")] = "",
    host: Annotated[str, typer.Option(metavar="H", help="Look at snapshots made on this host only.")] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="T", help="Look at snapshots with this tag only; may be repeated."),
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Then delete data that no snapshot needs.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Drop snapshots that no rule keeps, or those that are named.

    A snapshot stays if any rule keeps it; the newest of each source always stays. Rules apply to each host
    and source by itself. Without rules on the command line those of the settings file count.
    """
    counts = {
        "keep_last": keep_last,
        "keep_hourly": keep_hourly,
        "keep_daily": keep_daily,
        "keep_weekly": keep_weekly,
        "keep_monthly": keep_monthly,
        "keep_yearly": keep_yearly,
    }
    durations = {
        "keep_within": keep_within,
        "keep_within_hourly": keep_within_hourly,
        "keep_within_daily": keep_within_daily,
        "keep_within_weekly": keep_within_weekly,
        "keep_within_monthly": keep_within_monthly,
        "keep_within_yearly": keep_within_yearly,
    }
    given = read_rules(counts, durations, [check_tag(tag) for tag in keep_tag or ()])
    chosen = forget.SnapshotFilter(
        source=recorded_source(source) if source else "", host=host, tags=tuple(tag or ())
    )
    repository = session.repository()
    plan = _plan(session, repository, tuple(snapshots or ()), given, chosen)
    _tell_plan(session, plan)
    if not plan.decisions:
        session.output.note("no snapshot fits; `recollect snapshots` lists hosts, sources and tags")
    forgotten = [snapshot.id for snapshot in plan.forgotten]
    if not dry_run:
        forget.apply(plan, Catalog(repository), on_event=session.output.on_event)
    session.output.say(_closing(len(forgotten), dry_run=dry_run, prune=prune))
    facts: dict[str, Any] = {
        "is_dry_run": dry_run,
        "kept_count": len(plan.kept),
        "forgotten_count": len(forgotten),
        "forgotten": forgotten,
    }
    if prune:
        facts["prune"] = sweep(session, repository, forgotten, dry_run=dry_run)
    session.output.summary(facts)


def read_rules(counts: dict[str, str], durations: dict[str, str], tags: list[str]) -> RetentionRules | None:
    """Read the --keep options; None when there is none.

    Raises:
        RequestError: One is no number or no duration.
    """
    read: dict[str, int | Duration] = {}
    for name, text in counts.items():
        if text:
            read[name] = read_count(text, _option(name))
    for name, text in durations.items():
        if text:
            read[name] = parse_duration(text)
    if not read and not tags:
        return None
    return RetentionRules(**read, keep_tags=tuple(tags))  # type: ignore[arg-type]  # names choose the types


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _plan(
    session: Session,
    repository: Repository,
    named: tuple[str, ...],
    given: RetentionRules | None,
    chosen: forget.SnapshotFilter,
) -> forget.ForgetPlan:
    catalog = Catalog(repository)
    if named:
        if given is not None or chosen != forget.SnapshotFilter():
            raise RequestError("snapshots are named and a policy is given too", "do one after the other")
        return forget.plan_selected(catalog, named)
    rules = given or session.settings.retention or RetentionRules()
    return forget.plan_policy(catalog, rules, now=session.context.clock.now(), chosen=chosen)


def _tell_plan(session: Session, plan: forget.ForgetPlan) -> None:
    rows = []
    for snapshot, decision in plan.decisions:
        action = "keep" if decision.keep else "forget"
        reasons = "; ".join(decision.reasons)
        short = snapshot.id[:SHORT_ID_LENGTH]
        rows.append([action, short, time_text(snapshot.created_at), snapshot.host, snapshot.source, reasons])
        facts = {"snapshot_id": snapshot.id, "created_at": snapshot.created_at, "source": snapshot.source}
        facts |= {"host": snapshot.host, "keep": decision.keep, "reasons": decision.reasons}
        session.output.emit("decision", facts)
    session.output.table(["Action", "ID", "Time (UTC)", "Host", "Source", "Reasons"], rows)


def _closing(count: int, *, dry_run: bool, prune: bool) -> str:
    what = count_text(count, "snapshot")
    if dry_run:
        return f"{what} would be forgotten; nothing was changed (--dry-run)"
    advice = "; `recollect prune` frees their space" if count and not prune else ""
    return f"{what} forgotten{advice}"
