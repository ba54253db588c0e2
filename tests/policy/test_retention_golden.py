"""Each file of golden/ is one policy and what it decides about golden/history.txt, with every reason.

To add a case, write its first line (`rules:`) and run this file with RECOLLECT_GOLDEN=write; then read
the result as a reviewer would.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recollect.policy.duration import parse_duration
from recollect.policy.retention import RetentionRules, SnapshotFacts, decide

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.glob("keep-*.txt"))
NOW = datetime(2026, 6, 30, 18, tzinfo=UTC)


def read_history() -> list[SnapshotFacts]:
    """Read `<time> <source> [tags,]` lines; a snapshot's id is its line number."""
    facts = []
    for number, line in enumerate((GOLDEN / "history.txt").read_text("utf-8").splitlines()):
        time, source, *tags = line.split()
        facts.append(
            SnapshotFacts(
                id=f"{number:02d}",
                created_at=datetime.fromisoformat(time).replace(tzinfo=UTC),
                tags=tuple(tags),
                group=(source,),
            )
        )
    return facts


def read_rules(line: str) -> RetentionRules:
    """Read `rules: keep_last=3 keep_within=30d keep_tags=pin`."""
    values: dict[str, object] = {}
    for part in line.removeprefix("rules:").split():
        name, _, text = part.partition("=")
        if name == "keep_tags":
            values[name] = tuple(text.split(","))
        else:
            values[name] = parse_duration(text) if "within" in name else int(text)
    return RetentionRules(**values)  # type: ignore[arg-type]  # the golden file names the fields


def render(rules_line: str) -> str:
    """Write what the golden file should say."""
    history = read_history()
    lines = [rules_line]
    for facts, decision in zip(history, decide(history, read_rules(rules_line), now=NOW), strict=True):
        verdict = "keep" if decision.keep else "drop"
        head = f"{verdict}  {facts.created_at:%Y-%m-%dT%H:%M}  {facts.group[0]:8}  "
        lines.append((head + "; ".join(decision.reasons)).rstrip())
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_policy_decides_as_written(case: str) -> None:
    path = GOLDEN / case
    expected = path.read_text("utf-8")
    actual = render(expected.splitlines()[0])
    if os.environ.get("RECOLLECT_GOLDEN") == "write":
        path.write_text(actual, "utf-8")

    assert actual == expected


def test_there_are_cases() -> None:
    assert len(CASES) >= 8
