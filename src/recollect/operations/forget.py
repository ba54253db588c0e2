"""Forget: drop snapshots that a policy no longer keeps, or that are named. Frees no space; `prune` does."""

from __future__ import annotations

from datetime import datetime

import msgspec

from recollect.catalog.catalog import Catalog
from recollect.errors import ConflictError, RequestError
from recollect.policy.retention import Decision, RetentionRules, SnapshotFacts, decide
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.snapshot import Snapshot


class SnapshotFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which snapshots a policy applies to; empty fields fit all."""

    source: str = ""
    host: str = ""
    tags: tuple[str, ...] = ()

    def fits(self, snapshot: Snapshot) -> bool:
        """Tell whether a snapshot is meant: all given fields must fit, and all tags be there."""
        return (
            self.source in {"", snapshot.source}
            and self.host in {"", snapshot.host}
            and set(self.tags) <= set(snapshot.tags)
        )


EVERYTHING = SnapshotFilter()


class ForgetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Every snapshot that was looked at, oldest first, with the decision and its reasons."""

    decisions: tuple[tuple[Snapshot, Decision], ...]

    @property
    def forgotten(self) -> list[Snapshot]:
        """Snapshots that will go."""
        return [snapshot for snapshot, decision in self.decisions if not decision.keep]

    @property
    def kept(self) -> list[Snapshot]:
        """Snapshots that stay."""
        return [snapshot for snapshot, decision in self.decisions if decision.keep]


def plan_policy(
    catalog: Catalog, rules: RetentionRules, *, now: datetime, chosen: SnapshotFilter = EVERYTHING
) -> ForgetPlan:
    """Apply retention rules to each source by itself. Reads only.

    Raises:
        RequestError: The rules keep nothing at all.
    """
    snapshots = [snapshot for snapshot in catalog.list() if chosen.fits(snapshot)]
    facts = [
        SnapshotFacts(
            id=snapshot.id,
            created_at=snapshot.created_at,
            tags=snapshot.tags,
            group=(snapshot.host, snapshot.source, *snapshot.chosen_collections),
        )
        for snapshot in snapshots
    ]
    decisions = decide(facts, rules, now=now)
    return ForgetPlan(decisions=tuple(zip(snapshots, decisions, strict=True)))


def plan_selected(catalog: Catalog, selectors: tuple[str, ...]) -> ForgetPlan:
    """Plan to forget exactly the named snapshots."""
    if not selectors:
        raise RequestError("no snapshot was named", "name snapshots, or give a policy such as --keep-daily 7")
    chosen = {snapshot.id: snapshot for snapshot in map(catalog.find, selectors)}
    decisions = ((snapshot, Decision(id=snapshot.id, keep=False)) for snapshot in chosen.values())
    return ForgetPlan(decisions=tuple(decisions))


def apply(plan: ForgetPlan, catalog: Catalog, *, on_event: OnEvent = ignore_events) -> int:
    """Drop the plan's snapshots, oldest first; returns how many.

    A crash leaves the younger ones, all restorable, and the next run goes on.

    Raises:
        ConflictError: The tags of one were changed since the plan was made; it and the younger ones stay.
    """
    gone = plan.forgotten
    for number, snapshot in enumerate(gone, start=1):
        tags = catalog.tags_now(snapshot)
        if tags != snapshot.tags and catalog.has(snapshot.id):
            raise ConflictError(
                f"the tags of snapshot {snapshot.id} were changed since it was looked at: they are "
                f"{', '.join(tags) or 'none'} now; it was not forgotten",
                "run `recollect forget` again: it decides by the tags of now",
            )
        catalog.forget(snapshot.id)
        on_event(
            Progress(stage="forget", subject=snapshot.id, done=number, total=len(gone), unit="snapshots")
        )
    return len(gone)
