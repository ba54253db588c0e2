"""`recollect restore --ids/--filter`: selected records, back into a collection that is in use."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from recollect.catalog.catalog import Catalog
from recollect.cli.session import Session, chosen_collection
from recollect.cli.text import count_text, printable, seconds_text
from recollect.database.filter import Condition, parse_filter
from recollect.errors import EXIT_PARTIAL, AccessError, RequestError
from recollect.operations import undelete
from recollect.values.key import RecordId, parse_record_id

_CONDITION = re.compile(
    r"\s*(?P<field>.+?)\s*(?P<operator>!=|>=|<=|=|>|<|\sin\s)\s*(?P<value>.*?)\s*", re.DOTALL
)


def run(
    session: Session,
    selector: str,
    target: str,
    collection: str,
    selection: undelete.Selection,
    *,
    replace: bool,
    dry_run: bool,
) -> int:
    """Bring selected records of one collection back; returns the exit code, 3 if ids are not in the snapshot.

    `collection` is empty, a collection's name, or `C:NEWNAME` for another name in the target.
    """
    repository = session.repository()
    snapshot = Catalog(repository).find(selector)
    name, _, new_name = collection.rpartition(":")
    if any(entry.name == collection for entry in snapshot.collections) or not name:
        name, new_name = collection, ""
    entry = chosen_collection(snapshot, name)
    options = undelete.UndeleteOptions(
        target_name=new_name or entry.name, selection=selection, existing="replace" if replace else "keep"
    )
    verb = undelete.plan if dry_run else undelete.apply
    with session.target(target) as opened:
        report = verb(
            repository,
            entry,
            opened,
            options=options,
            clock=session.context.clock,
            on_event=session.output.on_event,
        )
        url = opened.info().url
    _tell(session, report, url, "would bring back" if dry_run else "brought back")
    session.output.summary(
        {
            "snapshot_id": snapshot.id,
            "target": url,
            "is_dry_run": dry_run,
            **msgspec.to_builtins(report),
        }
    )
    return EXIT_PARTIAL if report.absent_ids else 0


def read_selection(ids: list[str], filters: list[str]) -> undelete.Selection:
    """Read `--ids` and `--filter`.

    Raises:
        RequestError: A filter is not understood. AccessError: A file of ids cannot be read.
    """
    found = [identity for text in ids for identity in _ids(text)]
    return undelete.Selection(
        ids=tuple(found) if ids else None, conditions=parse_filter([_condition(text) for text in filters])
    )


def _ids(text: str) -> list[RecordId]:
    """Read `1,2,3`, or `@FILE` with one id a line."""
    if not text.startswith("@"):
        return [parse_record_id(part.strip()) for part in text.split(",") if part.strip()]
    try:
        lines = Path(text[1:]).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"the file of ids {text[1:]} cannot be read: {error}") from error
    return [parse_record_id(line.strip()) for line in lines if line.strip()]


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise RequestError(f"--filter is {text!r}", 'write FIELD=VALUE, FIELD>=2020, or FIELD in ["a", "b"]')
    operator = match["operator"].strip()
    try:
        value = msgspec.json.decode(match["value"])
    except msgspec.DecodeError:
        value = match["value"]
    return Condition(match["field"], operator, value)  # type: ignore[arg-type]  # parse_filter checks it


def _tell(session: Session, report: undelete.UndeleteReport, url: str, verb: str) -> None:
    output = session.output
    output.table(
        ["Selected", "Missing", "Replaced", "Kept as they are", "Same"],
        [
            [
                count_text(number)
                for number in (
                    report.selected_count,
                    report.restored_count,
                    report.replaced_count,
                    report.kept_count,
                    report.same_count,
                )
            ]
        ],
    )
    if report.kept_count:
        output.note(
            f"{count_text(report.kept_count, 'record')} with other content stayed; "
            "add --replace to overwrite them"
        )
    for identity in report.absent_ids[:20]:
        output.note(printable(f"the snapshot has no record {identity}"))
    changed = report.restored_count + report.replaced_count
    output.say(
        printable(f"{verb} {count_text(changed, 'record')} into {report.target_name} of {url}, ")
        + seconds_text(report.duration_seconds)
    )
