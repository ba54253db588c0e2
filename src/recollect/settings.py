"""Settings: flags over environment over a TOML file. The only reader of files and environment.

Every variable is named like the flag it stands for: `--repo` is RECOLLECT_REPOSITORY. A value
that may be secret can also come from a file (`…_FILE`) or from the output of a command
(`…_COMMAND`), so that it needs to stand in no process list and no shell history.

Unknown names in the file are refused, and variables that look like a known one: a typing error
in a backup's settings must not be found out at restore time. Other RECOLLECT_ variables are left
alone, since users name the variables of their secrets themselves.
Every setting: docs/reference/settings.md
"""

from __future__ import annotations

import difflib
import os
import shlex
import socket
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from recollect.errors import AccessError, NotFoundError, RequestError
from recollect.policy.duration import parse_duration
from recollect.policy.retention import RetentionRules

PREFIX = "RECOLLECT_"
COMMAND_TIMEOUT_S = 60
SECRET_BYTES_MAX = 65536
MISSPELT_SHARE = 0.85
"""Likeness from which on a variable is taken for a misspelt setting (difflib's ratio)."""

_VARIABLES = (
    "REPOSITORY",
    "REPOSITORY_FILE",
    "REPOSITORY_COMMAND",
    "SOURCE",
    "HOST",
    "WAIT_SECONDS",
    "BYTES_PER_SECOND_MAX",
    "SPOOL",
    "SPOOL_BYTES",
    "CONFIG",
)


class FileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the TOML file may hold.

    Attributes:
        repository: URL or path of the repository.
        repository_file: File that holds it.
        repository_command: Command that prints it.
        source: What `backup` backs up when no source is named.
        host: Name to record in snapshots instead of this machine's.
        wait_seconds: How long to wait for another process's garbage collection to end.
        bytes_per_second_max: What reads and writes of the repository together may move.
        spool: Directory where shards of servers arrive and are kept for the next backup.
        spool_bytes: What it may take on disk.
        retention: What `forget` keeps when no --keep flag is given.
    """

    repository: str = ""
    repository_file: str = ""
    repository_command: str = ""
    source: str = ""
    host: str = ""
    wait_seconds: float | None = None
    bytes_per_second_max: float | None = None
    spool: str = ""
    spool_bytes: float | None = None
    retention: RetentionRules | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The values in force.

    Attributes:
        repository: Empty when nothing names one; see `require_repository`.
        wait_seconds: None leaves the verb's own default.
        bytes_per_second_max: None is no limit.
        spool: Directory where shards of servers arrive and are kept; never empty.
        spool_bytes: None is no limit.
        origins: Where each value that is set came from, for `recollect config`.
    """

    repository: str = ""
    source: str = ""
    host: str = ""
    wait_seconds: float | None = None
    bytes_per_second_max: float | None = None
    spool: str = ""
    spool_bytes: float | None = None
    retention: RetentionRules | None = None
    origins: dict[str, str] = {}

    def require_repository(self) -> str:
        """Return the repository's URL or path.

        Raises:
            RequestError: None is set.
        """
        if not self.repository:
            raise RequestError(
                "no repository is named", "give -r REPO, or set RECOLLECT_REPOSITORY (see `recollect config`)"
            )
        return self.repository


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said; empty where it said nothing."""

    repository: str = ""
    repository_file: str = ""
    host: str = ""
    config: str = ""


def load_settings(flags: Flags, environment: Mapping[str, str] | None = None) -> Settings:
    """Put the settings together; `environment` is the process's own unless given.

    Raises:
        RequestError: A name is unknown, a value has the wrong type, or one setting is given twice.
        NotFoundError: A file that was named does not exist.
    """
    found = os.environ if environment is None else environment
    variables = {name.removeprefix(PREFIX): found[name] for name in found if name.startswith(PREFIX)}
    _refuse_misspelt(variables)
    file, file_name = _read_config(flags.config or variables.get("CONFIG", ""), found)
    repository, origin = _repository(flags, variables, file, file_name)
    values: dict[str, Any] = {"repository": repository}
    origins = {"repository": origin}
    for name in ("source", "host", "spool"):
        values[name], origins[name] = _first(
            (getattr(flags, name, ""), "flag"),
            (variables.get(name.upper(), ""), PREFIX + name.upper()),
            (getattr(file, name), file_name),
        )
    if not values["host"]:
        values["host"], origins["host"] = socket.gethostname(), "this machine"
    if not values["spool"]:
        values["spool"], origins["spool"] = str(cache_directory("recollect", found) / "spool"), "this user"
    for name in ("wait_seconds", "bytes_per_second_max", "spool_bytes"):
        text = variables.get(name.upper(), "")
        values[name] = _number(name.upper(), text) if text else getattr(file, name)
        origins[name] = PREFIX + name.upper() if text else file_name
    values["retention"], origins["retention"] = file.retention, file_name
    return Settings(**values, origins={name: origins[name] for name in origins if values[name]})


def process_environment() -> dict[str, str]:
    """Return the environment of this process, for options that other modules put together."""
    return dict(os.environ)


def read_secret(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the value of the variable NAME, or of NAME_FILE's file, or of NAME_COMMAND's output.

    A line end after it is dropped. None when none of the three is set.

    Raises:
        RequestError: More than one of the three is set.
        AccessError: The file cannot be read, or the command fails. The value is in no message.
    """
    found = os.environ if environment is None else environment
    names = [variant for variant in (name, f"{name}_FILE", f"{name}_COMMAND") if found.get(variant)]
    if len(names) > 1:
        raise RequestError(f"{' and '.join(names)} are both set", "set one of them only")
    if not names:
        return None
    if names[0] == name:
        return found[name]
    if names[0].endswith("_FILE"):
        return _file_content(found[names[0]], names[0])
    return _command_output(found[names[0]], names[0])


