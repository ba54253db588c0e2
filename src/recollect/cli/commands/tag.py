"""`recollect tag`."""

from __future__ import annotations

from typing import Annotated

import typer

from recollect.cli.options import SnapshotArgument, read_text
from recollect.cli.session import Session
from recollect.errors import RequestError

STOPPED = "the tags are either the old or the new ones; see `recollect show`"


def run(
    session: Session,
    snapshot: SnapshotArgument,
    *,
    add: Annotated[list[str] | None, typer.Option(metavar="T", help="Tag to add; may be repeated.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Tag to remove; may be repeated.")
    ] = None,
) -> None:
    """Add or remove tags of a snapshot. `forget --keep-tag` keeps snapshots by them."""
    if not add and not remove:
        raise RequestError("no tag is named", "give --add T or --remove T")
    catalog = session.catalog()
    added = [read_text(tag, "--add") for tag in add or ()]
    changed = catalog.tag(catalog.find(snapshot).id, add=added, remove=remove or ())
    session.output.say(f"snapshot {changed.id} has {', '.join(changed.tags) or 'no tags'}")
    session.output.summary({"snapshot_id": changed.id, "tags": changed.tags})
