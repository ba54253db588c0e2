"""Replies as bytes: lines that end in CRLF, and exactly one of them at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CRLF = b"\r\n"


def line(text: str) -> bytes:
    """Return one line, or a text of several; whatever ends its lines becomes CRLF."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    return plain.replace("\n", "\r\n").encode("utf-8", "replace") + CRLF


def error(message: str) -> bytes:
    """Return a refusal, on one line."""
    return b"ERROR " + " ".join(message.split("\r")).replace("\n", " ").encode("utf-8", "replace") + CRLF


def results(found: Sequence[tuple[str, float]]) -> bytes:
    """Return search results, scores with four digits."""
    lines = [f"OK RESULTS {len(found)}", *(f"{item} {score:.4f}" for item, score in found)]
    return "\r\n".join(lines).encode("utf-8") + CRLF


def block(head: str, fields: Iterable[tuple[str, object]]) -> bytes:
    """Return a head, `name: value` lines, and END."""
    return line("\n".join([head, *(f"{name}: {value}" for name, value in fields), "END"]))


def bulk(value: str) -> bytes:
    """Return one value with its length in bytes."""
    encoded = value.encode("utf-8")
    return b"$%d\r\n%b\r\n" % (len(encoded), encoded)


def array(values: Sequence[str]) -> bytes:
    """Return several values, each with its length."""
    return b"*%d\r\n" % len(values) + b"".join(map(bulk, values))
