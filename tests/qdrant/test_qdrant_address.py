"""URLs of Qdrant servers: every spelling, and no secret anywhere."""

from __future__ import annotations

import pytest

from recollect.engines.qdrant.address import parse_address
from recollect.errors import RequestError


def nothing(_name: str) -> str | None:
    return None


@pytest.mark.parametrize(
    ("url", "normalized"),
    [
        ("qdrant://host", "qdrant://host:6334?rest=6333"),
        ("qdrant://host:16334?rest=16333", "qdrant://host:16334?rest=16333"),
        ("http://host:6333", "qdrant://host:6334?rest=6333"),
        ("http://host", "qdrant://host:6334?rest=6333"),
        ("http://host:80?grpc=81", "qdrant://host:81?rest=80"),
        ("https://host:6333", "qdrants://host:6334?rest=6333"),
        ("qdrants://host", "qdrants://host:6334?rest=6333"),
        ("qdrant://host?tls=true&timeout=5", "qdrants://host:6334?rest=6333"),
        ("qdrant://[::1]:7", "qdrant://[::1]:7?rest=6333"),
        ("https://host/db/", "qdrants://host:6334/db?rest=6333"),
        ("qdrant://user:key@host?api_key=other", "qdrant://host:6334?rest=6333"),
    ],
)
def test_spellings_of_one_server_normalize_to_one_url(url: str, normalized: str) -> None:
    assert parse_address(url, nothing)[0].url == normalized


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("qdrant://", "names no server"),
        ("qdrant://:secret@", "names no server"),
        ("ftp://host", "'ftp'"),
        ("qdrant://host:99999", "port"),
        ("qdrant://host:secret", "port"),
        ("qdrant://host?rest=x", "rest=x"),
        ("qdrant://host?timeout=0", "timeout=0"),
        ("qdrant://host?tmeout=1", "'tmeout'"),
    ],
)
def test_wrong_urls_are_refused_without_their_secrets(url: str, what: str) -> None:
    with pytest.raises(RequestError, match=what) as failure:
        parse_address(url, nothing)
    assert "secret" not in failure.value.message
    assert failure.value.next_step


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("qdrant://host", ""),
        ("qdrant://host?api_key=k%2B1", "k+1"),
        ("qdrant://:k%40@host", "k@"),
        ("qdrant://k@host", "k"),
        ("qdrant://host?api_key_env=NAME", "from NAME"),
    ],
)
def test_keys_come_from_where_the_url_says(url: str, key: str) -> None:
    assert parse_address(url, lambda name: f"from {name}")[1] == key
