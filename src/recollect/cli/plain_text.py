"""Commands that take text as it is.

Typer gives every value to pydantic to be converted, and loads it for that: 50 ms of each command.
Most options here are text, which pydantic gives back as it got it, and flags that were not given.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

_PLAIN = (str, list[str], bool)


class _AsItIs:
    """Stands where Typer has a converter, for values that need none; asks the converter for others."""

    def __init__(self, converter: Any) -> None:
        self._converter = converter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return what the converter would return."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(value, str) and param.type_descriptor.annotation is str:
            return value
        if isinstance(value, tuple | list) and param.type_descriptor.annotation == list[str]:
            return list(value)
        return self._converter().coerce(value, param=param, ctx=ctx)


def _spare_conversion(params: list[Any]) -> None:
    for param in params:
        kind = getattr(param, "type_descriptor", None)
        if kind is not None and kind.annotation in _PLAIN and kind.parameter_info.parser is None:
            stand_in = _AsItIs(param.get_runtime_param)
            param.get_runtime_param = lambda stand_in=stand_in: stand_in


class PlainTextCommand(TyperCommand):
    """A command that converts only what is not text; everything else is Typer's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        _spare_conversion(self.get_params(ctx))
        return super().parse_args(ctx, args)


class PlainTextGroup(TyperGroup):
    """The program itself, likewise."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words before the command."""
        _spare_conversion(self.get_params(ctx))
        return super().parse_args(ctx, args)
