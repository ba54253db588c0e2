"""What to run next, as it can be run: verbs advise commands, the command line knows how REPO was given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from recollect.errors import UnavailableError

_ON_REPOSITORY = "backup|copy|diff|drill|export|forget|ls|prune|search|show|snapshots|stats|tag|unlock|verify"
_COMMAND = re.compile(rf"`recollect (?:{_ON_REPOSITORY})(?: [^`]*)?`")


def with_repository(next_step: str, words: Sequence[str]) -> str:
    """Add the `-r REPO` of the command that failed to the commands in an advice that lack one."""
    repository = _repository(words)
    if not repository:
        return next_step  # it came from the environment or the settings, and will again
    flag = f" -r {shlex.quote(repository)}`"
    return _COMMAND.sub(
        lambda found: found[0] if " -r " in found[0] or "--help" in found[0] else found[0][:-1] + flag,
        next_step,
    )


def unwritable_output(error: OSError) -> UnavailableError:
    """Return the error that reports a standard output that takes nothing, for example a full disk."""
    return UnavailableError(
        f"standard output cannot be written: {error.strerror}",
        "what the command did before is done; see `recollect snapshots`",
    )


def _repository(words: Sequence[str]) -> str:
    given = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in {"-r", "--repo"}:
            given = following
        elif word.startswith("--repo="):
            given = word.removeprefix("--repo=")
        elif word.startswith("-r") and not word.startswith("--"):
            given = word[2:]
    return given
