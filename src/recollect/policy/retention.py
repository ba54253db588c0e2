"""Which snapshots to keep: restic's rules, as one pure function.

Every rule speaks for itself and a snapshot stays if any rule keeps it. A counted
rule (`keep_daily = 7`) keeps the newest snapshot of each of the newest 7 days *that
have one*; while it is not full it also keeps the oldest snapshot, so that a young
repository does not lose its beginning. Days, weeks and years are UTC's; weeks are ISO weeks.

Beyond restic's rules, for safety: the newest snapshot of every group stays whatever the
rules say, and one dated in the future stays, counts for nothing, and is reported, because
a wrong clock must not push real snapshots out.

Laws, tested: more is kept when a number grows; deciding again on what was kept drops
nothing; the order of the input does not matter; no group is ever emptied.

Source: restic's documentation, "Removing snapshots according to a policy".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from recollect.errors import RequestError
from recollect.policy.duration import Duration

UNLIMITED = -1
"""As a number of a rule: keep one of each bucket, for ever."""


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What retention needs to know of a snapshot.

    Attributes:
        created_at: With a time zone.
        tags: As they are now.
        group: Snapshots of equal group share one policy; others do not see each other.
    """

    id: str
    created_at: datetime
    tags: tuple[str, ...] = ()
    group: tuple[str, ...] = ()


class RetentionRules(msgspec.Struct, frozen=True, kw_only=True):
    """What to keep. Numbers: 0 switches a rule off, `UNLIMITED` never fills it.

    Attributes:
        keep_within: Everything this young, counted back from the group's newest snapshot, so
            that a source that is no longer backed up loses nothing by the mere passing of time.
        keep_within_hourly: The newest of each hour within that time; the others likewise.
        keep_tags: Everything that has one of these tags.
    """

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: Duration | None = None
    keep_within_hourly: Duration | None = None
    keep_within_daily: Duration | None = None
    keep_within_weekly: Duration | None = None
    keep_within_monthly: Duration | None = None
    keep_within_yearly: Duration | None = None
    keep_tags: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one snapshot stays, and for a kept one every reason why."""

    id: str
    keep: bool
    reasons: tuple[str, ...] = ()


Bucket: TypeAlias = tuple[int, ...]

_BUCKETS: dict[str, Callable[[datetime], Bucket]] = {
    "hourly": lambda at: (at.year, at.month, at.day, at.hour),
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: tuple(at.isocalendar()[:2]),
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}


def decide(snapshots: Sequence[SnapshotFacts], rules: RetentionRules, *, now: datetime) -> list[Decision]:
    """Decide for every snapshot, in the order of the input.

    Deterministic; snapshots of one instant are ordered by id.

    Raises:
        RequestError: No rule is set (that would drop nearly everything), a number is below
            `UNLIMITED`, or two snapshots share an id.
    """
    check_rules(rules)
    if len({facts.id for facts in snapshots}) != len(snapshots):
        raise RequestError("two snapshots have the same id; retention cannot tell them apart")
    groups: dict[tuple[str, ...], list[SnapshotFacts]] = {}
    for facts in snapshots:
        groups.setdefault(facts.group, []).append(facts)
    reasons: dict[str, list[str]] = {}
    for members in groups.values():
        reasons |= _decide_group(members, rules, now=now)
    return [
        Decision(id=facts.id, keep=bool(reasons[facts.id]), reasons=tuple(reasons[facts.id]))
        for facts in snapshots
    ]


def check_rules(rules: RetentionRules) -> None:
    """Refuse rules that keep nothing, or whose numbers make no sense (RequestError)."""
    values = msgspec.structs.asdict(rules)
    for name, value in values.items():
        if isinstance(value, int) and value < UNLIMITED:
            raise RequestError(f"{name} = {value} makes no sense; use a number, or -1 for all")
    if not any(values.values()):
        raise RequestError(
            "no rule says what to keep, so nothing was dropped",
            "give at least one rule, for example: --keep-daily 7 --keep-weekly 4",
        )


def _decide_group(
    members: list[SnapshotFacts], rules: RetentionRules, *, now: datetime
) -> dict[str, list[str]]:
    """Return the reasons to keep each snapshot of one group; no reason means drop."""
    reasons: dict[str, list[str]] = {facts.id: [] for facts in members}
    newest_first = sorted(members, key=lambda facts: (facts.created_at, facts.id), reverse=True)
    past = [facts for facts in newest_first if facts.created_at <= now]
    for facts in newest_first[: len(newest_first) - len(past)]:
        reasons[facts.id].append("dated in the future")
    for facts, reason in _kept(past, rules):
        reasons[facts.id].append(reason)
    if past and not reasons[past[0].id]:
        reasons[past[0].id].append("newest of its group")
    return reasons


def _kept(past: list[SnapshotFacts], rules: RetentionRules) -> Iterator[tuple[SnapshotFacts, str]]:
    """Yield each (snapshot, reason) that a rule gives. `past` is newest first."""
    yield from _tagged(past, rules.keep_tags)
    for index, facts in enumerate(past):
        if rules.keep_last == UNLIMITED or index < rules.keep_last:
            yield facts, "last snapshot"
    if rules.keep_within is not None:
        for facts in _within(past, rules.keep_within):
            yield facts, f"within {rules.keep_within}"
    for name, bucket in _BUCKETS.items():
        yield from _counted(past, getattr(rules, f"keep_{name}"), name, bucket)
        duration = getattr(rules, f"keep_within_{name}")
        if duration is not None:
            young = _within(past, duration)
            for facts, reason in _counted(young, UNLIMITED, name, bucket, oldest=past[-1:]):
                yield facts, f"{reason} within {duration}"


def _tagged(past: list[SnapshotFacts], tags: tuple[str, ...]) -> Iterator[tuple[SnapshotFacts, str]]:
    """Yield each snapshot that has one of the tags, once per tag."""
    for facts in past:
        for tag in tags:
            if tag in facts.tags:
                yield facts, f"has tag {tag}"


def _within(past: list[SnapshotFacts], duration: Duration) -> list[SnapshotFacts]:
    """Return the snapshots younger than `duration`, seen from the newest."""
    if not past:
        return []
    start = duration.before(past[0].created_at)
    return [facts for facts in past if facts.created_at > start]


def _counted(
    past: list[SnapshotFacts],
    count: int,
    name: str,
    bucket: Callable[[datetime], Bucket],
    *,
    oldest: list[SnapshotFacts] | None = None,
) -> Iterator[tuple[SnapshotFacts, str]]:
    """Yield the newest of each of the first `count` buckets, and the oldest while there is room.

    `oldest`: the group's oldest, where `past` is only the younger part of the group. The oldest
    of that part gets no such favour: it would lose it again when the part grows.
    """
    oldest = past[-1:] if oldest is None else oldest
    room = len(past) if count == UNLIMITED else count
    previous: Bucket | None = None
    for facts in past:
        if room == 0:
            return
        current = bucket(facts.created_at.astimezone(UTC))
        if current != previous:
            yield facts, f"{name} snapshot"
        elif facts in oldest:
            yield facts, f"oldest {name} snapshot"
        else:
            continue
        previous = current
        room -= 1
