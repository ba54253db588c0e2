"""Names and places as users write them: odd characters, restored elsewhere, files that are in the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recollect.cli.main import main
from recollect.repository import process
from recollect.repository.process import current_process, is_gone
from recollect.testing.sample.__main__ import main as make_sample

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small shard, made once."""
    place = tmp_path_factory.mktemp("sample") / "sentences"
    assert make_sample([str(place)]) == 0
    return place


@pytest.fixture
def run(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in a directory with a shard `sentences` and an empty repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECOLLECT_REPOSITORY", "repository")
    shutil.copytree(sample, "sentences")
    assert main(["init"]) == 0
    capsys.readouterr()

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def summary(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def test_a_shard_that_was_restored_elsewhere_is_the_collection_that_it_was(run: Run) -> None:
    assert run("backup", "sentences")[0] == 0
    assert run("restore", "latest", "elsewhere")[0] == 0

    assert run("verify", "--against", "elsewhere")[0] == 0
    assert summary(run("diff", "latest", "./elsewhere", "--json")[1])["is_same"]
    assert summary(run("diff", "./elsewhere", "latest", "--json")[1])["is_same"]
    assert run("verify", "--against", f"edge://{Path.cwd()}/elsewhere?name=other")[0] == 22


@pytest.mark.parametrize("name", ["a b", "what?#%20", "naïve 数", os.fsdecode(b"caf\xe9"), "it's", "a\nb"])
def test_the_recorded_url_of_a_shard_opens_it_again(run: Run, name: str) -> None:
    shutil.move("sentences", name)

    code, out, _ = run(
        "backup", f"edge://{Path.cwd()}/".replace("%", "%25") + quoted(name) + "?name=c", "--json"
    )
    assert code == 0
    source = summary(out)["source"]
    assert not set(source) & set(" ?#'\n")

    code, out, _ = run("backup", f"{source}?name=c", "--json")
    assert (code, summary(out)["source"], summary(out)["collections"][0]["added"]) == (0, source, 0)


def quoted(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in os.fsencode(name))


def test_a_directory_whose_name_is_no_text_needs_a_name_for_its_collection(run: Run) -> None:
    name = os.fsdecode(b"caf\xe9")
    shutil.move("sentences", name)

    code, _, err = run("backup", name)

    assert code == 2
    assert "?name=NAME" in err


@pytest.mark.parametrize("option", ["--name", "--description", "--tag", "--host"])
def test_text_to_store_must_be_utf_8(run: Run, option: str) -> None:
    code, _, err = run("backup", "sentences", option, os.fsdecode(b"caf\xe9"))

    assert code == 2
    assert "not UTF-8" in err


def test_sources_are_selected_by_any_spelling(run: Run) -> None:
    assert run("backup", "sentences")[0] == 0
    spellings = [
        "sentences",
        "./sentences/",
        f"edge://{Path.cwd()}/sentences",
        f"{Path.cwd()}/x/../sentences",
    ]

    for spelling in spellings:
        assert summary(run("snapshots", "--source", spelling, "--json")[1])["snapshot_count"] == 1, spelling
        assert (
            summary(run("forget", "--source", spelling, "--keep-last", "1", "--json")[1])["kept_count"] == 1
        )


def test_a_policy_that_no_snapshot_falls_under_says_so(run: Run) -> None:
    assert run("backup", "sentences")[0] == 0

    code, _, err = run("forget", "--host", "nobody", "--keep-last", "1")

    assert (code, "no snapshot fits" in err) == (0, True)


def test_a_dry_run_counts_what_the_forgotten_alone_need(run: Run) -> None:
    assert run("backup", "sentences")[0] == 0
    assert run("backup", "sentences")[0] == 0
    everything = run("forget", "latest", "latest~1", "--prune", "--dry-run", "--json")
    planned = summary(everything[1])["prune"]

    assert planned["garbage_count"] == planned["object_count"] > 0
    assert summary(run("verify", "--json")[1])["is_sound"]
    done = summary(run("forget", "latest", "latest~1", "--prune", "--json")[1])["prune"]
    assert done["deleted_count"] == planned["garbage_count"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("missing/x.parquet", 4, "there is no directory"),
        ("dangling.parquet", 5, "exists"),
        ("sentences", 5, "exists"),
    ],
)
def test_an_export_that_cannot_be_says_why(run: Run, name: str, code: int, words: str) -> None:
    assert run("backup", "sentences")[0] == 0
    Path("dangling.parquet").symlink_to("nowhere")

    found, _, err = run("export", "latest", name)

    assert (found, words in err) == (code, True)


def test_an_export_can_have_any_file_name(run: Run) -> None:
    assert run("backup", "sentences")[0] == 0
    name = os.fsdecode(b"caf\xe9.parquet")

    code, out, _ = run("export", "latest", name, "--json")

    assert (code, summary(out)["path"]) == (0, name)
    assert sorted(str(each) for each in Path().iterdir()) == sorted(["repository", "sentences", name])


def test_an_export_needs_no_hard_links(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setenv("RECOLLECT_REPOSITORY", "memory:export-without-links")
    assert run("init")[0] == 0
    assert run("backup", "sentences")[0] == 0

    assert run("export", "latest", "x.parquet")[0] == 0
    assert run("export", "latest", "x.parquet")[0] == 5


def test_a_process_that_proc_hides_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    me = current_process()
    monkeypatch.setattr(process, "_started", lambda _: "")

    assert not is_gone(me)
