"""A key in a URL is shown nowhere, however wrong the URL and the command are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.cli.main import main
from recollect.values.url import without_secrets

KEY = "PLANTED"
WRONG = [
    f"qdrnt://:{KEY}@127.0.0.1:1",
    f"qdrant://:{KEY}@127.0.0.1:port",
    f"qdrant://:a/{KEY}@127.0.0.1:1",
    f"qdrant://:a@{KEY}@127.0.0.1:1",
    f"qdrant://127.0.0.1:1?api_key={KEY}&nonsense=1",
    f"qdrant://127.0.0.1:1?api_key={KEY}&rest=x",
    f"edge://user:{KEY}@host/path",
    f"recollect://user:{KEY}@host/path",
]


@pytest.fixture
def words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command in this process; returns its exit code and all that it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECOLLECT_REPOSITORY", "repository")
    assert main(["init"]) == 0
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        return code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("url", WRONG)
def test_no_error_shows_the_key_of_a_wrong_url(words: Callable[..., tuple[int, str]], url: str) -> None:
    for arguments in (["backup", url], ["backup", url, "surplus"], ["backup", "--json", url]):
        code, text = words(*arguments)
        assert code != 0
        assert KEY not in text, arguments


@pytest.mark.parametrize("url", WRONG[:2])
def test_a_url_where_a_snapshot_belongs_is_not_repeated_with_its_key(
    words: Callable[..., tuple[int, str]], url: str
) -> None:
    for arguments in (["show", url], ["diff", url, "latest"], ["forget", url], ["ls", url]):
        code, text = words(*arguments)
        assert code != 0
        assert KEY not in text, arguments


def test_the_settings_in_force_are_shown_without_the_key(
    words: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOLLECT_SOURCE", f"qdrant://:{KEY}@host")
    for form in ([], ["--json"]):
        code, text = words("config", *form)
        assert code == 0
        assert "qdrant://***@host" in text
        assert KEY not in text


@pytest.mark.parametrize(
    "text",
    [
        "file:///home/me@work/x is not there",
        "qdrant://host:6334?rest=6333&api_key_env=NAME",
        "s3://bucket/prefix?endpoint=http://127.0.0.1:9000",
        "edge:///data/a@b?name=c",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text
