"""Prune: delete objects that no snapshot lists, and what dead processes left behind."""

from __future__ import annotations

from collections.abc import Collection

from recollect.catalog.catalog import Catalog
from recollect.clock import Clock
from recollect.errors import StorageFullError
from recollect.repository.garbage import GarbagePlan, SweepReport, plan_sweep, sweep
from recollect.repository.lease import WAIT_S
from recollect.repository.repository import Repository
from recollect.values.event import OnEvent, ignore_events
from recollect.values.ulid import RandomBytes


def plan(repository: Repository, *, without: Collection[str] = ()) -> GarbagePlan:
    """List what no snapshot needs. Reads only; any failure to read is an error, never "nothing needed".

    Snapshots whose ids are in `without` count as forgotten already. Such a plan is to look at: applied while
    one of them is there, it deletes nothing that it needs.
    """
    catalog = Catalog(repository)
    return plan_sweep(repository, lambda: catalog.mark(without=without))


def apply(
    plan: GarbagePlan,
    repository: Repository,
    *,
    clock: Clock,
    random_bytes: RandomBytes,
    on_event: OnEvent = ignore_events,
    wait_s: float = WAIT_S,
) -> SweepReport:
    """Delete what the plan lists and is still garbage; see `repository.garbage.sweep`."""
    catalog = Catalog(repository)
    try:
        report = sweep(
            repository,
            plan,
            catalog.mark,
            clock=clock,
            random_bytes=random_bytes,
            on_event=on_event,
            wait_s=wait_s,
        )
    except StorageFullError as error:
        raise StorageFullError(
            error.message,
            "prune itself writes some hundred bytes: `recollect forget SNAP` of one snapshot, which writes "
            "nothing, makes room for them; then run this again",
        ) from error
    catalog.drop_orphan_tags()
    return report
