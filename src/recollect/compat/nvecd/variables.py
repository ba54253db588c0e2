"""The settings of a running server: most are fixed, five can be changed with SET."""

from __future__ import annotations

import math

from recollect.compat.nvecd.cache import SearchCache
from recollect.compat.nvecd.config.describe import MUTABLE, canonical_name, variables
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.errors import NotFoundError, RequestError

_TRUTHS = {"true": "true", "on": "true", "1": "true", "yes": "true"}
_FALSEHOODS = {"false": "false", "off": "false", "0": "false", "no": "false"}
_LEVELS = ("trace", "debug", "info", "warn", "error")


class Variables:
    """Current values by name. Safe to share between threads: each change replaces one value."""

    def __init__(self, settings: NvecdSettings, cache: SearchCache) -> None:
        self._values = variables(settings)
        self._cache = cache

    def get(self, name: str) -> str:
        """Return one value.

        Raises:
            NotFoundError: There is no such variable.
        """
        value = self._values.get(canonical_name(name))
        if value is None:
            raise NotFoundError(f"Unknown variable: {name}")
        return value

    def listing(self, prefix: str) -> list[str]:
        """Return the lines of SHOW VARIABLES whose names begin so."""
        wanted = canonical_name(prefix)
        return [
            f"{name}={value} ({'mutable' if name in MUTABLE else 'immutable'})"
            for name, value in self._values.items()
            if name.startswith(wanted)
        ]

    def set(self, name: str, value: str) -> None:
        """Change one value.

        Raises:
            NotFoundError: There is no such variable.
            RequestError: It cannot be changed, or not to this.
        """
        known = canonical_name(name)
        if known not in self._values:
            raise NotFoundError(f"Unknown variable: {name}")
        if known not in MUTABLE:
            raise RequestError(f"Variable '{name}' is immutable (requires restart)")
        self._values[known] = self._apply(known, value)

    def _apply(self, name: str, value: str) -> str:
        match name:
            case "cache.enabled":
                canonical = _boolean(value)
                self._cache.is_enabled = canonical == "true"
            case "cache.min_query_cost_ms":
                cost_ms = _number(value)
                self._cache.min_query_cost_ms = cost_ms
                canonical = f"{cost_ms:g}"
            case "cache.ttl_seconds":
                ttl_s = _number(value)
                if ttl_s != int(ttl_s):
                    raise RequestError(f"Invalid integer value: {value}")
                self._cache.ttl_s = int(ttl_s)
                canonical = str(int(ttl_s))
            case "logging.level":
                if value not in _LEVELS:
                    raise RequestError(
                        f"Invalid logging level (must be trace/debug/info/warn/error): {value}"
                    )
                canonical = value
            case _:
                canonical = _boolean(value)
        return canonical


def _boolean(value: str) -> str:
    lowered = value.lower()
    canonical = _TRUTHS.get(lowered) or _FALSEHOODS.get(lowered)
    if canonical is None:
        raise RequestError(f"Invalid boolean value (use true/false, on/off, 1/0): {value}")
    return canonical


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise RequestError(f"Invalid number: {value}") from error
    if not math.isfinite(number):
        raise RequestError(f"Invalid number: {value}")
    if number < 0:
        raise RequestError(f"Value must not be negative: {value}")
    return number
