"""Payloads: canonical JSON that brings every value back with its kind."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recollect.errors import RequestError
from recollect.testing.strategies import payloads
from recollect.values.payload import decode_payload, encode_payload

EDGES: dict[str, Any] = {
    "empty": {},
    "null": {"a": None, "b": [None, {"c": None}]},
    "nested": {"a": {"b": {"c": [[[]], [{}], {"": {"": []}}]}}},
    "integers": {"i": [2**64 - 1, 2**63, 2**63 - 1, 2**53 + 1, 0, -1, -(2**63)]},
    "beyond": {"i": [2**64, -(2**63) - 1, 10**60]},
    "doubles": {"d": [0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, 1e15, 1e16, 1e22, 2.0**63]},
    "booleans": {"b": [True, False, 1, 0, 1.0, "true"]},
    "nul": {"k\0": "a\0b", "controls": "\x01\x1f\x7f\u2028\u2029"},
    "unicode": {"é": "中\U0001f600", "e\u0301": "\u202e", "\uffff": 1, "\U00010000": 2},
    "escapes": {'"\\/': '\b\f\n\r\t"\\/'},
    "empty or absent": {"a": "", "b": [], "c": {}},
}


def kinds(value: Any) -> Any:
    """Return a value in a form in which 1, 1.0, True and -0.0 all differ."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    if isinstance(value, float):
        return "double", struct.pack("<d", value)
    return type(value).__name__, value


def shuffled(value: Any, order: int) -> Any:
    """Return an equal value whose objects were filled in another order."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: hash((item[0], order)))
        return {key: shuffled(item, order) for key, item in items}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", list(EDGES))
def test_edge_cases_come_back_with_value_and_kind(name: str) -> None:
    assert kinds(decode_payload(encode_payload(EDGES[name]))) == kinds(EDGES[name])


@given(payloads())
def test_any_payload_comes_back_with_value_and_kind(payload: dict[str, Any]) -> None:
    assert kinds(decode_payload(encode_payload(payload))) == kinds(payload)


@given(payloads(), st.integers())
@example({"b": 1, "a": {"d": 1, "c": 2}}, 1)
@example({"\uffff": 1, "\U00010000": 2}, 1)
def test_equal_payloads_give_equal_bytes(payload: dict[str, Any], order: int) -> None:
    encoded = encode_payload(payload)

    assert encode_payload(shuffled(payload, order)) == encoded
    assert encode_payload(decode_payload(encoded)) == encoded


@given(payloads())
def test_the_bytes_are_json_for_every_reader(payload: dict[str, Any]) -> None:
    encoded = encode_payload(payload)

    assert kinds(json.loads(encoded)) == kinds(payload)
    assert list(json.loads(encoded)) == sorted(payload)


@given(payloads(), payloads())
def test_different_payloads_give_different_bytes(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert (encode_payload(left) == encode_payload(right)) == (kinds(left) == kinds(right))


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.0)
@example(1e16)
def test_a_double_never_turns_into_an_integer(value: float) -> None:
    encoded = encode_payload(value)

    assert set(encoded) & set(b".e"), "a point or an exponent marks it"
    assert struct.pack("<d", decode_payload(encoded)) == struct.pack("<d", value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: bad,
        lambda bad: {"a": bad},
        lambda bad: {"n": None, "a": [1, [2, {"b": bad}]]},
        lambda bad: [None, [[bad]]],
        lambda bad: {"s": "null", "t": (1, bad)},
    ],
)
def test_nan_and_infinities_are_refused_at_any_depth(wrap: Any, bad: float) -> None:
    with pytest.raises(RequestError, match="NaN"):
        encode_payload(wrap(bad))


@pytest.mark.parametrize("bad", [{"a": "\ud800"}, {"\udfff": 1}, {1: 2}, {"a": object()}, {"a": 1j}])
def test_what_json_cannot_carry_is_refused(bad: Any) -> None:
    with pytest.raises(RequestError):
        encode_payload(bad)


def test_endless_nesting_is_refused_instead_of_overflowing_the_stack() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(RequestError, match="nest"):
        encode_payload(deep)
    with pytest.raises(RequestError, match="nest"):
        decode_payload(b"[" * 100_000 + b"]" * 100_000)
    while deep:  # taken apart step by step: freeing it at once would recurse as well
        deep = deep[0]


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff", b'{"a":}', b"nul", b'"\\ud800"', b"1e999", b"{} x"])
def test_damaged_json_is_refused(damaged: bytes) -> None:
    with pytest.raises(RequestError, match="not valid JSON"):
        decode_payload(damaged)
