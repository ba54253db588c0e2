"""One drill as a page of HTML: no script, no style from elsewhere, prints on paper."""

from __future__ import annotations

from html import escape

from recollect.cli.text import count_text, seconds_text, time_text
from recollect.values.drill import DrilledCollection, DrillReport

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #1a1a1a }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .4rem .6rem }
th { border-bottom: 2px solid #666 } td { border-bottom: 1px solid #ccc } td.n, th.n { text-align: right }
.passed { color: #0a6b2d } .failed { color: #a8071a } code { overflow-wrap: anywhere }
"""
_HEAD = [
    "Collection",
    "Records",
    "Equal",
    "Restore",
    "Index",
    "Queries",
    "Recall mean",
    "Recall min",
    "Latency mean",
]


def drill_page(report: DrillReport) -> str:
    """Render a report."""
    verdict, mark = ("passed", "passed") if report.is_passed else ("failed", "failed")
    head = "".join(f"<th{'' if name == 'Collection' else ' class=n'}>{name}</th>" for name in _HEAD)
    rows = "".join(map(_row, report.collections))
    failure = f'<p class="failed">{escape(report.failure)}</p>' if report.failure else ""
    prints = "".join(
        f"<li>{escape(one.name)}: <code>{escape(one.fingerprint)}</code></li>" for one in report.collections
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drill of {escape(report.snapshot_id)}</title>
<style>{_STYLE}</style></head><body>
<h1>Drill <span class="{mark}">{verdict}</span></h1>
<p>Snapshot <code>{escape(report.snapshot_id)}</code> of {time_text(report.snapshot_created_at)}
was restored into {escape(report.target)} on {time_text(report.started_at)},
in {seconds_text(report.duration_seconds)}.
A mean recall of {report.recall_required:.2f} was required.</p>
{failure}
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
<h2>Fingerprints</h2><ul>{prints}</ul>
<p>Drill <code>{escape(report.id)}</code>, host {escape(report.host or "unknown")},
Recollect {escape(report.tool_version)}.</p>
</body></html>
"""


def _row(one: DrilledCollection) -> str:
    numbers = [
        count_text(one.record_count),
        "yes" if one.is_match else "NO",
        seconds_text(one.restore_seconds),
        seconds_text(one.index_seconds),
        *(
            [
                str(one.query_count),
                f"{one.recall_mean:.3f}",
                f"{one.recall_min:.3f}",
                f"{one.latency_ms_mean:.1f} ms",
            ]
            if one.query_count
            else ["none", "-", "-", "-"]
        ),
    ]
    cells = "".join(f"<td class=n>{escape(number)}</td>" for number in numbers)
    return f"<tr><td>{escape(one.name)}</td>{cells}</tr>"
