"""Write docs/reference/cli.md from the commands themselves. Run by `make reference`."""

from __future__ import annotations

import sys
from typing import Any

from typer.main import get_command

from recollect.cli.main import COMMANDS, build_app

HEADER = """\
# Command line

Written by `make reference` from the commands themselves; a test compares. Exit codes and errors:
[errors](errors.md). What `--json` prints: [json](json.md). Variables and the settings file:
[settings](settings.md).

"""
COMMON = ("repo", "repository_file", "config", "json", "quiet", "verbose", "debug", "help")


def reference() -> str:
    """Return the page."""
    commands = vars(get_command(build_app(COMMANDS)))["commands"]
    shown = {name: commands[name] for name in COMMANDS}
    common = [parameter for parameter in shown["init"].params if parameter.name in COMMON]
    parts = [HEADER + "## Options of every command\n\n" + options_table(common)]
    parts += [command_section(name, command) for name, command in shown.items()]
    return "\n".join(parts)


def command_section(name: str, command: Any) -> str:
    """Return one command's heading, text, arguments and options."""
    alias = COMMANDS[name].alias
    own = [parameter for parameter in command.params if parameter.name not in COMMON]
    arguments = [parameter for parameter in own if not is_option(parameter)]
    words = " ".join(usage_word(parameter) for parameter in arguments)
    text = "\n".join(line.strip() for line in command.help.strip().splitlines())
    lines = [f"## {name}\n", f"    recollect {name} {words}".rstrip() + "\n", text + "\n"]
    if alias:
        lines.append(f"Also called `{alias}`.\n")
    if arguments:
        lines.append("".join(f"- `{one.metavar or one.name.upper()}`: {one.help}\n" for one in arguments))
    options = [parameter for parameter in own if is_option(parameter)]
    if options:
        lines.append(options_table(options))
    return "\n".join(lines)


def usage_word(parameter: Any) -> str:
    """Return how an argument stands in the usage line."""
    word = parameter.metavar or parameter.name.upper()
    return word if parameter.required or word.startswith("[") else f"[{word}]"


def is_option(parameter: Any) -> bool:
    """Tell options from arguments."""
    return str(parameter.opts[0]).startswith("-")


def options_table(options: list[Any]) -> str:
    """Return a Markdown table of options."""
    rows = ["| Option | Meaning |", "|---|---|"]
    for option in options:
        names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))
        value = "" if option.is_flag else f" `{option.metavar or option.type.name.upper()}`"
        rows.append(f"| {names}{value} | {option.help} |".replace("n/t|p%", "n/t\\|p%"))
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
