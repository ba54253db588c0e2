"""From a line to a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol.filters import parse_filter, parse_metadata
from recollect.compat.nvecd.protocol.numbers import parse_float, parse_floats, parse_integer, parse_timestamp
from recollect.database.filter import Condition
from recollect.errors import RequestError

_BLANKS = b" \t\n\v\f\r"
_EVENT_KINDS = {"ADD": 0, "SET": 1, "DEL": 2}
_MODES: dict[str, cmd.Mode] = {"events": "events", "vectors": "vectors", "fusion": "fusion"}
_Verb = TypeVar("_Verb", bound=str)


def parse_line(line: bytes) -> cmd.Command:
    """Read one command; the line has no line end.

    Raises:
        RequestError: It is no command; the message is what the client gets behind `ERROR `.
    """
    if b"\0" in line:
        raise RequestError("Command must not contain embedded NUL bytes")
    if line[:4].upper() == b"AUTH" and line[4:5] in {b" ", b"\t"} and line[5:]:
        return cmd.Auth(line[5:])
    stripped = line.strip(_BLANKS)
    if not stripped:
        raise RequestError("Empty command")
    if b"\r" in stripped:
        raise RequestError("Command must be a single line")
    try:
        text = stripped.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError("Command must be valid UTF-8") from error
    tokens = [token for token in text.split(" ") if token]
    name = tokens[0].upper()
    parser = _PARSERS.get(name)
    if parser is None:
        raise RequestError(f"Unknown command: {name}")
    return parser(tokens)


def is_dump(line: bytes) -> bool:
    """Tell whether a line, readable or not, begins like a DUMP."""
    return line.upper().split(None, 1)[:1] == [b"DUMP"]


def check_top_k(top_k: int, maximum: int) -> int:
    """Return the number of results wanted, if a search may return so many."""
    if top_k <= 0:
        raise RequestError(f"top_k must be positive, got {top_k}")
    if top_k > maximum:
        raise RequestError(f"top_k {top_k} exceeds maximum allowed: {maximum}")
    return top_k


def check_score(score: int) -> int:
    """Return the score of an event, if it is one."""
    if not 0 <= score <= 100:
        raise RequestError(f"Score must be in range [0, 100], got {score}")
    return score


def _event(tokens: list[str]) -> cmd.Event:
    if len(tokens) < 4:
        raise RequestError("EVENT requires at least 3 arguments: <ctx> <type> <id> [<score>]")
    name = tokens[2].upper()
    kind = _EVENT_KINDS.get(name)
    if kind is None:
        raise RequestError(f"Invalid EVENT type: {name} (must be ADD, SET, or DEL)")
    if name == "DEL":
        if len(tokens) > 5:
            raise RequestError("EVENT DEL requires 3-4 arguments: <ctx> DEL <id> [timestamp=<value>]")
        return cmd.Event(tokens[1], tokens[3], kind, 0, _timestamp(tokens[4:]))
    if not 5 <= len(tokens) <= 6:
        raise RequestError(
            f"EVENT {name} requires 4-5 arguments: <ctx> {name} <id> <score> [timestamp=<value>]"
        )
    score = parse_integer(tokens[4])
    timestamp = _timestamp(tokens[5:])
    return cmd.Event(tokens[1], tokens[3], kind, check_score(score), timestamp)


def _timestamp(tokens: list[str]) -> int | None:
    seconds = parse_timestamp(tokens[0]) if tokens else None
    return seconds or None  # nvecd takes 0 for "now"


def _vecset(tokens: list[str]) -> cmd.VecSet:
    if len(tokens) < 3:
        raise RequestError("VECSET requires at least 2 arguments: <id> <floats>")
    return cmd.VecSet(tokens[1], parse_floats(tokens[2:]))


def _vecdel(tokens: list[str]) -> cmd.VecDel:
    if len(tokens) != 2:
        raise RequestError("VECDEL requires 1 argument: <id>")
    return cmd.VecDel(tokens[1])


def _metaset(tokens: list[str]) -> cmd.MetaSet:
    if len(tokens) != 3:
        raise RequestError("METASET requires 2 arguments: <id> <key:value[,key:value...]>")
    return cmd.MetaSet(tokens[1], parse_metadata(tokens[2]))


def _sim(tokens: list[str]) -> cmd.Sim:
    if len(tokens) < 3:
        raise RequestError("SIM requires at least 2 arguments: <id> <top_k>")
    top_k = parse_integer(tokens[2])
    mode: cmd.Mode = "fusion"
    adaptive: bool | None = None
    conditions: tuple[Condition, ...] = ()
    min_score = 0.0
    for token in tokens[3:]:
        name, _, value = token.partition("=")
        _refuse_unsupported(name, token)
        if name == "using":
            if value not in _MODES:
                raise RequestError(f"Invalid using value: {value} (must be events, vectors, or fusion)")
            mode = _MODES[value]
        elif name == "adaptive":
            if value not in {"on", "off"}:
                raise RequestError(f"Invalid adaptive value: {value} (must be on or off)")
            adaptive = value == "on"
        elif name == "filter" and "=" in token:
            conditions = parse_filter(value)
        elif name == "min_score" and "=" in token:
            min_score = parse_float(value)
        else:
            raise RequestError(f"Invalid SIM option: {token}")
    return cmd.Sim(
        item=tokens[1],
        top_k=top_k,
        mode=mode,
        adaptive=adaptive,
        conditions=conditions,
        min_score=min_score,
    )


def _simv(tokens: list[str]) -> cmd.Simv:
    if len(tokens) < 3:
        raise RequestError("SIMV requires at least 2 arguments: <top_k> <floats>")
    top_k = parse_integer(tokens[1])
    conditions: tuple[Condition, ...] = ()
    min_score, start = 0.0, 2
    while start < len(tokens) and "=" in tokens[start]:
        name, _, value = tokens[start].partition("=")
        _refuse_unsupported(name, tokens[start])
        if name == "filter":
            conditions = parse_filter(value)
        elif name == "min_score":
            min_score = parse_float(value)
        else:
            raise RequestError(f"Invalid SIMV option: {tokens[start]}")
        start += 1
    if start == len(tokens):
        raise RequestError("SIMV requires at least one vector float")
    return cmd.Simv(
        vector=parse_floats(tokens[start:]), top_k=top_k, conditions=conditions, min_score=min_score
    )


def _refuse_unsupported(name: str, token: str) -> None:
    if name in {"candidate_limit", "explain"} and "=" in token:
        raise RequestError(f"{name} option is not supported")


def _config(tokens: list[str]) -> cmd.Config:
    return cmd.Config(_verb(tokens, ("HELP", "SHOW", "VERIFY")), _third(tokens))


def _dump(tokens: list[str]) -> cmd.Dump:
    return cmd.Dump(_verb(tokens, ("SAVE", "LOAD", "VERIFY", "INFO", "STATUS")), _third(tokens))


def _cache(tokens: list[str]) -> cmd.Cache:
    return cmd.Cache(_verb(tokens, ("STATS", "CLEAR", "ENABLE", "DISABLE")))


def _third(tokens: list[str]) -> str:
    return tokens[2] if len(tokens) > 2 else ""


def _verb(tokens: list[str], verbs: tuple[_Verb, ...]) -> _Verb:
    name = tokens[0].upper()
    if len(tokens) < 2:
        raise RequestError(f"{name} requires subcommand: {'|'.join(verbs)}")
    wanted = tokens[1].upper()
    for verb in verbs:
        if verb == wanted:
            return verb
    raise RequestError(f"Unknown {name} subcommand: {wanted}")


def _debug(tokens: list[str]) -> cmd.Debug:
    if len(tokens) != 2:
        raise RequestError("DEBUG requires exactly one argument: ON|OFF")
    word = tokens[1].upper()
    if word not in {"ON", "OFF"}:
        raise RequestError(f"DEBUG requires ON or OFF, got: {word}")
    return cmd.Debug(word == "ON")


def _set(tokens: list[str]) -> cmd.SetVariable:
    if len(tokens) < 3:
        raise RequestError("SET requires 2 arguments: <variable_name> <value>")
    return cmd.SetVariable(tokens[1], " ".join(tokens[2:]))


def _get(tokens: list[str]) -> cmd.GetVariable:
    if len(tokens) < 2:
        raise RequestError("GET requires 1 argument: <variable_name>")
    return cmd.GetVariable(tokens[1])


def _show(tokens: list[str]) -> cmd.ShowVariables:
    _verb(tokens, ("VARIABLES",))
    if len(tokens) >= 4 and tokens[2].upper() == "LIKE":
        return cmd.ShowVariables(tokens[3].removesuffix("%"))
    return cmd.ShowVariables()


def _auth(_tokens: list[str]) -> cmd.Auth:
    raise RequestError("AUTH requires 1 argument: <password>")


def _info(_tokens: list[str]) -> cmd.Info:
    return cmd.Info()


_Parser = Callable[[list[str]], cmd.Command]
_PARSERS: dict[str, _Parser] = {
    "EVENT": _event,
    "VECSET": _vecset,
    "VECDEL": _vecdel,
    "METASET": _metaset,
    "SIM": _sim,
    "SIMV": _simv,
    "INFO": _info,
    "AUTH": _auth,
    "CONFIG": _config,
    "DUMP": _dump,
    "DEBUG": _debug,
    "CACHE": _cache,
    "SET": _set,
    "GET": _get,
    "SHOW": _show,
}
