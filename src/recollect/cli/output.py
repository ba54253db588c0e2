"""What a command says: to people as text, to programs as JSON lines.

A command tells both and asks nothing: `say` and `table` are silent in JSON, `emit` and
`summary` are silent in text. Results go to standard output; progress, notes and errors to
standard error. Progress is drawn on a terminal only, so a pipe or a log gets none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TextIO

import msgspec

from recollect.cli.advice import unwritable_output
from recollect.cli.text import count_text, printable, seconds_text, size_text, table_text
from recollect.clock import Clock
from recollect.errors import RecollectError
from recollect.settings import wants_plain_text
from recollect.values.event import Event, Note, Progress
from recollect.values.url import without_secrets

REDRAW_S = 0.1
STATUS_S = 1.0
BAR_CELLS = 24

Form = Literal["text", "json"]


class Output:
    """One command's voice. One thread at a time.

    Args:
        form: Text for people, or JSON lines.
        verbosity: -1 only errors, 0 results, 1 also details and, in JSON, progress.
    """

    def __init__(self, form: Form, verbosity: int, clock: Clock) -> None:
        self._is_json = form == "json"
        self._verbosity = verbosity
        self._clock = clock
        self._started = clock.monotonic()
        self._drawn_at = -1.0
        self._is_line_open = False

    def say(self, text: str) -> None:
        """Print a line for people, or several; what could move the cursor or hide text is made visible."""
        self._print_text("\n".join(map(printable, text.split("\n"))))

    def detail(self, text: str) -> None:
        """Print a line for people who asked for more (-v)."""
        if self._verbosity >= 1:
            self.say(text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """Print a table for people; its head is bold on a terminal."""
        top, _, rest = table_text(head, rows, right=right).partition("\n")
        self._print_text(emphasized(top, sys.stdout) + ("\n" + rest if rest else ""))

    def emit(self, message_type: str, content: object) -> None:
        """Print one JSON line with its `message_type`; `content` is a struct or a mapping."""
        if self._is_json:
            _print(json_line(message_type, content))

    def summary(self, content: object) -> None:
        """Print the closing JSON line."""
        self.emit("summary", content)

    def on_event(self, event: Event) -> None:
        """Take a verb's progress or note."""
        if isinstance(event, Note):
            self.note(event.message)
        elif self._is_json:
            self._status(event)
        elif self._verbosity >= 0 and sys.stderr.isatty() and not wants_plain_text():
            self._draw(event)

    def note(self, message: str) -> None:
        """Tell something that the user should know although the work goes on."""
        self.emit("note", {"message": message})
        if not self._is_json and self._verbosity >= 0:
            self._close_line()
            print(f"note: {printable(message)}", file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        """Take the progress line away."""
        self._close_line()

    def _print_text(self, text: str) -> None:
        if not self._is_json and self._verbosity >= 0:
            self._close_line()
            _print(text)

    def _status(self, event: Progress) -> None:
        now = self._clock.monotonic()
        if self._verbosity >= 1 and now - self._drawn_at >= STATUS_S:
            self._drawn_at = now
            self.emit("status", {**msgspec.to_builtins(event), "seconds": round(now - self._started, 3)})
            sys.stdout.flush()

    def _draw(self, event: Progress) -> None:
        now = self._clock.monotonic()
        is_finished = event.total > 0 and event.done >= event.total
        if now - self._drawn_at < REDRAW_S and not is_finished:
            return
        self._drawn_at = now
        self._is_line_open = True
        sys.stderr.write("\r\x1b[2K" + progress_text(event, now - self._started))
        sys.stderr.flush()

    def _close_line(self) -> None:
        if self._is_line_open:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._is_line_open = False


def progress_text(event: Progress, seconds: float) -> str:
    """Render one progress line: a bar where the total is known."""
    done = size_text(event.done) if event.unit == "bytes" else count_text(event.done)
    total = size_text(event.total) if event.unit == "bytes" else count_text(event.total)
    head = f"{event.stage} {printable(event.subject)}"
    if event.total <= 0:
        return f"{head}  {done} {event.unit}  {seconds_text(seconds)}"
    share = min(event.done / event.total, 1.0)
    filled = int(share * BAR_CELLS)
    bar = "█" * filled + "░" * (BAR_CELLS - filled)
    return f"{head}  {bar} {share:4.0%}  {done} / {total} {event.unit}  {seconds_text(seconds)}"


def json_line(message_type: str, content: object) -> str:
    """Return one JSON object on one line, `message_type` first; times are RFC 3339."""
    fields: dict[str, Any] = dict(content) if isinstance(content, Mapping) else msgspec.to_builtins(content)
    line = {"message_type": message_type, **fields}
    try:
        return msgspec.json.encode(line).decode("utf-8")
    except UnicodeEncodeError:  # a file name that is not UTF-8: JSON can escape what UTF-8 cannot hold
        return json.dumps(msgspec.to_builtins(line))


def _print(text: str) -> None:
    """Print to standard output.

    Raises:
        UnavailableError: It cannot be written, for example to a full disk. BrokenPipeError passes.
    """
    try:
        print(text)  # noqa: T201
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable_output(error) from error


def emphasized(text: str, stream: TextIO) -> str:
    """Make text bold where the stream is a terminal that wants it."""
    return f"\x1b[1m{text}\x1b[0m" if stream.isatty() and not wants_plain_text() else text


def report_error(error: RecollectError, form: Form) -> None:
    """Print a failure on standard error: what happened, and what to do next.

    Whatever the error repeats of what the user wrote, no secret of a URL is shown.
    """
    message, next_step = without_secrets(error.message), without_secrets(error.next_step)
    if form == "json":
        facts = {
            "code": error.exit_code,
            "kind": error.kind,
            "message": message,
            "next_step": next_step,
        }
        line = json_line("exit_error", facts)
    else:
        notes = [f"  {printable(without_secrets(note))}" for note in getattr(error, "__notes__", [])]
        step = [f"next: {printable(next_step)}"] if next_step else []
        line = "\n".join([f"error: {printable(message)}", *notes, *step])
    print(line, file=sys.stderr)  # noqa: T201
