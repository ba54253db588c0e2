"""`recollect completion`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer
from typer.main import get_command

from recollect.cli.main import COMMANDS, build_app
from recollect.cli.session import Session

STOPPED = "nothing was changed"

_BASH = """\
_recollect() {{
  local words
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _recollect recollect
"""
_ZSH_HEAD = "autoload -U +X bashcompinit && bashcompinit\n"


class Shell(StrEnum):
    """Shells that there is a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def run(session: Session, shell: Annotated[Shell, typer.Argument(help="Shell to complete in.")]) -> None:
    """Print a completion script, to be evaluated in the shell's start-up file.

    bash, zsh: eval "$(recollect completion bash)". fish: recollect completion fish | source
    """
    script = completion_script(shell, options_by_command())
    session.output.say(script.rstrip("\n"))
    session.output.summary({"shell": shell.value, "script": script})


def options_by_command() -> dict[str, list[str]]:
    """Return the options of every command and alias, as the parser knows them."""
    commands = vars(get_command(build_app(COMMANDS)))["commands"]
    return {
        name: sorted(
            option for parameter in command.params for option in parameter.opts if option.startswith("-")
        )
        for name, command in commands.items()
    }


def completion_script(shell: Shell, options: Mapping[str, list[str]]) -> str:
    """Write a script that knows every command and option by itself: no process is started per key press."""
    if shell is Shell.fish:
        lines = [f"complete -c recollect -n __fish_use_subcommand -f -a {name}" for name in options]
        for name, words in options.items():
            head = f"complete -c recollect -n '__fish_seen_subcommand_from {name}'"
            long = [word for word in words if word.startswith("--")]
            lines += [f"{head} -l {word.removeprefix('--')}" for word in long]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f'      {name}) words="{" ".join(words)}" ;;' for name, words in options.items())
    script = _BASH.format(commands=" ".join(options), cases=cases)
    return _ZSH_HEAD + script if shell is Shell.zsh else script
