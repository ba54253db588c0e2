"""What a document shows, as one bash script.

Every code block without a language, of `sh`, `bash` or `python` becomes a part of it, in order. Comments
that readers do not see may stand in front of a block:

- `<!-- test: setup -->`: the block makes what readers have already; it is run like any other.
- `<!-- test: given` … `-->`: the same unseen: lines in the block's language, to be run in front of it.
- `<!-- test: skip, REASON -->`: the block is not run.

A line of a crontab is run without its times. A line that says "runs until stopped" is stopped after a
moment, and must not have ended before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON_RUNNER = Path(__file__).with_name("run_python.py")

# `make` runs these tests; installing and services are what the machine's preparation did.
NOT_RUN = ("make ", "pip install", "systemctl ")
SHELL = frozenset({"", "sh", "bash"})
MOMENT_S = 4

_BLOCK = re.compile(
    r"(?:<!-- test: (?P<note>setup|skip, [^>]+|given\n(?P<given>.*?))\s*-->\n)?"
    r"^```(?P<language>[a-z]*)\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_TIMES = re.compile(r"^(?:[0-9*/,-]+ +){5}(?=\S)")


def shell_script(document: str, places: Mapping[str, str]) -> str:
    """Return the script of a document; `places` says what stands here for the names that it uses."""
    parts = ["set -euo pipefail"]
    for block in _BLOCK.finditer((ROOT / document).read_text(encoding="utf-8")):
        if (block["note"] or "").startswith("skip"):
            continue
        given = f"{block['given']}\n" if block["given"] else ""
        if block["language"] == "python":
            parts.append(f"python {PYTHON_RUNNER} <<'END_OF_PYTHON'\n{given}{block['body']}\nEND_OF_PYTHON")
        elif block["language"] in SHELL:
            parts += given.splitlines() + [_line(each) for each in block["body"].splitlines()]
    script = "\n".join(parts)
    for name, place in places.items():
        script = script.replace(name, place)
    return script


def commands(document: str) -> list[str]:
    """Return the lines of a document's script that call `recollect`."""
    return [line for line in shell_script(document, {}).splitlines() if line.startswith("recollect")]


def _line(line: str) -> str:
    if line.startswith(NOT_RUN):
        return f"# {line}"
    line = _TIMES.sub("", line)
    if "runs until stopped" in line:
        command = line.partition(" #")[0]
        return f"code=0; timeout {MOMENT_S} {command} || code=$?; test $code = 124"
    return line
