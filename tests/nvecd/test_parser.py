"""Any bytes in: a reply or a close out, never a crash."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.compat.nvecd.face import Face, Session
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol.filters import parse_filter, parse_metadata
from recollect.compat.nvecd.protocol.lines import LineBuffer
from recollect.compat.nvecd.protocol.numbers import parse_float, parse_floats, parse_integer, parse_value
from recollect.compat.nvecd.protocol.parse import parse_line
from recollect.database.filter import Condition
from recollect.errors import RequestError
from tests.nvecd.faces import open_face, settings_in

VOCABULARY = (
    "EVENT VECSET VECDEL METASET SIM SIMV INFO AUTH CONFIG DUMP DEBUG CACHE SET GET SHOW ADD DEL HELP "
    "VERIFY STATUS STATS ON OFF VARIABLES LIKE using=events using=vectors filter=a>1 min_score=-1 "
    "filter=a=in(1|2) adaptive=on timestamp=5 a:1,b:x item1 ctx1 1 0 -1 5.5 1e9 nan "
    "0x1p3 99999999999 / .. cache.%"
)
WORDS = st.sampled_from([*VOCABULARY.split(), "\N{LATIN SMALL LETTER E WITH ACUTE}", "\x7f", "\t", ""])
LINES = st.one_of(
    st.binary(max_size=60), st.lists(WORDS, max_size=7).map(lambda words: " ".join(words).encode())
)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    directory: Path = tmp_path_factory.mktemp("face") / "snapshots"
    with open_face(settings_in(directory)) as opened:
        yield opened


@settings(max_examples=400, deadline=None)
@given(line=LINES)
def test_every_line_gets_exactly_one_reply(line: bytes, face: Face) -> None:
    reply = face.execute([line], Session())

    assert reply.endswith(b"\r\n")
    assert not reply.endswith(b"\r\n\r\n")
    assert b"\n" not in reply.replace(b"\r\n", b"")
    reply.decode("utf-8")


@settings(max_examples=30, deadline=None)
@given(lines=st.lists(LINES, max_size=40))
def test_lines_together_get_the_replies_of_lines_apart(
    lines: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Putting writes of a pipeline into one commit changes no reply."""
    steady = [line for line in lines if line[:4].upper() in {b"EVEN", b"VECS", b"VECD", b"META", b"SIM "}]
    directory = tmp_path_factory.mktemp("pair") / "snapshots"
    with open_face(settings_in(directory)) as together, open_face(settings_in(directory)) as apart:
        session = Session()
        found = together.execute(steady, Session())
        assert found == b"".join(apart.execute([line], session) for line in steady)


@given(data=st.lists(st.binary(max_size=30), max_size=20))
def test_the_packets_do_not_matter(data: list[bytes]) -> None:
    whole, parts = LineBuffer(1000), LineBuffer(1000)

    at_once = whole.feed(b"".join(data))
    piecewise = [line for part in data for line in parts.feed(part)]

    assert at_once == piecewise


@given(
    value=st.floats(width=32, allow_nan=False, allow_infinity=False),
    style=st.sampled_from(["{!r}", "{:e}", "{:.9g}"]),
)
def test_floats_are_read_as_they_were_written(value: float, style: str) -> None:
    token = style.format(value)
    rounded = struct.unpack("<f", struct.pack("<f", float(token)))[0]

    assert struct.pack("<f", parse_floats([token])[0]) == struct.pack("<f", rounded)
    assert parse_float(token) == float(token)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("x", "Failed to parse float: x"),
        ("", "Failed to parse float: "),
        ("1_0", "Invalid float: 1_0"),
        ("1.5x", "Invalid float: 1.5x"),
        ("nan", "Invalid float: nan"),
        ("-Infinity", "Invalid float: -Infinity"),
        ("1e39", "Failed to parse float: 1e39"),
        ("1e400", "Failed to parse float: 1e400"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "Failed to parse float: \N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_what_is_no_float_is_refused(token: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_floats(["1", token])
    assert caught.value.message == message


def test_numbers_are_read_as_c_does() -> None:
    assert parse_float("0x1p3") == 8.0
    assert parse_float(".5") == 0.5
    assert parse_integer("+7") == 7
    for token, message in {
        "5.5": "Invalid integer: 5.5",
        "x": "Failed to parse integer: x",
        "9" * 11: None,
    }.items():
        with pytest.raises(RequestError) as caught:
            parse_integer(token)
        assert message is None or caught.value.message == message


def test_values_take_the_most_special_type() -> None:
    found = [
        parse_value(text)
        for text in ("true", "True", "12", "-9223372036854775808", "9223372036854775808", "1.5", "x1")
    ]

    assert found == [True, "True", 12, -(2**63), 9.223372036854775808e18, 1.5, "x1"]
    assert parse_value("inf") == "inf"
    assert math.isclose(float(parse_value("1e3")), 1000.0)


def test_filters_have_every_operator() -> None:
    found = parse_filter("a:1,b=x,c!=2,d>3,e>=4,f<5,g<=6.5,h=in(1|y)")

    assert found == (
        Condition("a", "=", 1),
        Condition("b", "=", "x"),
        Condition("c", "!=", 2),
        Condition("d", ">", 3),
        Condition("e", ">=", 4),
        Condition("f", "<", 5),
        Condition("g", "<=", 6.5),
        Condition("h", "in", (1, "y")),
    )
    assert parse_metadata("k:v,n:1,url:http://x") == {"k": "v", "n": 1, "url": "http://x"}
    for wrong in ("a", ":1", "a:", "a=in(1||2)", "=x"):
        with pytest.raises(RequestError, match="Invalid filter condition"):
            parse_filter(wrong)


def test_a_password_keeps_its_blanks() -> None:
    assert parse_line(b"AUTH  open sesame ") == cmd.Auth(b" open sesame ")
    assert "sesame" not in repr(parse_line(b"auth open sesame"))
