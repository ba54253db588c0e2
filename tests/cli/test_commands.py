"""Every command through the entry point: what it does, what it prints, what its JSON says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recollect.cli.main import COMMANDS
from recollect.engines.memory import MemoryEngine, open_memory
from tests.cli.conftest import Run, put, remove


def url(engine: MemoryEngine) -> str:
    return engine.info().url


def test_init_creates_a_repository_and_says_what_comes_next(run: Run, tmp_path: Path) -> None:
    result = run("init", "-r", str(tmp_path / "r"))

    assert result.code == 0
    assert "next: recollect backup SOURCE -r" in result.stdout
    assert (tmp_path / "r" / "recollect.json").exists()


def test_init_json_names_the_repository(run: Run, tmp_path: Path) -> None:
    summary = run("init", "-r", str(tmp_path / "r"), "--json").summary

    assert len(summary["repository_id"]) == 26
    assert summary["format"] == 1


def test_backup_reports_what_was_stored(run: Run, repo: str, engine: MemoryEngine) -> None:
    summary = run("backup", url(engine), "-r", repo, "--name", "first", "--tag", "a", "--json").summary

    collection = summary["collections"][0]
    assert summary["name"] == "first"
    assert (collection["name"], collection["record_count"]) == ("docs", 4)
    assert (collection["added"], collection["changed"], collection["removed"]) == (4, 0, 0)
    assert collection["fingerprint"].startswith("4-")
    assert summary["source_bytes"] > 0
    assert summary["stored_bytes"] > 0
    assert summary["duration_seconds"] >= 0
    assert summary["parent"] is None


def test_a_second_backup_stores_only_changes(run: Run, repo: str, engine: MemoryEngine) -> None:
    first = run("backup", url(engine), "-r", repo, "--json").summary
    put(engine, {4: [1, 1, 1], 5: [1, 0, 1]})
    remove(engine, 1)

    second = run("backup", url(engine), "-r", repo, "--json").summary

    collection = second["collections"][0]
    assert (collection["added"], collection["changed"], collection["removed"]) == (1, 1, 1)
    assert second["parent"] == first["snapshot_id"]


def test_a_full_backup_compares_with_nothing(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)

    summary = run("backup", url(engine), "-r", repo, "--full", "--json").summary

    assert summary["collections"][0]["added"] == 4


def test_the_source_can_come_from_the_environment(
    run: Run, repo: str, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOLLECT_SOURCE", url(engine))
    monkeypatch.setenv("RECOLLECT_REPOSITORY", repo)

    assert run("backup").code == 0
    assert run("snapshots", "--json").summary["snapshot_count"] == 1


def test_backup_for_people_is_a_table_and_a_sentence(run: Run, repo: str, engine: MemoryEngine) -> None:
    lines = run("backup", url(engine), "-r", repo).stdout.splitlines()

    assert lines[0].endswith(f"of {url(engine)}")
    assert lines[1].split() == ["Collection", "Records", "Added", "Changed", "Removed", "Consistency"]
    assert lines[2].split() == ["docs", "4", "4", "0", "0", "point-in-time"]
    assert "added to the repository" in lines[3]


def test_quiet_prints_nothing(run: Run, repo: str, engine: MemoryEngine) -> None:
    result = run("backup", url(engine), "-r", repo, "-q")

    assert (result.code, result.stdout, result.stderr) == (0, "", "")


def test_snapshots_lists_oldest_first_and_filters(run: Run, repo: str, engine: MemoryEngine) -> None:
    for name in ["one", "two"]:
        run("backup", url(engine), "-r", repo, "--name", name, "--tag", f"t-{name}")

    names = [line["name"] for line in run("snapshots", "-r", repo, "--json").of_type("snapshot")]

    assert names == ["one", "two"]
    assert run("snapshots", "-r", repo, "--tag", "t-two", "--json").summary["snapshot_count"] == 1
    assert run("snapshots", "-r", repo, "--latest", "1", "--json").lines[0]["name"] == "two"
    assert "t-one" in run("list", "-r", repo).stdout
    assert run("snapshots", "-r", repo, "--source", "memory:other").stdout == "no snapshots\n"


def test_show_tells_everything(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo, "--description", "before the upgrade", "--host", "db1")

    text = run("show", "latest", "-r", repo).stdout
    facts = run("show", "latest", "-r", repo, "--json").of_type("snapshot")[0]

    assert "before the upgrade" in text
    assert "(unnamed) float32[3] cosine" in text
    assert facts["host"] == "db1"
    assert facts["collections"][0]["aliases"] == ["papers"]


def test_ls_lists_collections_or_ids(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)

    assert run("ls", "latest", "-r", repo).stdout.splitlines()[1].split()[:2] == ["docs", "4"]
    assert run("ls", "latest", "-r", repo, "--collection", "papers").stdout == "1\n2\n3\n4\n"
    records = run("ls", "latest", "-r", repo, "--collection", "docs", "--json").of_type("record")
    assert [record["record_id"] for record in records] == [1, 2, 3, 4]


def test_stats_compares_with_full_copies(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)

    assert run("stats", "-r", repo, "--json").summary["snapshot_count"] == 1
    assert "Full copies would take" in run("stats", "-r", repo).stdout


def test_diff_of_two_snapshots_lists_records(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo, "--name", "a")
    put(engine, {4: [1, 1, 0]}, title="new")
    put(engine, {5: [1, 0, 1]})
    remove(engine, 1)
    run("backup", url(engine), "-r", repo, "--name", "b")

    result = run("diff", "a", "b", "-r", repo, "--records", "--json")
    text = run("diff", "latest~1", "latest", "-r", repo, "--records").stdout

    assert [(r["record_id"], r["change"]) for r in result.of_type("record")] == [
        (1, "removed"),
        (4, "changed"),
        (5, "added"),
    ]
    assert result.of_type("record")[1]["fields"] == ["payload"]
    assert (result.summary["added"], result.summary["changed"], result.summary["removed"]) == (1, 1, 1)
    assert text.splitlines()[:3] == ["- docs/1", "~ docs/4  payload", "+ docs/5"]


def test_diff_with_a_live_database(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)
    same = run("diff", "latest", url(engine), "-r", repo, "--json").summary
    remove(engine, 2)

    different = run("diff", "latest", url(engine), "-r", repo, "--json").summary

    assert same["is_same"]
    assert (different["is_same"], different["removed"]) == (False, 1)


@pytest.mark.parametrize("options", [[], ["--read-data"], ["--read-data-subset", "1/1"], ["latest"]])
def test_verify_of_a_sound_repository(run: Run, repo: str, engine: MemoryEngine, options: list[str]) -> None:
    run("backup", url(engine), "-r", repo)

    result = run("verify", *options, "-r", repo, "--json")

    assert result.code == 0
    assert result.summary["is_sound"]


def test_verify_read_data_proves_the_fingerprint(run: Run, repo: str, engine: MemoryEngine) -> None:
    backup = run("backup", url(engine), "-r", repo, "--json").summary

    summary = run("check", "--read-data", "-r", repo, "--json").summary

    assert summary["fingerprint_matched"] is True
    assert summary["collections"][0]["fingerprint"] == backup["collections"][0]["fingerprint"]
    assert summary["read_count"] == summary["object_count"] > 0


def test_verify_names_a_damaged_object_and_exits_20(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)
    victim = max(
        Path(repo, "objects").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1
    )
    victim.chmod(0o600)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)

    result = run("verify", "--read-data", "-r", repo, "--json")

    assert (result.code, result.error["code"], result.error["kind"]) == (20, 20, "integrity")
    assert victim.name in result.of_type("problem")[0]["message"]
    assert not result.summary["is_sound"]
    assert "NOT verified" in run("verify", "--read-data", "-r", repo).stdout


def test_verify_against_a_changed_database_exits_22(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)
    assert run("verify", "--against", url(engine), "-r", repo).code == 0
    remove(engine, 3)

    result = run("verify", "latest", "--against", url(engine), "-r", repo, "--json")

    assert (result.code, result.error["kind"]) == (22, "verification")
    assert result.summary["collections"][0]["removed"] == 1
    assert "recollect diff" in result.error["next_step"]


def test_restore_brings_everything_back(run: Run, repo: str, engine: MemoryEngine) -> None:
    backup = run("backup", url(engine), "-r", repo, "--json").summary
    remove(engine, 1, 2)

    result = run("restore", "latest", url(engine), "-r", repo, "--replace", "--json")

    assert result.code == 0
    assert result.summary["fingerprint_matched"]
    assert result.summary["collections"][0]["fingerprint"] == backup["collections"][0]["fingerprint"]
    assert run("verify", "--against", url(engine), "-r", repo).code == 0


def test_restore_refuses_a_collection_that_holds_records(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)

    result = run("restore", "latest", url(engine), "-r", repo)

    assert result.code == 5
    assert "--replace" in result.stderr


def test_restore_under_a_new_name(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)

    summary = run("restore", "latest", url(engine), "-r", repo, "--collection", "docs:copy", "--json").summary

    assert summary["collections"][0]["target_name"] == "copy"
    with engine.hold() as view:
        assert view.collections() == ["copy", "docs"]


def test_restore_dry_run_changes_nothing(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)
    target = open_memory("cli-dry-run-target")

    result = run("restore", "latest", "memory:cli-dry-run-target", "-r", repo, "-n", "--json")

    assert result.summary["is_dry_run"]
    assert result.summary["collections"][0]["action"] == "create"
    with target.hold() as view:
        assert view.collections() == []


def test_forget_shows_reasons_and_drops_the_rest(run: Run, repo: str, engine: MemoryEngine) -> None:
    for name in ["a", "b", "c"]:
        run("backup", url(engine), "-r", repo, "--name", name, "--full")

    preview = run("forget", "--keep-last", "1", "-n", "-r", repo, "--json")
    result = run("forget", "--keep-last", "1", "--prune", "-r", repo, "--json")

    assert preview.summary["forgotten_count"] == 2
    assert [line["reasons"] for line in result.of_type("decision")] == [[], [], ["last snapshot"]]
    assert result.summary["forgotten"] == preview.summary["forgotten"]
    assert result.summary["prune"]["is_dry_run"] is False
    assert run("snapshots", "-r", repo, "--json").summary["snapshot_count"] == 1
    assert run("verify", "--read-data", "-r", repo).code == 0


def test_forget_keeps_tagged_snapshots(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo, "--tag", "pin")
    run("backup", url(engine), "-r", repo)
    run("backup", url(engine), "-r", repo)

    result = run("forget", "--keep-last", "1", "--keep-tag", "pin", "-r", repo)

    assert "has tag pin" in result.stdout
    assert "1 snapshot forgotten" in result.stdout


def test_forget_a_named_snapshot(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo, "--name", "wrong")

    assert run("forget", "wrong", "-r", repo, "--json").summary["forgotten_count"] == 1


def test_forget_takes_its_rules_from_the_settings_file(
    run: Run, repo: str, engine: MemoryEngine, tmp_path: Path
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[retention]\nkeep_last = 1\n", "utf-8")
    for _ in range(2):
        run("backup", url(engine), "-r", repo)

    assert run("forget", "-r", repo, "--config", str(config), "--json").summary["forgotten_count"] == 1


def test_prune_frees_what_no_snapshot_needs(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo, "--name", "old")
    run("forget", "old", "-r", repo)

    preview = run("prune", "--dry-run", "-r", repo, "--json").summary
    result = run("prune", "-r", repo, "--json").summary

    assert preview["garbage_count"] == result["deleted_count"] > 0
    assert preview["deleted_count"] == 0
    assert run("stats", "-r", repo, "--json").summary["object_count"] == 0


def test_tags_are_added_and_removed(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo, "--tag", "a")

    assert run("tag", "latest", "-r", repo, "--add", "b", "--remove", "a", "--json").summary["tags"] == ["b"]
    assert "has no tags" in run("tag", "latest", "-r", repo, "--remove", "b").stdout


def test_export_writes_an_ordinary_parquet_file(
    run: Run, repo: str, engine: MemoryEngine, tmp_path: Path
) -> None:
    run("backup", url(engine), "-r", repo)
    out = tmp_path / "docs.parquet"

    summary = run("export", "latest", str(out), "-r", repo, "--json").summary

    table = pq.read_table(out)
    assert summary["record_count"] == table.num_rows == 4
    assert table.column("id").to_pylist() == [1, 2, 3, 4]
    assert json.loads(table.column("payload")[0].as_py()) == {"n": 1}


def test_search_like_a_record(run: Run, repo: str, engine: MemoryEngine) -> None:
    run("backup", url(engine), "-r", repo)

    result = run("search", "latest", "-r", repo, "--like", "4", "-k", "2", "--json")

    found = result.of_type("neighbour")
    assert [one["record_id"] for one in found] == [1, 2]
    assert found[0]["score"] == pytest.approx(2**-0.5)
    assert found[0]["payload"] == {"n": 1}
    assert result.summary["neighbour_count"] == 2


@pytest.mark.parametrize("form", ["json", "npy"])
def test_search_by_a_vector_from_a_file(
    run: Run, repo: str, engine: MemoryEngine, tmp_path: Path, form: str
) -> None:
    run("backup", url(engine), "-r", repo)
    query = tmp_path / f"query.{form}"
    if form == "json":
        query.write_text("[0, 0, 1]", "utf-8")
    else:
        np.save(query, np.array([[0, 0, 1]], dtype=np.float64))

    text = run("search", "latest", "-r", repo, "--vector", str(query), "-k", "1").stdout

    assert text.splitlines()[1].split() == ["1.0000", "3", '{"n":3}']


def test_unlock_of_a_quiet_repository_removes_nothing(run: Run, repo: str) -> None:
    assert run("unlock", "-r", repo, "--json").summary["removed"] == []


def test_config_shows_where_a_value_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_REPOSITORY", "/backups")

    summary = run("config", "--json").summary

    assert summary["settings"]["repository"] == "/backups"
    assert summary["origins"]["repository"] == "RECOLLECT_REPOSITORY"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_option(run: Run, shell: str) -> None:
    script = run("completion", shell).stdout

    assert all(name in script for name in COMMANDS)
    assert "keep-within" in script


@pytest.mark.parametrize(
    ("line", "expected"),
    [(["recollect", "sna"], "snapshots"), (["recollect", "forget", "--keep-d"], "--keep-daily")],
)
def test_the_bash_script_completes(run: Run, line: list[str], expected: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    words = " ".join(line)
    test = f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _recollect; echo ${{COMPREPLY[@]}}"
    script = run("completion", "bash").stdout + test

    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True, timeout=20)

    assert done.stdout.strip() == expected


def test_version(run: Run) -> None:
    assert run("version", "--json").summary["versions"]["recollect"]
    assert run("--version").stdout.startswith("recollect ")


def test_copy_brings_snapshots_into_another_repository(
    run: Run, repo: str, engine: MemoryEngine, tmp_path: Path
) -> None:
    first = run("backup", url(engine), "-r", repo, "--json").summary["snapshot_id"]
    put(engine, {5: [1, 0, 1]})
    second = run("backup", url(engine), "-r", repo, "--json").summary["snapshot_id"]
    other = str(tmp_path / "other")
    run("init", "-r", other)

    planned = run("copy", "-r", repo, "--to", other, "--dry-run", "--json").summary
    assert run("snapshots", "-r", other, "--json").summary["snapshot_count"] == 0
    summary = run("copy", "-r", repo, "--to", other, "--json").summary
    again = run("copy", first, "-r", repo, "--to", other)

    assert planned["is_dry_run"]
    assert planned["copied"] == summary["copied"] == [first, second]
    assert planned["object_count"] == summary["object_count"] > 0
    assert "copied 0 snapshots" in again.stdout
    assert "1 snapshot was there already" in again.stdout
    shutil.rmtree(repo)
    assert run("verify", "--read-data", "-r", other).code == 0


def test_copy_into_nothing_says_what_to_do(run: Run, repo: str, engine: MemoryEngine, tmp_path: Path) -> None:
    run("backup", url(engine), "-r", repo)

    unnamed = run("copy", "-r", repo)
    absent = run("copy", "-r", repo, "--to", str(tmp_path / "absent"))
    itself = run("copy", "-r", repo, "--to", repo)

    assert (unnamed.code, absent.code, itself.code) == (2, 10, 2)
    assert "--to REPO" in unnamed.stderr
    assert "recollect init -r" in absent.stderr
    assert "are one repository" in itself.stderr


def test_find_shows_when_a_record_changed(run: Run, repo: str, engine: MemoryEngine) -> None:
    first = run("backup", url(engine), "-r", repo, "--json").summary["snapshot_id"]
    put(engine, {4: [1, 1, 0]}, kind="other")
    second = run("backup", url(engine), "-r", repo, "--json").summary["snapshot_id"]

    found = run("find", "4", "5", "=4", "-r", repo, "--json")
    shown = run("find", "4", "--collection", "papers", "-r", repo)

    (record,) = found.of_type("record")
    assert found.code == 3
    assert found.summary["absent_ids"] == [5, "4"]
    assert [(each["change"], each["fields"], each["snapshots"]) for each in record["versions"]] == [
        ("added", [], [first]),
        ("changed", ["payload"], [second]),
    ]
    assert shown.code == 0
    assert "record 4 of docs in memory:" in shown.stdout
    assert "changed, payload" in shown.stdout
