"""Calendar durations as backup users write them: `30d`, `1y5m7d2h`.

A month is a calendar month, so a duration has no fixed length; it can only be taken
from a date. The grammar is restic's, so that its users' scripts carry over.
"""

from __future__ import annotations

import calendar
import re
from datetime import MINYEAR, UTC, datetime, timedelta

import msgspec

from recollect.errors import RequestError

_UNITS = {"y": "years", "m": "months", "d": "days", "h": "hours"}
_TEXT = re.compile(r"(?:[0-9]+[ymdh])+")
_PART = re.compile(r"([0-9]+)([ymdh])")


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    """Years, months, days and hours; none is negative."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __str__(self) -> str:
        """Return the text that `parse_duration` reads; `0h` when nothing is set."""
        parts = [f"{getattr(self, name)}{unit}" for unit, name in _UNITS.items() if getattr(self, name)]
        return "".join(parts) or "0h"

    def before(self, instant: datetime) -> datetime:
        """Return the instant this long before another, in the same time zone.

        Months are taken first; a day that the earlier month lacks becomes its last day
        (one month before 31 March is the end of February). Never earlier than year 1.
        """
        months = instant.year * 12 + instant.month - 1 - (self.years * 12 + self.months)
        year, month = divmod(months, 12)
        if year < MINYEAR:
            return datetime.min.replace(tzinfo=UTC)
        day = min(instant.day, calendar.monthrange(year, month + 1)[1])
        moved = instant.replace(year=year, month=month + 1, day=day)
        try:
            return moved - timedelta(days=self.days, hours=self.hours)
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)


def parse_duration(text: str) -> Duration:
    """Read `30d`, `12h`, `1y5m7d2h`: whole numbers of years, months, days and hours.

    Raises:
        RequestError: It is not written so, names a unit twice, or is no time at all.
    """
    example = "a duration is written like 30d, 12h or 1y5m7d2h (years, months, days, hours)"
    parts = [(int(number), unit) for number, unit in _PART.findall(text)]
    units = [unit for _, unit in parts]
    if not _TEXT.fullmatch(text) or len(set(units)) != len(units):
        raise RequestError(f"{text!r} is not a duration: {example}")
    if not any(number for number, _ in parts):
        raise RequestError(f"{text!r} is no time at all: it would keep nothing")
    return Duration(**{_UNITS[unit]: number for number, unit in parts})
