"""`recollect verify`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from recollect.catalog.catalog import Catalog
from recollect.cli.options import CollectionsOption
from recollect.cli.session import Session, only_collection
from recollect.cli.text import count_text, printable, size_text
from recollect.errors import (
    FormatVersionError,
    IntegrityError,
    RecollectError,
    RequestError,
    VerificationError,
)
from recollect.operations import verify
from recollect.repository.repository import Repository
from recollect.values.ulid import RandomBytes
from recollect.values.url import without_secrets

STOPPED = "nothing was changed"
PROBLEMS_SHOWN_MAX = 50

_PART = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")


def run(
    session: Session,
    snapshot: Annotated[
        str, typer.Argument(metavar="[SNAP]", help="Only this snapshot; by default all.", show_default=False)
    ] = "",
    *,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Also read every object and prove its content.")
    ] = False,
    read_data_subset: Annotated[
        str,
        typer.Option(
            metavar="n/t|p%", help="Read a part of the objects: part n of t, or p per cent by chance."
        ),
    ] = "",
    against: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="Compare this live database with the snapshot (default: latest)."
        ),
    ] = "",
    collection: CollectionsOption = None,
) -> None:
    """Prove that what is stored is what was written, or that a live database is what was backed up.

    Without options: every snapshot can be read, and every object it needs is there with its size.
    """
    if against and (read_data or read_data_subset):
        raise RequestError(
            "--against compares a live database; --read-data reads the repository",
            "run them one after the other",
        )
    if collection and not against:
        raise RequestError(
            "--collection goes with --against", "to verify one snapshot, name it: recollect verify SNAP"
        )
    repository = session.repository()
    if against:
        _against(session, repository, snapshot or "latest", against, tuple(collection or ()))
        return
    share = read_share(read_data_subset, session.context.random_bytes) if read_data_subset else None
    if read_data:
        share = verify.Share()
    options = verify.VerifyOptions(snapshot=snapshot, share=share)
    report = verify.run(repository, options=options, on_event=session.output.on_event)
    if share is not None and report.object_count and not report.read_count:
        session.output.note("no object falls into this part; with so few, --read-data reads all")
    _tell(session, report)
    if not report.is_sound:
        raise _damage(report, repository.url)


def read_share(text: str, random_bytes: RandomBytes) -> verify.Share:
    """Read `n/t` or `p%`; a percentage becomes a part chosen by chance that is at least as large.

    Raises:
        RequestError: It is neither, or n is above t.
    """
    part, percent = _PART.fullmatch(text), _PERCENT.fullmatch(text)
    if part is not None and int(part[1]) <= int(part[2]):
        return verify.Share(number=int(part[1]), count=int(part[2]))
    if percent is not None and 0 < float(percent[1]) <= 100:
        count = max(int(100 / float(percent[1])), 1)
        return verify.Share(number=int.from_bytes(random_bytes(8), "big") % count + 1, count=count)
    raise RequestError(f"--read-data-subset is {text!r}", "write a part as 1/7, or a percentage as 10%")


def _against(
    session: Session, repository: Repository, selector: str, url: str, collections: tuple[str, ...]
) -> None:
    snapshot = Catalog(repository).find(selector)
    with session.source(url, collection=only_collection(snapshot)) as source:
        report = verify.against(
            repository, snapshot, source, collections=collections, on_event=session.output.on_event
        )
    _tell(session, report)
    if not report.is_sound:
        different = [check.name for check in report.collections if not check.is_match]
        names = ", ".join([*different, *(problem.what for problem in report.problems)])
        shown = without_secrets(url)
        raise VerificationError(
            f"{shown} is not what snapshot {snapshot.id} holds: {names}",
            f"see what differs: recollect diff {snapshot.id} {shown} -r {repository.url} --records",
        )


def _tell(session: Session, report: verify.VerifyReport) -> None:
    output = session.output
    for problem in report.problems:
        output.emit("problem", problem)
    for problem in report.problems[:PROBLEMS_SHOWN_MAX]:
        output.say(printable(f"{problem.kind}: {problem.message}"))
    if len(report.problems) > PROBLEMS_SHOWN_MAX:
        output.say(f"… and {len(report.problems) - PROBLEMS_SHOWN_MAX} more; --json lists all")
    if report.collections:
        output.table(
            ["Collection", "Records", "Fingerprint", "Difference"],
            [_row(check) for check in report.collections],
            right=["Records"],
        )
    if report.object_count:
        objects = count_text(report.object_count, "object")
        output.say(
            f"{count_text(report.snapshot_count, 'snapshot')}, {objects} looked for, "
            f"{count_text(report.read_count)} read ({size_text(report.read_bytes)})"
        )
    output.say("verified: no problem found" if report.is_sound else "NOT verified")
    output.summary(_facts(report))


def _row(check: verify.CollectionCheck) -> list[str]:
    changes = check.changes
    counts = f"{changes.added} added, {changes.changed} changed, {changes.removed} removed"
    difference = "none" if check.is_match else counts if changes.total else f"found {check.found}"
    return [check.name, count_text(check.record_count), check.fingerprint, difference]


def _facts(report: verify.VerifyReport) -> dict[str, Any]:
    return {
        "is_sound": report.is_sound,
        "fingerprint_matched": all(check.is_match for check in report.collections)
        if report.collections
        else None,
        "snapshot_count": report.snapshot_count,
        "object_count": report.object_count,
        "read_count": report.read_count,
        "read_bytes": report.read_bytes,
        "problem_count": len(report.problems),
        "collections": [
            {
                "snapshot_id": check.snapshot_id,
                "name": check.name,
                "record_count": check.record_count,
                "fingerprint": check.fingerprint,
                "found_fingerprint": check.found,
                "fingerprint_matched": check.is_match,
                "added": check.changes.added,
                "changed": check.changes.changed,
                "removed": check.changes.removed,
            }
            for check in report.collections
        ],
    }


def _damage(report: verify.VerifyReport, url: str) -> RecollectError:
    """Say the worst that was found as an error; its class decides the exit code."""
    problems = report.problems
    if problems and all(problem.kind == "unsupported" for problem in problems):
        return FormatVersionError(
            f"{len(problems)} of the files in {url} were written by a newer release", "update Recollect"
        )
    hurt = sorted({identity for problem in problems for identity in problem.snapshots})
    hurt += [check.snapshot_id for check in report.collections if not check.is_match]
    first = problems[0].message if problems else f"the records of {report.collections[0].name!r} are others"
    count = len(problems) or sum(not check.is_match for check in report.collections)
    return IntegrityError(
        f"{count_text(count, 'problem')} in {url}, the first: {first}; "
        f"snapshots affected: {', '.join(hurt) or 'unknown'}",
        "restore from another snapshot or another copy; `recollect backup --full` makes a new one",
    )
