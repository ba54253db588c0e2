from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.errors import RequestError
from recollect.policy.duration import Duration, parse_duration

durations = st.builds(
    Duration,
    years=st.integers(0, 50),
    months=st.integers(0, 50),
    days=st.integers(0, 900),
    hours=st.integers(0, 900),
)
instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(durations.filter(lambda duration: str(duration) != "0h"))
def test_the_text_of_a_duration_reads_back(duration: Duration) -> None:
    assert parse_duration(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", Duration(days=30)),
        ("12h", Duration(hours=12)),
        ("1y5m7d2h", Duration(years=1, months=5, days=7, hours=2)),
        ("2h1y", Duration(years=1, hours=2)),
    ],
)
def test_durations_are_read_as_restic_writes_them(text: str, expected: Duration) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "30", "d", "30 d", "-3d", "1.5d", "3w", "3d4d", "P3D", "0d", "0y0h", "٣d"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"duration|no time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("instant", "duration", "expected"),
    [
        (datetime(2026, 3, 31, 5, tzinfo=UTC), Duration(months=1), datetime(2026, 2, 28, 5, tzinfo=UTC)),
        (datetime(2024, 2, 29, tzinfo=UTC), Duration(years=1), datetime(2023, 2, 28, tzinfo=UTC)),
        (datetime(2026, 1, 15, tzinfo=UTC), Duration(months=13), datetime(2024, 12, 15, tzinfo=UTC)),
        (datetime(2026, 1, 1, tzinfo=UTC), Duration(days=1, hours=1), datetime(2025, 12, 30, 23, tzinfo=UTC)),
        (datetime(2026, 1, 1, tzinfo=UTC), Duration(years=3000), datetime.min.replace(tzinfo=UTC)),
        (datetime(2026, 1, 1, tzinfo=UTC), Duration(days=10**9), datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_months_are_calendar_months(instant: datetime, duration: Duration, expected: datetime) -> None:
    assert duration.before(instant) == expected


@given(instants, durations, st.integers(0, 400), st.sampled_from(["years", "months", "days", "hours"]))
def test_a_longer_duration_never_reaches_less_far_back(
    instant: datetime, duration: Duration, more: int, unit: str
) -> None:
    parts = {name: getattr(duration, name) for name in ["years", "months", "days", "hours"]}
    parts[unit] += more

    assert Duration(**parts).before(instant) <= duration.before(instant)


@given(durations, instants, instants)
def test_order_is_kept(duration: Duration, one: datetime, other: datetime) -> None:
    """So that a newer newest snapshot never widens what `keep_within` keeps."""
    early, late = sorted([one, other])

    assert duration.before(early) <= duration.before(late)
