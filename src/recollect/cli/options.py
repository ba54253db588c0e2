"""Arguments and options that several commands share, and how their text is read."""

from __future__ import annotations

from typing import Annotated

import typer

from recollect.errors import RequestError
from recollect.policy.retention import UNLIMITED

SnapshotArgument = Annotated[
    str, typer.Argument(metavar="SNAP", help="Snapshot: id, beginning of an id, name, latest, latest~1.")
]
CollectionOption = Annotated[
    str, typer.Option("--collection", metavar="C", help="Collection; needed when there are several.")
]
CollectionsOption = Annotated[
    list[str] | None, typer.Option("--collection", metavar="C", help="Only this collection; may be repeated.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show what would be done, and do nothing.")
]


def read_text(text: str, option: str) -> str:
    """Return text that is going to be stored; RequestError if its bytes are not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(f"{option} is {text!r}, which is not UTF-8 text", "write it in UTF-8") from error
    return text


def read_count(text: str, option: str) -> int:
    """Read the number of a retention rule: 0 or more, or `unlimited` (also -1).

    Raises:
        RequestError: It is neither.
    """
    if text in {"unlimited", "-1"}:
        return UNLIMITED
    if text.isascii() and text.isdigit():
        return int(text)
    raise RequestError(f"{option} is {text!r}", "give a number, or `unlimited`")
