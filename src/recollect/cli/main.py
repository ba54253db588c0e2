"""The entry point, and the only handler of `RecollectError`.

Only the module of the command that is called gets imported, so that `recollect --help`
does not wait for NumPy and Arrow.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any, NamedTuple

import typer

from recollect import __version__
from recollect.cli import advice
from recollect.cli.plain_text import PlainTextCommand, PlainTextGroup
from recollect.errors import EXIT_BUG, CancelledError, RecollectError, RequestError


class Entry(NamedTuple):
    """One command of the overview.

    Attributes:
        help: The line that stands in the overview.
        alias: Another name for it, that users of other tools expect.
    """

    help: str
    alias: str | None = None


COMMANDS = {
    "init": Entry("Create a repository."),
    "backup": Entry("Back up a vector database."),
    "snapshots": Entry("List snapshots.", "list"),
    "show": Entry("Show one snapshot in full."),
    "ls": Entry("List what a snapshot holds."),
    "stats": Entry("Show what the repository holds and what it saves."),
    "diff": Entry("Show which records differ between two states."),
    "find": Entry("Show which snapshots have a record, and when it changed."),
    "verify": Entry("Prove that stored data, or a live database, is what was backed up.", "check"),
    "restore": Entry("Restore a snapshot, proven record by record."),
    "recover": Entry("Bring an embedded database back to any commit or time."),
    "archive": Entry("Ship an embedded database's commit log to the repository."),
    "checkpoint": Entry("Take a checkpoint of an embedded database, by itself or by its server."),
    "checkpoints": Entry("List the checkpoints of an embedded database."),
    "serve": Entry("Run an embedded database behind its network faces."),
    "forget": Entry("Drop snapshots, by policy or by name."),
    "prune": Entry("Delete data that no snapshot needs.", "compact"),
    "copy": Entry("Copy snapshots into another repository."),
    "tag": Entry("Add or remove tags of a snapshot."),
    "export": Entry("Write one collection as an ordinary Parquet file, or a snapshot as a file of nvecd."),
    "import": Entry("Store a snapshot file of nvecd as a snapshot."),
    "search": Entry("Find nearest neighbours in a snapshot, without restoring it."),
    "unlock": Entry("Clear what dead processes left in the way."),
    "config": Entry("Show the settings in force and where each comes from."),
    "completion": Entry("Print a completion script for a shell."),
    "version": Entry("Show versions."),
    "drill": Entry("Prove that a snapshot restores and answers queries, in a scratch engine."),
    "dump": Entry("Write native Qdrant snapshots of all collections into a directory."),
    "load": Entry("Restore a directory that dump wrote into a Qdrant server."),
}

_COMMON_WITH_VALUE = frozenset({"-r", "--repo", "--repository-file", "--config"})
_COMMON = _COMMON_WITH_VALUE | {"--json", "-q", "--quiet", "-v", "--verbose", "--debug"}

OVERVIEW = """Backup, verification and point-in-time recovery for vector databases.

Snapshots are selected by id, the beginning of an id, name, `latest`, or `latest~1` for the one before it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (docs/reference/errors.md)."""
    if arguments is None:  # this process is ours, from its first word to its exit code
        sys.meta_path.insert(0, _WithoutPandas())
        gc.disable()  # importing makes nothing but what stays
    words = _command_first(list(sys.argv[1:] if arguments is None else arguments)) or ["--help"]
    _replace_closed_streams()
    _show_what_cannot_be_encoded()
    try:
        with _termination_as_interrupt():
            called = next((word for word in words if not word.startswith("-")), "")
            app = build_app({called})
            if arguments is None:
                gc.freeze()
                gc.enable()
            result = app(args=words, prog_name="recollect", standalone_mode=False)
            _flush()
        return _exit_code(result, words)
    except RecollectError as error:
        return _failed(error, words)
    except KeyboardInterrupt:
        return _failed(CancelledError("stopped on request", "nothing was begun"), words)
    except typer.TyperException as error:
        return _failed(RequestError(" ".join(error.format_message().split()), _usage_hint(words)), words)
    except typer.Abort:
        return _failed(CancelledError("stopped on request"), words)
    except BrokenPipeError:
        # The reader has gone. Nothing more can be said; keep the interpreter from trying at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BUG
    except Exception as error:  # noqa: BLE001 -- the last frame: whatever arrives here is a bug
        return _crashed(error, words)


class _WithoutPandas(MetaPathFinder):
    """Lets Arrow find that pandas is not installed.

    It imports pandas, if it can, at the first array that is made of NumPy's: 0.3 s of a backup that takes
    one second, for types that never occur here.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- the form of a finder
        target: ModuleType | None = None,  # noqa: ARG002 -- as above
    ) -> ModuleSpec | None:
        """Find nothing but pandas, and that not."""
        if fullname == "pandas":
            raise ModuleNotFoundError("Recollect does without pandas", name=fullname)
        return None


