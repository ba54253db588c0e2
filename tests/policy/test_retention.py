from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import RequestError
from recollect.policy.duration import Duration
from recollect.policy.retention import UNLIMITED, Decision, RetentionRules, SnapshotFacts, decide

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
COUNTED = ["keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"]
WITHIN = [
    "keep_within",
    *(f"keep_within_{name}" for name in ["hourly", "daily", "weekly", "monthly", "yearly"]),
]

counts = st.one_of(st.integers(0, 6), st.just(UNLIMITED))
durations = st.one_of(
    st.none(),
    st.builds(
        lambda years, months, days, hours: Duration(years=years, months=months, days=days, hours=hours + 1),
        st.integers(0, 1),
        st.integers(0, 14),
        st.integers(0, 40),
        st.integers(0, 30),
    ),
)
rule_sets = st.builds(
    RetentionRules,
    **dict.fromkeys(COUNTED, counts),
    **dict.fromkeys(WITHIN, durations),
    keep_tags=st.sampled_from([(), ("pin",), ("pin", "release")]),
).filter(lambda rules: any(msgspec.structs.asdict(rules).values()))

# Ages in minutes from two years back to a week ahead, dense enough that buckets are shared.
facts_lists = st.lists(
    st.tuples(
        st.one_of(st.integers(-10_080, 60), st.integers(0, 5000), st.integers(0, 1_000_000)),
        st.sampled_from([(), ("pin",), ("release", "pin"), ("other",)]),
        st.sampled_from([("a",), ("b",)]),
    ),
    max_size=40,
).map(
    lambda rows: [
        SnapshotFacts(id=f"s{number:02d}", created_at=NOW - timedelta(minutes=age), tags=tags, group=group)
        for number, (age, tags, group) in enumerate(rows)
    ]
)


def kept(decisions: list[Decision]) -> set[str]:
    return {decision.id for decision in decisions if decision.keep}


def daily(count: int) -> list[SnapshotFacts]:
    """One snapshot a day at noon, newest first: s00 is today's."""
    return [SnapshotFacts(id=f"s{age:02d}", created_at=NOW - timedelta(days=age)) for age in range(count)]


@given(facts_lists, rule_sets, st.sampled_from(COUNTED), st.integers(1, 5))
def test_a_larger_number_keeps_no_snapshot_less(
    snapshots: list[SnapshotFacts], rules: RetentionRules, name: str, more: int
) -> None:
    before = getattr(rules, name)
    larger = msgspec.structs.replace(rules, **{name: UNLIMITED if before == UNLIMITED else before + more})

    assert kept(decide(snapshots, larger, now=NOW)) >= kept(decide(snapshots, rules, now=NOW))


@given(facts_lists, rule_sets, st.sampled_from(COUNTED))
def test_unlimited_keeps_no_snapshot_less_than_any_number(
    snapshots: list[SnapshotFacts], rules: RetentionRules, name: str
) -> None:
    unlimited = msgspec.structs.replace(rules, **{name: UNLIMITED})

    assert kept(decide(snapshots, unlimited, now=NOW)) >= kept(decide(snapshots, rules, now=NOW))


@given(facts_lists, rule_sets, st.sampled_from(WITHIN), st.integers(0, 400))
def test_a_longer_time_keeps_no_snapshot_less(
    snapshots: list[SnapshotFacts], rules: RetentionRules, name: str, days: int
) -> None:
    before = getattr(rules, name) or Duration()
    longer = msgspec.structs.replace(before, days=before.days + days, hours=before.hours + 1)

    more = decide(snapshots, msgspec.structs.replace(rules, **{name: longer}), now=NOW)

    assert kept(more) >= kept(decide(snapshots, rules, now=NOW))


@given(facts_lists, rule_sets)
def test_one_more_tag_keeps_no_snapshot_less(snapshots: list[SnapshotFacts], rules: RetentionRules) -> None:
    more = msgspec.structs.replace(rules, keep_tags=(*rules.keep_tags, "other"))

    assert kept(decide(snapshots, more, now=NOW)) >= kept(decide(snapshots, rules, now=NOW))


@given(facts_lists, rule_sets)
def test_deciding_again_on_what_was_kept_drops_nothing(
    snapshots: list[SnapshotFacts], rules: RetentionRules
) -> None:
    survivors = kept(decide(snapshots, rules, now=NOW))

    again = decide([facts for facts in snapshots if facts.id in survivors], rules, now=NOW)

    assert kept(again) == survivors


@given(facts_lists, rule_sets)
def test_what_one_rule_keeps_alone_it_keeps_beside_others(
    snapshots: list[SnapshotFacts], rules: RetentionRules
) -> None:
    together = kept(decide(snapshots, rules, now=NOW))

    for name, value in msgspec.structs.asdict(rules).items():
        if value:
            assert kept(decide(snapshots, RetentionRules(**{name: value}), now=NOW)) <= together


@given(facts_lists, rule_sets, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    snapshots: list[SnapshotFacts], rules: RetentionRules, source: random.Random
) -> None:
    shuffled = source.sample(snapshots, len(snapshots))

    by_id = {decision.id: decision for decision in decide(snapshots, rules, now=NOW)}

    assert {decision.id: decision for decision in decide(shuffled, rules, now=NOW)} == by_id


