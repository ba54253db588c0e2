"""Which URL opens which store, and what is refused."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.clock import ManualClock
from recollect.errors import MissingDependencyError, RecollectError, RequestError
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from recollect.storage.url import open_store


def opened(url: str) -> ObjectStore:
    return open_store(url, ManualClock(), random.Random(1).randbytes)


def test_paths_and_file_urls_open_the_same_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened("a b").put("key", b"value")

    for url in (
        str(tmp_path / "a b"),
        "./a b",
        f"file://{tmp_path}/a%20b",
        f"FILE://localhost{tmp_path}/a b",
    ):
        store = opened(url)
        assert isinstance(store, LocalStore)
        assert store.get("key") == b"value"
        assert store.url == f"{tmp_path.as_uri()}/a%20b"


def test_opening_creates_nothing(tmp_path: Path) -> None:
    opened(str(tmp_path / "new"))

    assert list(tmp_path.iterdir()) == []


def test_memory_stores_are_fresh_unless_named() -> None:
    opened("memory:").put("key", b"value")
    opened("memory:test-url").put("key", b"value")

    assert list(opened("memory:").list("")) == []
    assert opened("memory:test-url").get("key") == b"value"
    assert opened("memory:test-url").url == "memory:test-url"
    assert isinstance(opened("memory:"), MemoryStore)


def test_an_s3_url_opens_a_bucket(open_bucket: Callable[..., ObjectStore]) -> None:
    bucket = open_bucket(prefix="backups/daily")
    bucket.put("key", b"value")

    store = opened(bucket.url)

    assert store.get("key") == b"value"
    assert store.url == bucket.url
    assert bucket.url.startswith("s3://bucket-")
    assert bucket.url.endswith("&region=us-east-1")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "empty"),
        ("ftp://host/path", "'ftp:'"),
        ("postgres://user:hunter2@host/db", "'postgres:'"),
        ("file://other-host/path", "absolute path on this machine"),
        ("file:relative", "absolute path on this machine"),
        ("file:///path?x=hunter2", "no '?'"),
        ("s3://", "names a bucket"),
        ("s3:///prefix", "names a bucket"),
        ("s3://key:hunter2@bucket/prefix", "must not carry credentials"),
        ("s3://bucket/prefix?secret_access_key=hunter2", "'secret_access_key'"),
        ("s3://bucket/../other", "valid prefix"),
        ("gs://bucket/prefix?region=x", "'region'"),
        ("az://container/prefix?sas_key=hunter2", "'sas_key'"),
    ],
)
def test_what_cannot_be_a_store_is_refused_without_repeating_secrets(url: str, said: str) -> None:
    if url.startswith(("s3", "gs", "az")):
        pytest.importorskip("obstore")

    with pytest.raises(RequestError, match=said) as caught:
        opened(url)

    assert "hunter2" not in caught.value.message + caught.value.next_step


def test_an_unknown_scheme_is_answered_with_those_that_exist() -> None:
    with pytest.raises(RequestError) as caught:
        opened("sftp://host/path")

    for form in ("file:///", "memory:", "s3://", "gs://", "az://", "./"):
        assert form in caught.value.next_step


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "recollect.storage.cloud", raising=False)

    with pytest.raises(MissingDependencyError) as caught:
        opened("s3://bucket/prefix")

    assert 'pip install "recollect[cloud]"' in caught.value.next_step


def test_google_and_azure_urls_open_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is first needed when something is read."""
    pytest.importorskip("obstore")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aHVudGVyMg==")

    assert opened("gs://bucket/prefix").url == "gs://bucket/prefix"
    assert opened("az://container/a/b?account=acme").url == "az://container/a/b?account=acme"


def test_azure_without_an_account_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(RecollectError, match="Account must be specified"):
        opened("az://container/prefix")
