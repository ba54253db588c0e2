from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recollect.cli.drill_page import drill_page
from recollect.cli.main import main
from recollect.clock import ManualClock
from recollect.engines.edge.target import EdgeTarget
from recollect.testing.records import Row, build_records
from recollect.values.drill import DrilledCollection, DrillReport
from recollect.values.schema import CollectionSchema, VectorSpec

SCHEMA = CollectionSchema(vectors=(VectorSpec(name="", dimension=2, metric="euclid"),))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a snapshot of one shard."""
    staged = EdgeTarget(tmp_path / "shard", lambda: "x" * 26).stage("shard", SCHEMA, ())
    staged.write(build_records(SCHEMA, [Row(id=n, vectors={"": [1.0, float(n)]}) for n in range(60)]))
    staged.finish()
    staged.switch()
    staged.discard()
    monkeypatch.setenv("RECOLLECT_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["init", "--quiet"]) == 0
    assert main(["backup", f"edge://{tmp_path / 'shard'}", "--quiet"]) == 0
    return tmp_path / "repository"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("repository")
def test_a_drill_writes_its_reports_and_the_ledger_lists_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scratch").mkdir()
    reports = ["--report", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    capsys.readouterr()

    assert main(["drill", "--scratch", str(tmp_path / "scratch"), "--queries", "5", *reports]) == 0

    told = capsys.readouterr().out
    assert "drill passed" in told
    document = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert document["collections"][0]["recall_mean"] == 1.0
    assert document["collections"][0]["query_count"] == 5
    assert '<h1>Drill <span class="passed">passed</span></h1>' in (tmp_path / "r.html").read_text("utf-8")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert main(["drill", "--ledger", "--json"]) == 0
    drilled, summary = lines(capsys)
    assert (drilled["message_type"], drilled["id"], summary["drill_count"]) == ("drill", document["id"], 1)


def test_a_failed_drill_exits_with_22_and_stands_in_the_ledger(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    largest = max((repository / "objects").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(content)

    assert main(["drill", "--queries", "0"]) == 22
    assert "failed: integrity" in capsys.readouterr().err
    assert main(["drill", "--ledger"]) == 0
    assert "FAILED: integrity" in capsys.readouterr().out


def test_the_page_escapes_what_it_shows() -> None:
    now = ManualClock().now()
    one = DrilledCollection(name="<b>", record_count=1, fingerprint="1-0", expected="1-0", is_match=True)
    page = drill_page(
        DrillReport(
            id="d",
            snapshot_id="s",
            snapshot_created_at=now,
            started_at=now,
            target="t",
            recall_required=0.9,
            collections=(one,),
            failure="a < b",
        )
    )

    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "a &lt; b" in page


@pytest.mark.usefixtures("repository")
def test_a_scratch_directory_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drill", "--scratch", str(tmp_path / "missing")]) == 6

    told = capsys.readouterr().err
    assert f"no scratch shard can be made in {tmp_path / 'missing'}" in told
    assert "--scratch DIR" in told
