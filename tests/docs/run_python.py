"""Run a page of Python from standard input; `await` may stand outside of functions, as documents show it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from types import CodeType
from typing import Any


def main() -> None:
    code = compile(sys.stdin.read(), "<document>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {"__name__": "__main__"}
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(_awaited(code, names))
    else:
        exec(code, names)  # noqa: S102


async def _awaited(code: CodeType, names: dict[str, Any]) -> None:
    await eval(code, names)  # noqa: S307 -- compiled with `await` allowed, it is a coroutine


if __name__ == "__main__":
    main()