def wants_plain_text(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether the user refused colour and cursor movement: NO_COLOR is set, or TERM is dumb.

    Source: https://no-color.org
    """
    found = os.environ if environment is None else environment
    return bool(found.get("NO_COLOR")) or found.get("TERM") == "dumb"


class DumpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `dump` and `load` take from the environment, by the names that Arcaneum's scripts use.

    Attributes:
        server: `QDRANT_HOST`.
        directory: `BACKUP_DIR`.
        container: `CONTAINER_NAME`; empty if it is not set: files then travel over HTTP.
    """

    server: str
    directory: Path
    container: str


def load_dump_settings(environment: Mapping[str, str] | None = None) -> DumpSettings:
    """Read the variables of `dump` and `load`; `environment` is the process's own unless given."""
    found = os.environ if environment is None else environment
    home = Path(found.get("HOME", "."))
    return DumpSettings(
        server=found.get("QDRANT_HOST") or "http://localhost:6333",
        directory=Path(found.get("BACKUP_DIR") or home / ".arcaneum" / "backups").expanduser(),
        container=found.get("CONTAINER_NAME", ""),
    )


def state_directory(application: str, environment: Mapping[str, str] | None = None) -> Path:
    """Return where an application keeps its state: `$XDG_STATE_HOME`, or `~/.local/state`.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    found = os.environ if environment is None else environment
    base = found.get("XDG_STATE_HOME") or Path(found.get("HOME", ".")) / ".local" / "state"
    return Path(base) / application


def cache_directory(application: str, environment: Mapping[str, str]) -> Path:
    """Return where an application keeps what it can get again: `$XDG_CACHE_HOME`, or `~/.cache`.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", ".")) / ".cache"
    return Path(base) / application


def _repository(
    flags: Flags, variables: Mapping[str, str], file: FileSettings, file_name: str
) -> tuple[str, str]:
    """Find the repository in the first place that names one; twice in one place is refused."""
    places = [
        ("--repo", flags.repository, flags.repository_file, ""),
        (
            PREFIX + "REPOSITORY",
            *(variables.get(f"REPOSITORY{end}", "") for end in ("", "_FILE", "_COMMAND")),
        ),
        (file_name, file.repository, file.repository_file, file.repository_command),
    ]
    for origin, direct, named_file, command in places:
        given = [value for value in (direct, named_file, command) if value]
        if len(given) > 1:
            raise RequestError(
                f"{origin}: the repository is given twice", "give it directly, by file or by command"
            )
        if direct:
            return str(Path(direct).expanduser()) if direct.startswith("~") else direct, origin
        if named_file:
            return _file_content(named_file, origin), f"{origin}, file {named_file}"
        if command:
            return _command_output(command, origin), f"{origin}, command"
    return "", ""


def _read_config(path: str, environment: Mapping[str, str]) -> tuple[FileSettings, str]:
    """Read the TOML file; a missing one is an error only when it was named."""
    place = Path(path) if path else _default_config(environment)
    try:
        text = place.read_text("utf-8")
    except FileNotFoundError as error:
        if path:
            raise NotFoundError(
                f"there is no settings file {path}", "check --config or RECOLLECT_CONFIG"
            ) from error
        return FileSettings(), str(place)
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"the settings file {place} cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"the settings file {place} is not valid TOML: {error}") from error
    _refuse_unknown(document, FileSettings.__struct_fields__, f"the settings file {place}")
    retention = document.get("retention")
    if isinstance(retention, dict):
        _refuse_unknown(retention, RetentionRules.__struct_fields__, f"[retention] in {place}")
        document["retention"] = {name: _duration_parts(name, retention[name]) for name in retention}
    try:
        return msgspec.convert(document, FileSettings), str(place)
    except msgspec.ValidationError as error:
        raise RequestError(f"the settings file {place}: {error}", "see docs/reference/settings.md") from error


def _default_config(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CONFIG_HOME")
    base = Path(home) if home else Path(environment.get("HOME", ".")) / ".config"
    return base / "recollect" / "config.toml"


def _duration_parts(name: str, value: object) -> object:
    """Read `keep_within… = "30d"`; any other value passes as it is."""
    if name.startswith("keep_within") and isinstance(value, str):
        return msgspec.to_builtins(parse_duration(value))
    return value


def _refuse_misspelt(variables: Iterable[str]) -> None:
    for name in variables:
        nearest = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=MISSPELT_SHARE)
        if nearest and nearest[0] != name:
            raise RequestError(
                f"the environment sets {PREFIX}{name}, which is no setting of Recollect",
                f"did you mean {PREFIX}{nearest[0]}?",
            )


def _refuse_unknown(names: Iterable[str], known: Iterable[str], place: str) -> None:
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {nearest[0]}?" if nearest else f"known are: {', '.join(known)}"
            raise RequestError(f"{place} sets {name}, which is no setting of Recollect", advice)


def _first(*candidates: tuple[str, str]) -> tuple[str, str]:
    """Return the first non-empty value and its origin."""
    return next(((value, origin) for value, origin in candidates if value), ("", ""))


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise RequestError(f"{PREFIX}{name} is {text!r}, not a number")
    return value


def _file_content(path: str, origin: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(SECRET_BYTES_MAX)
        return _one_line(content, f"the file {path}", origin)
    except OSError as error:
        raise AccessError(f"{origin}: the file {path} cannot be read: {error.strerror}") from error


def _command_output(command: str, origin: str) -> str:
    """Run a command without a shell and return what it printed."""
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own command, from the user's own settings
            shlex.split(command), stdout=subprocess.PIPE, check=True, timeout=COMMAND_TIMEOUT_S
        )
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        reason = "timed out" if isinstance(error, subprocess.TimeoutExpired) else "failed"
        if isinstance(error, subprocess.CalledProcessError):
            reason = f"ended with status {error.returncode}"
        raise AccessError(f"{origin}: the command {reason}", "run it by hand to see why") from error
    return _one_line(done.stdout, "the command's output", origin)


def _one_line(content: bytes, what: str, origin: str) -> str:
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise AccessError(f"{origin}: {what} is not UTF-8 text") from error
    if not text or "\n" in text:
        raise AccessError(f"{origin}: {what} must be one line, and not empty")
    return text
