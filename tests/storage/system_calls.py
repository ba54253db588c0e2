"""A recorder of the system calls that matter for durability, which can make one of them fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NAMES = ("open", "write", "fsync", "link", "rename", "unlink", "mkdir", "close")


class Call(NamedTuple):
    """One call that succeeded: its name and the files it was about, relative to the root."""

    name: str
    path: str
    target: str = ""


class SystemCalls:
    """Records calls below a root, in order; call number `fail_at` (from 1) raises `error` instead."""

    def __init__(self, root: Path, *, fail_at: int = 0, error: int = 0) -> None:
        self.calls: list[Call] = []
        self.attempted = ""
        self._root = root
        self._fail_at = fail_at
        self._error = error
        self._count = 0
        self._paths: dict[int, str] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in NAMES:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            path = self._paths.get(first) if isinstance(first, int) else self._relative(first)
            if path is None:
                return real(first, *rest, **named)
            self._count += 1
            if self._count == self._fail_at:
                self.attempted = name
                raise OSError(self._error, os.strerror(self._error))
            result = real(first, *rest, **named)
            if name == "open":
                self._paths[result] = path
            elif name == "close":
                self._paths.pop(first)
            target = self._relative(rest[0]) if name in {"link", "rename"} else ""
            self.calls.append(Call(name, path, target or ""))
            return result

        return call

    def _relative(self, path: Any) -> str | None:
        absolute = Path(os.fspath(path))
        return absolute.relative_to(self._root).as_posix() if absolute.is_relative_to(self._root) else None