def _command_first(words: list[str]) -> list[str]:
    """Move common options that stand before the command behind it: `recollect -r REPO snapshots`."""
    place = 0
    while place < len(words) and words[place].partition("=")[0] in _COMMON:
        place += 2 if words[place] in _COMMON_WITH_VALUE else 1
    return words[place : place + 1] + words[:place] + words[place + 1 :]


def _replace_closed_streams() -> None:
    """Put the null device where the caller closed a standard stream (`>&-`).

    Otherwise the next file that is opened takes its number, and what a library prints lands in that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 -- until the end


def _show_what_cannot_be_encoded() -> None:
    """Write characters that the terminal's encoding lacks as escapes, instead of failing at them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_code(result: object, words: Sequence[str]) -> int:
    """Return what a command returned; report what Typer makes a mere number, an interrupt outside of one."""
    if result == CancelledError.exit_code:
        return _failed(CancelledError("stopped on request", "nothing was begun"), words)
    return result if isinstance(result, int) else 0


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise advice.unwritable_output(error) from error


def build_app(called: Collection[str]) -> typer.Typer:
    """Return the application; of its commands only those `called` are loaded, the others are names."""
    app = typer.Typer(
        cls=PlainTextGroup,
        help=OVERVIEW,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, entry in COMMANDS.items():
        function = _load(name) if name in called or entry.alias in called else _not_loaded
        shown = entry.help + (f" (also: {entry.alias})" if entry.alias else "")
        form = PlainTextCommand
        app.command(name, cls=form, short_help=shown, help=function.__doc__)(function)
        if entry.alias:
            app.command(entry.alias, cls=form, help=function.__doc__, hidden=True)(function)
    return app


def _version(value: bool) -> None:  # noqa: FBT001 -- the form of a callback
    if value:
        sys.stdout.write(f"recollect {__version__}\n")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def _load(name: str) -> Callable[..., Any]:
    command = importlib.import_module("recollect.cli.command")
    module = importlib.import_module(f"recollect.cli.commands.{name}")
    return command.make_command(module)  # type: ignore[no-any-return]


def _not_loaded() -> None:
    """See `recollect COMMAND --help`."""


def _usage_hint(words: Sequence[str]) -> str:
    called = next((word for word in words if word in COMMANDS), "")
    return f"see `recollect {called} --help`" if called else "see `recollect --help`"


def _failed(error: RecollectError, words: Sequence[str]) -> int:
    output = importlib.import_module("recollect.cli.output")
    if "--debug" in words:
        traceback.print_exception(error)
    error.next_step = advice.with_repository(error.next_step, words)
    output.report_error(error, "json" if "--json" in words else "text")
    return error.exit_code


def _crashed(error: Exception, words: Sequence[str]) -> int:
    """Report a bug: never dressed up as a request error, never a page of traceback unasked."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
    bug = RecollectError(
        f"a bug in Recollect {__version__}: {type(error).__name__} at {place}: {error}",
        "run it again with --debug and report what it prints",
    )
    return _failed(bug.with_traceback(error.__traceback__), words)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, unwind like Ctrl-C: what was begun is taken back in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signal module's form
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup(1) means it
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
