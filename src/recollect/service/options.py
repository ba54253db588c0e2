"""The options of `recollect serve`: a file in TOML or YAML, under the environment, under flags.

Every key has a flag and a variable: `statehouse.address` is `--set statehouse.address=…` and
RECOLLECT_SERVE_STATEHOUSE_ADDRESS. Statehouse's own variables are honoured as documented; Recollect's
win over them. Unknown keys are refused at every level.
"""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recollect.database.options import (
    CheckpointOptions,
    DatabaseOptions,
    EventOptions,
    FsyncMode,
    LogOptions,
    VectorOptions,
    check_options,
)
from recollect.errors import MissingDependencyError, NotFoundError, RequestError

PREFIX = "RECOLLECT_SERVE_"

_STATEHOUSE = {
    "STATEHOUSE_DATA_DIR": "data",
    "STATEHOUSE_SNAPSHOT_INTERVAL": "checkpoints.commit_interval",
    "STATEHOUSE_MAX_LOG_SIZE": "log.segment_bytes_max",
    "STATEHOUSE_TX_TIMEOUT_MS": "statehouse.transaction_timeout_ms",
    "STATEHOUSE_ADDR": "statehouse.address",
    "STATEHOUSE_LISTEN_ADDR": "statehouse.address",
}
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


class StatehouseOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gRPC face.

    Attributes:
        enabled: Serve it.
        address: Where it listens; port 0 lets the system choose.
        transaction_timeout_ms: Of transactions that name none.
        transaction_count_max: Open transactions at most; more are refused.
        transaction_bytes_max: What they may hold staged in memory together.
        json_snapshots: Write `snapshots/snapshot-<commit_ts>.json` after each automatic checkpoint.
        json_keep_last: JSON snapshots that are kept.
        counters_interval_s: Seconds between two log lines of counters, written if they changed. 0: none.
    """

    enabled: bool = True
    address: str = "127.0.0.1:50051"
    transaction_timeout_ms: int = 30_000
    transaction_count_max: int = 10_000
    transaction_bytes_max: int = 1 << 30
    json_snapshots: bool = True
    json_keep_last: int = 3
    counters_interval_s: float = 60.0


class NvecdOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """nvecd's face.

    Attributes:
        enabled: Serve it.
        address: Where the line protocol listens; port 0 lets the system choose. A file overrides it.
        config: A configuration file of nvecd (YAML) for everything else: unix socket, HTTP, password,
            networks, automatic snapshots, metric, events. Where it says nothing, and without one: local
            clients only, snapshots in DATA/nvecd without nvecd's limits, and the documented replies.
    """

    enabled: bool = True
    address: str = "127.0.0.1:11017"
    config: str = ""


class ArchiveOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continuous archiving.

    Attributes:
        repository: Where to; empty for nowhere.
        interval_s: Seconds between two passes: what a lost disk can take at most.
    """

    repository: str = ""
    interval_s: float = 5.0


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All options of a server.

    Attributes:
        data: The data directory.
        use_memory: Keep nothing: the data directory is a temporary one that goes when the server ends.
        fsync: See `database.options.FsyncMode`.
        drain_s: How long requests under way may take at the end.
    """

    data: str = ""
    use_memory: bool = False
    fsync: FsyncMode = "commit"
    drain_s: float = 10.0
    statehouse: StatehouseOptions = StatehouseOptions()
    nvecd: NvecdOptions = NvecdOptions()
    archive: ArchiveOptions = ArchiveOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    log: LogOptions = LogOptions()
    vectors: VectorOptions = VectorOptions()
    events: EventOptions | None = None

    def database_options(self) -> DatabaseOptions:
        """Return what the database is opened with."""
        return DatabaseOptions(
            vectors=self.vectors,
            events=self.events,
            log=self.log,
            checkpoints=self.checkpoints,
            transaction_timeout_s=self.statehouse.transaction_timeout_ms / 1000,
            transaction_count_max=self.statehouse.transaction_count_max,
            transaction_bytes_max=self.statehouse.transaction_bytes_max,
        )


def load_options(
    *, data: str, config: str, settings: Sequence[str], environment: Mapping[str, str]
) -> ServeOptions:
    """Put the options together.

    Raises:
        RequestError: A key is unknown, or a value makes no sense; the message names it.
        NotFoundError: The file does not exist.
    """
    values: dict[str, Any] = _read(config) if config else {}
    for name, key in _STATEHOUSE.items():
        if environment.get(name):
            _put(values, key, environment[name])
    in_memory = _switch(environment, "STATEHOUSE_USE_MEMORY")
    if in_memory is not None:
        _put(values, "use_memory", "true" if in_memory else "false")
    fsync = _switch(environment, "STATEHOUSE_FSYNC_ON_COMMIT")
    if fsync is not None:
        _put(values, "fsync", "commit" if fsync else "interval")
    for key in _keys(ServeOptions):
        name = PREFIX + key.upper().replace(".", "_")
        if environment.get(name):
            _put(values, key, environment[name])
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise RequestError(
                f"--set {setting!r} sets nothing", "write it like --set statehouse.address=0.0.0.0:50051"
            )
        _put(values, key, value)
    if data:
        values["data"] = data
    return _checked(values, config)


def _switch(environment: Mapping[str, str], name: str) -> bool | None:
    """Return what a variable that is on or off says; None if it is not set, or empty."""
    text = environment.get(name, "").lower()
    if text in _YES | _NO:
        return text in _YES
    if text:
        raise RequestError(
            f"{name} is {environment[name]!r}, which is neither on nor off", "set it to 1 or 0"
        )
    return None


def _checked(values: dict[str, Any], config: str) -> ServeOptions:
    known = set(_keys(ServeOptions))
    unknown = sorted(key for key in _flat(values) if key not in known)
    if unknown:
        raise RequestError(
            f"the option {unknown[0]!r} is unknown{f' ({config})' if config else ''}",
            f"the options are: {', '.join(sorted(known))}",
        )
    try:
        options = msgspec.convert(values, ServeOptions, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"an option of the server is wrong: {error}", "correct it; see --check-config"
        ) from error
    if not options.data and not options.use_memory:
        raise RequestError("no data directory is named", "give --data DIR, or set STATEHOUSE_DATA_DIR")
    if options.statehouse.transaction_timeout_ms <= 0:
        found = options.statehouse.transaction_timeout_ms
        raise RequestError(f"the option statehouse.transaction_timeout_ms must be positive, got {found}")
    check_options(options.database_options())
    intervals = {
        "drain_s": options.drain_s,
        "statehouse.json_keep_last": options.statehouse.json_keep_last,
        "statehouse.counters_interval_s": options.statehouse.counters_interval_s,
        "archive.interval_s": options.archive.interval_s,
    }
    for key, value in intervals.items():
        if not 0 <= value < threading.TIMEOUT_MAX:
            raise RequestError(f"the option {key} makes no sense: {value}")
    if options.archive.repository and not options.archive.interval_s:
        raise RequestError("the option archive.interval_s must be positive to archive", "for example 5")
    check_address("statehouse.address", options.statehouse.address)
    return options


def check_address(key: str, address: str) -> tuple[str, int]:
    """Return host and port of an option; RequestError if it is no address."""
    host, separator, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and int(port) <= 65535
    if not separator or not is_port:
        raise RequestError(
            f"the option {key} is {address!r}, which is no address", "write it like 127.0.0.1:50051"
        )
    return host.strip("[]"), int(port)


def _read(config: str) -> dict[str, Any]:
    path = Path(config)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no configuration file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the configuration file {path} cannot be read: {error}") from error
    try:
        found: Any = tomllib.loads(text) if path.suffix == ".toml" else _yaml(text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise RequestError(f"the configuration file {path} is not well-formed: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RequestError(f"the configuration file {path} is no table of options")
    return found


def _yaml(text: str) -> Any:
    try:
        return msgspec.yaml.decode(text)
    except ImportError as error:
        raise MissingDependencyError(
            "a YAML configuration needs PyYAML",
            "install it: pip install 'recollect[serve]', or write TOML",
        ) from error


def _put(values: dict[str, Any], key: str, value: str) -> None:
    *path, last = key.split(".")
    place = values
    for part in path:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RequestError(f"the option {part!r} is a table, not a value")
        place = inner
    place[last] = value


def _keys(kind: type[msgspec.Struct], prefix: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(kind):
        inner = EventOptions if field.name == "events" else field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found += _keys(inner, f"{prefix}{field.name}.")
        else:
            found.append(prefix + field.name)
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found
