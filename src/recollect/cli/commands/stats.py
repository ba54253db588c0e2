"""`recollect stats`."""

from __future__ import annotations

from recollect.cli.session import Session
from recollect.cli.text import count_text, size_text
from recollect.operations import stats

STOPPED = "nothing was changed"


def run(session: Session) -> None:
    """Show how much the repository holds, and what it saves against full copies."""
    report = stats.run(session.repository())
    held = report.listed_bytes + report.unlisted_bytes + report.snapshot_bytes
    rows = [
        ["Snapshots", count_text(report.snapshot_count)],
        [
            "Newest snapshot",
            f"{count_text(report.latest_record_count, 'record')}, {size_text(report.latest_source_bytes)}",
        ],
        ["Objects", f"{count_text(report.object_count)}, {size_text(held)} with the snapshots' lists"],
        ["Full copies would take", size_text(report.full_copies_bytes)],
    ]
    if held and report.full_copies_bytes:
        rows.append(["Ratio", f"{report.full_copies_bytes / held:.1f} : 1"])
    if report.unlisted_count:
        freed = f"{size_text(report.unlisted_bytes)} in {count_text(report.unlisted_count, 'object')}"
        rows.append(["No longer needed", f"{freed}; `recollect prune` frees it"])
    session.output.table(["Repository", report.repository_id], rows)
    session.output.summary(report)
