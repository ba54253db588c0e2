"""`recollect checkpoint`."""

from __future__ import annotations

from typing import Annotated

import typer

from recollect.cli.checkpointed import DataArgument, ServerOption, take
from recollect.cli.options import read_text
from recollect.cli.session import Session
from recollect.cli.text import printable

STOPPED = "the checkpoint is there in whole or not at all; see `recollect checkpoints`"


def run(
    session: Session,
    data: DataArgument = "",
    *,
    name: Annotated[
        str, typer.Option(metavar="N", help="Name it. A named one is kept until it is forgotten by hand.")
    ] = "",
    description: Annotated[str, typer.Option(metavar="D", help="What it is for.")] = "",
    server: ServerOption = "",
) -> None:
    """Take a checkpoint of an embedded database now.

    In its directory when nobody has it open, or by the server that has. Without a name, and with nothing
    committed since the newest checkpoint, that one is shown.
    """
    made = take(session, data, server, read_text(name, "--name"), read_text(description, "--description"))
    named = f" ({printable(made.name)})" if made.name else ""
    session.output.say(f"checkpoint {made.id}{named} of commit {made.commit_ts}")
    session.output.summary(made)
