from __future__ import annotations

import sys

import pytest

from recollect.cli.output import Output, json_line, progress_text
from recollect.cli.text import count_text, printable, seconds_text, size_text, table_text
from recollect.clock import ManualClock
from recollect.values.event import Note, Progress


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**70, "1048576.0 PiB"),
    ],
)
def test_sizes_are_binary(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0.40 s"), (59.99, "59.99 s"), (65, "1:05"), (7384, "2:03:04")]
)
def test_durations(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_counts_take_the_number_of_their_noun() -> None:
    assert [count_text(n, "record") for n in (0, 1, 12345)] == ["0 records", "1 record", "12,345 records"]


def test_tables_align_and_cut_nothing() -> None:
    long = "x" * 300

    assert (
        table_text(["Name", "N"], [["a", "1"], [long, "22"]], right=["N"]).splitlines()[1]
        == "a" + " " * 302 + "1"
    )


def test_control_characters_are_shown_not_sent() -> None:
    assert printable("a\x1b[2Jb\u202ec\n") == "a\\x1b[2Jb\\u202ec\\n"


def test_progress_shows_a_bar_only_where_the_total_is_known() -> None:
    known = progress_text(Progress(stage="scan", subject="docs", done=50, total=100), 2.0)
    unknown = progress_text(Progress(stage="scan", subject="docs", done=50), 2.0)

    assert " 50%" in known
    assert "50 / 100 records" in known
    assert "%" not in unknown


def test_progress_in_json_comes_once_a_second_and_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for verbosity, expected in [(0, 0), (1, 3)]:
        clock = ManualClock()
        output = Output("json", verbosity, clock)
        for done in range(25):
            output.on_event(Progress(stage="scan", subject="docs", done=done))
            clock.advance(0.1)

        assert capsys.readouterr().out.count('"status"') == expected


def test_a_terminal_gets_one_line_that_is_taken_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output = Output("text", 0, ManualClock())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    output.on_event(Progress(stage="scan", subject="docs", done=1, total=2))
    output.say("done")

    captured = capsys.readouterr()
    assert captured.err.count("\r\x1b[2K") == 2
    assert captured.out == "done\n"


def test_notes_reach_people_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Output("text", 0, ManualClock()).on_event(Note(message="stored in full"))

    assert capsys.readouterr().err == "note: stored in full\n"


def test_a_json_line_begins_with_its_type() -> None:
    line = json_line("note", {"message": "a\nb"})

    assert line == '{"message_type":"note","message":"a\\nb"}'
