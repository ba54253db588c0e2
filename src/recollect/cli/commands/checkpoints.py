"""`recollect checkpoints`."""

from __future__ import annotations

from recollect.cli.checkpointed import DataArgument, ServerOption, checkpoints
from recollect.cli.session import Session
from recollect.cli.text import printable

STOPPED = "nothing was changed"


def run(session: Session, data: DataArgument = "", *, server: ServerOption = "") -> None:
    """List the checkpoints of an embedded database, oldest first.

    A directory is read without opening the database, so it may be in use.
    """
    found = checkpoints(session, data, server)
    rows = [[one.id, str(one.commit_ts), printable(one.name), printable(one.description)] for one in found]
    session.output.table(["Id", "Commit", "Name", "Description"], rows, right=["Commit"])
    for one in found:
        session.output.emit("checkpoint", one)
    session.output.summary({"checkpoint_count": len(found)})
