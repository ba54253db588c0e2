"""The commands, typed; what each needs is checked as far as it can be without the database."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from recollect.database.filter import Condition

Mode: TypeAlias = Literal["events", "vectors", "fusion"]
Scalar: TypeAlias = bool | int | float | str


class Event(msgspec.Struct, frozen=True, gc=False):
    """EVENT; `kind` is ADD 0, SET 1 or DEL 2. Without a timestamp it happens now."""

    context: str
    item: str
    kind: int
    score: int
    timestamp: int | None = None


class VecSet(msgspec.Struct, frozen=True, gc=False):
    """VECSET."""

    item: str
    vector: tuple[float, ...]


class VecDel(msgspec.Struct, frozen=True, gc=False):
    """VECDEL."""

    item: str


class MetaSet(msgspec.Struct, frozen=True, gc=False):
    """METASET."""

    item: str
    metadata: dict[str, Scalar]


class Sim(msgspec.Struct, frozen=True, kw_only=True):
    """SIM; `adaptive` None leaves it to the settings."""

    item: str
    top_k: int
    mode: Mode = "fusion"
    adaptive: bool | None = None
    conditions: tuple[Condition, ...] = ()
    min_score: float = 0.0


class Simv(msgspec.Struct, frozen=True, kw_only=True):
    """SIMV."""

    vector: tuple[float, ...]
    top_k: int
    conditions: tuple[Condition, ...] = ()
    min_score: float = 0.0


class Info(msgspec.Struct, frozen=True):
    """INFO."""


class Auth(msgspec.Struct, frozen=True):
    """AUTH; the password is everything behind the first blank, as bytes."""

    password: bytes

    def __repr__(self) -> str:
        return "Auth(password=***)"


class Config(msgspec.Struct, frozen=True):
    """CONFIG HELP, SHOW or VERIFY."""

    verb: Literal["HELP", "SHOW", "VERIFY"]
    path: str = ""


class Dump(msgspec.Struct, frozen=True):
    """DUMP SAVE, LOAD, VERIFY, INFO or STATUS."""

    verb: Literal["SAVE", "LOAD", "VERIFY", "INFO", "STATUS"]
    path: str = ""


class Debug(msgspec.Struct, frozen=True):
    """DEBUG ON or OFF."""

    is_on: bool


class Cache(msgspec.Struct, frozen=True):
    """CACHE STATS, CLEAR, ENABLE or DISABLE."""

    verb: Literal["STATS", "CLEAR", "ENABLE", "DISABLE"]


class SetVariable(msgspec.Struct, frozen=True):
    """SET."""

    name: str
    value: str


class GetVariable(msgspec.Struct, frozen=True):
    """GET."""

    name: str


class ShowVariables(msgspec.Struct, frozen=True):
    """SHOW VARIABLES, with the beginning of the names wanted."""

    prefix: str = ""


Write: TypeAlias = Event | VecSet | VecDel | MetaSet
Search: TypeAlias = Sim | Simv
Command: TypeAlias = (
    Write | Search | Info | Auth | Config | Dump | Debug | Cache | SetVariable | GetVariable | ShowVariables
)


def is_open_to_all(command: Command) -> bool:
    """Tell whether a command needs no password: searches and looking around."""
    match command:
        case Config(verb=verb):
            return verb != "VERIFY"
        case Cache(verb=verb):
            return verb == "STATS"
        case Event() | VecSet() | VecDel() | MetaSet() | SetVariable() | Dump():
            return False
        case _:
            return True


def needs_data(command: Command) -> bool:
    """Tell whether a command reads or writes the stores, which a load in progress forbids."""
    match command:
        case Event() | VecSet() | VecDel() | MetaSet() | Sim() | Simv():
            return True
        case Dump(verb=verb):
            return verb in {"SAVE", "LOAD"}
        case _:
            return False


def is_write(command: Command) -> bool:
    """Tell whether a command changes the stores."""
    return isinstance(command, (Event, VecSet, VecDel, MetaSet))
