"""`recollect completion`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # not re-exported formally

from recollect.cli.main import COMPLETION_VARIABLE
from recollect.cli.session import Session

STOPPED = "nothing was changed"


class Shell(StrEnum):
    """Shells that there is a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def run(session: Session, shell: Annotated[Shell, typer.Argument(help="Shell to complete in.")]) -> None:
    """Print a completion script: `eval "$(recollect completion bash)"`."""
    script = get_completion_script(prog_name="recollect", complete_var=COMPLETION_VARIABLE, shell=shell.value)
    session.output.say(script)
    session.output.summary({"shell": shell.value, "script": script})