@given(facts_lists, rule_sets)
def test_no_group_is_emptied(snapshots: list[SnapshotFacts], rules: RetentionRules) -> None:
    survivors = kept(decide(snapshots, rules, now=NOW))

    assert {facts.group for facts in snapshots if facts.id in survivors} == {
        facts.group for facts in snapshots
    }


@given(facts_lists, rule_sets)
def test_groups_do_not_see_each_other(snapshots: list[SnapshotFacts], rules: RetentionRules) -> None:
    together = kept(decide(snapshots, rules, now=NOW))

    apart = set()
    for group in [("a",), ("b",)]:
        apart |= kept(decide([facts for facts in snapshots if facts.group == group], rules, now=NOW))

    assert together == apart


@given(facts_lists, rule_sets)
def test_every_kept_snapshot_has_a_reason_and_no_dropped_one(
    snapshots: list[SnapshotFacts], rules: RetentionRules
) -> None:
    for decision in decide(snapshots, rules, now=NOW):
        assert decision.keep == bool(decision.reasons)
        assert len(set(decision.reasons)) == len(decision.reasons)


@given(facts_lists, st.integers(1, 6))
def test_keep_last_alone_keeps_the_newest_of_each_group(snapshots: list[SnapshotFacts], count: int) -> None:
    expected = {facts.id for facts in snapshots if facts.created_at > NOW}
    for group in [("a",), ("b",)]:
        past = [facts for facts in snapshots if facts.group == group and facts.created_at <= NOW]
        past.sort(key=lambda facts: (facts.created_at, facts.id))
        expected |= {facts.id for facts in past[-count:]}

    assert kept(decide(snapshots, RetentionRules(keep_last=count), now=NOW)) == expected


@given(facts_lists)
def test_unlimited_daily_keeps_the_newest_of_every_day_and_the_oldest_of_all(
    snapshots: list[SnapshotFacts],
) -> None:
    expected = {facts.id for facts in snapshots if facts.created_at > NOW}
    for group in [("a",), ("b",)]:
        past = [facts for facts in snapshots if facts.group == group and facts.created_at <= NOW]
        past.sort(key=lambda facts: (facts.created_at, facts.id))
        expected |= {facts.id for facts in past[:1]}
        expected |= {facts.id for facts in {facts.created_at.date(): facts for facts in past}.values()}

    assert kept(decide(snapshots, RetentionRules(keep_daily=UNLIMITED), now=NOW)) == expected


def test_rules_that_keep_nothing_are_refused() -> None:
    with pytest.raises(RequestError, match="no rule says what to keep") as caught:
        decide(daily(3), RetentionRules(), now=NOW)

    assert "--keep-daily" in caught.value.next_step


def test_a_number_below_unlimited_is_refused() -> None:
    with pytest.raises(RequestError, match="keep_daily = -2"):
        decide(daily(3), RetentionRules(keep_daily=-2), now=NOW)


def test_two_snapshots_of_one_id_are_refused() -> None:
    with pytest.raises(RequestError, match="same id"):
        decide([*daily(2), *daily(1)], RetentionRules(keep_last=1), now=NOW)


def test_the_oldest_is_kept_while_a_rule_is_not_full() -> None:
    snapshots = [
        SnapshotFacts(id="today", created_at=NOW),
        SnapshotFacts(id="earlier", created_at=NOW - timedelta(hours=1)),
        SnapshotFacts(id="first", created_at=NOW - timedelta(hours=2)),
    ]

    decisions = decide(snapshots, RetentionRules(keep_daily=2), now=NOW)

    assert [decision.keep for decision in decisions] == [True, False, True]
    assert decisions[2].reasons == ("oldest daily snapshot",)


def test_the_oldest_is_dropped_once_the_rule_is_full() -> None:
    assert kept(decide(daily(5), RetentionRules(keep_daily=3), now=NOW)) == {"s00", "s01", "s02"}


def test_a_snapshot_from_the_future_stays_and_takes_no_place() -> None:
    ahead = SnapshotFacts(id="ahead", created_at=NOW + timedelta(days=300))

    decisions = decide([ahead, *daily(3)], RetentionRules(keep_last=1), now=NOW)

    assert kept(decisions) == {"ahead", "s00"}
    assert decisions[0].reasons == ("dated in the future",)


def test_keep_within_counts_from_the_newest_snapshot_not_from_now() -> None:
    stale = [
        msgspec.structs.replace(facts, created_at=facts.created_at - timedelta(days=500))
        for facts in daily(9)
    ]

    assert len(kept(decide(stale, RetentionRules(keep_within=Duration(days=3)), now=NOW))) == 3


def test_only_a_tag_rule_still_keeps_the_newest() -> None:
    decisions = decide(daily(3), RetentionRules(keep_tags=("pin",)), now=NOW)

    assert kept(decisions) == {"s00"}
    assert decisions[0].reasons == ("newest of its group",)


def test_days_are_those_of_utc_whatever_zone_a_timestamp_has() -> None:
    tokyo = timezone(timedelta(hours=9))
    snapshots = [
        SnapshotFacts(id="b", created_at=datetime(2026, 6, 2, 8, 30, tzinfo=tokyo)),  # 1 June, 23:30 UTC
        SnapshotFacts(id="a", created_at=datetime(2026, 6, 1, 12, 0, tzinfo=UTC)),
        SnapshotFacts(id="0", created_at=datetime(2026, 5, 1, 12, 0, tzinfo=UTC)),
    ]

    assert kept(decide(snapshots, RetentionRules(keep_daily=2), now=NOW)) == {"b", "0"}
