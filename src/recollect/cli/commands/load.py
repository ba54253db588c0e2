"""`recollect load`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.cli.options import CollectionsOption, DryRunOption
from recollect.cli.session import Session
from recollect.cli.text import count_text, printable, seconds_text, size_text
from recollect.compat.arcaneum import load
from recollect.compat.arcaneum.server import open_server
from recollect.errors import EXIT_PARTIAL, UnavailableError, VerificationError
from recollect.settings import load_dump_settings

STOPPED = "collections that were restored before stay restored; run the same command again"


def run(
    session: Session,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Dump to restore.")],
    qdrant: Annotated[
        str, typer.Argument(metavar="[QDRANT]", help="Server [QDRANT_HOST].", show_default=False)
    ] = "",
    *,
    collection: CollectionsOption = None,
    no_replace: Annotated[
        bool, typer.Option("--no-replace", help="Refuse collections that exist and hold records.")
    ] = False,
    container: Annotated[
        str, typer.Option(metavar="NAME", help="Copy files through this container [CONTAINER_NAME].")
    ] = "",
    dry_run: DryRunOption = False,
) -> int:
    """Restore the collections of a dump into a Qdrant server, and count them.

    Every file is checked before the server is touched. A collection of the same name is replaced.
    """
    settings = load_dump_settings()
    options = load.LoadOptions(
        collections=tuple(collection or ()),
        existing="refuse" if no_replace else "replace",
        container=container or settings.container,
    )
    on_event = session.output.on_event
    with closing(open_server(qdrant or settings.server, session.context)) as server:
        plan = load.plan(Path(directory), server, options=options, on_event=on_event)
        if dry_run:
            _tell_plan(session, plan)
            return 0
        report = load.apply(plan, server, options=options, clock=session.context.clock, on_event=on_event)
    _tell(session, report)
    return _judge(report)


def _tell_plan(session: Session, plan: load.LoadPlan) -> None:
    session.output.say(printable(f"would restore {plan.directory} into {plan.target}:"))
    rows = [
        [
            step.name,
            "create"
            if step.replaced_count is None
            else f"replace {count_text(step.replaced_count, 'record')}",
            size_text(step.byte_size),
            step.path.name,
        ]
        for step in plan.steps
    ]
    session.output.table(["Collection", "Action", "Size", "File"], rows, right=["Size"])
    session.output.say("nothing was changed (--dry-run)")
    steps = [
        {"name": step.name, "file": step.path.name, "replaced_count": step.replaced_count}
        for step in plan.steps
    ]
    session.output.summary({"target": plan.target, "is_dry_run": True, "collections": steps})


def _tell(session: Session, report: load.LoadReport) -> None:
    session.output.table(
        ["Collection", "Records", "Expected", "Matches"],
        [
            [
                one.name,
                "-" if one.record_count is None else count_text(one.record_count),
                _expected(one),
                _judged(one),
            ]
            for one in report.collections
        ],
        right=["Records", "Expected"],
    )
    session.output.say(
        printable(f"restored {report.directory} into {report.target}, ")
        + seconds_text(report.duration_seconds)
    )
    session.output.summary(_facts(report))


def _judged(one: load.LoadedCollection) -> str:
    """Say whether the count is right; nobody knows where the dump says none."""
    if not one.is_match:
        return printable(f"NO {one.message}")
    return "unknown" if one.expected_min is None else "yes"


def _expected(one: load.LoadedCollection) -> str:
    if one.expected_min is None or one.expected_max is None:
        return "unknown"
    low, high = count_text(one.expected_min), count_text(one.expected_max)
    return low if low == high else f"{low} to {high}"


def _facts(report: load.LoadReport) -> dict[str, Any]:
    collections = [
        {
            "name": one.name,
            "file": one.file,
            "record_count": one.record_count,
            "expected_min": one.expected_min,
            "expected_max": one.expected_max,
            "is_match": one.is_match,
            "message": one.message,
        }
        for one in report.collections
    ]
    return {
        "directory": str(report.directory),
        "target": report.target,
        "is_dry_run": False,
        "is_complete": report.is_complete,
        "collections": collections,
        "duration_seconds": round(report.duration_seconds, 3),
    }


def _judge(report: load.LoadReport) -> int:
    """Return the exit code.

    Raises:
        VerificationError: Counts differ. UnavailableError: Nothing could be restored.
    """
    failed = [one for one in report.collections if one.message]
    differing = [one for one in report.collections if not one.message and not one.is_match]
    if differing:
        one = differing[0]
        raise VerificationError(
            f"{one.name!r} on {report.target} holds {one.record_count} records, "
            f"and the dump has {_expected(one)}",
            "see the server's log; load it again, or another dump",
        )
    if failed and len(failed) == len(report.collections):
        raise UnavailableError(f"nothing was restored: {failed[0].message}", "see the server's log")
    return EXIT_PARTIAL if failed else 0
