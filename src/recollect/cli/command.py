"""What all commands share: the common options, and the step from parsed values to a session.

A command module has a function `run(session, …)` whose further parameters are its arguments
and options, a docstring that is its help, and `STOPPED`, which says what holds after Ctrl-C.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any

import typer

from recollect import wiring
from recollect.cli.output import Output
from recollect.cli.session import Session
from recollect.errors import CancelledError, RequestError
from recollect.settings import Flags, load_settings, read_secret

OPTIONS = "Options of every command"

MAY_BE_EMPTY = frozenset({"name", "description", "using"})
"""Parameters whose empty value means what it says: no name, no description, the vector without a name."""


def common(
    *,
    repo: Annotated[
        str,
        typer.Option(
            "--repo", "-r", metavar="REPO", help="Repository: a path, or a URL such as s3://bucket/prefix."
        ),
    ] = "",
    repository_file: Annotated[
        str, typer.Option(metavar="FILE", help="Read the repository's URL from a file.")
    ] = "",
    config: Annotated[str, typer.Option(metavar="FILE", help="Settings file (TOML).")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines for programs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print details; in JSON, progress.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 -- main reads it
) -> tuple[Flags, Output, wiring.Context]:
    """Turn the common options into what a session is made of."""
    context = wiring.system_context(read_secret)
    output = Output("json" if json else "text", -1 if quiet else int(verbose), context.clock)
    return Flags(repository=repo, repository_file=repository_file, config=config), output, context


def make_command(module: ModuleType) -> Callable[..., int]:
    """Return a function with the signature of `module.run`, less the session, plus the common options.

    It returns the exit code: what `run` returned, 0 if that is None. A module whose `REPLACES` names
    common options has options of its own by these names.
    """
    run: Callable[..., int | None] = module.run
    replaced: frozenset[str] = getattr(module, "REPLACES", frozenset())
    common_options = inspect.signature(common, eval_str=True).parameters
    shared = {name: option for name, option in common_options.items() if name not in replaced}
    own = list(inspect.signature(run, eval_str=True).parameters.values())[1:]
    assert not shared.keys() & {parameter.name for parameter in own}, "an option is declared twice"

    @functools.wraps(run)
    def call(called: typer.Context, **values: Any) -> int:
        _refuse_empty_values(called)
        flags, output, context = common(**{name: values.pop(name) for name in shared})
        try:
            return run(Session(load_settings(flags), output, context), **values) or 0
        except KeyboardInterrupt as error:
            raise CancelledError("stopped on request", module.STOPPED) from error
        finally:
            output.close()

    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    context = inspect.Parameter("called", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *keyword, *shared.values()]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _refuse_empty_values(called: typer.Context) -> None:
    """Stop at an option that was given without content: a script's variable that is not set, as a rule.

    Taken for an option that was left out, it would widen what is forgotten, or narrow what is verified.

    Raises:
        RequestError: There is one.
    """
    for parameter in called.command.params:
        name = parameter.name or ""
        value = called.params.get(name)
        is_empty = "" in value if isinstance(value, (list, tuple)) else value == ""
        source = called.get_parameter_source(name)
        if is_empty and name not in MAY_BE_EMPTY and source is not None and source.name == "COMMANDLINE":
            shown = max(parameter.opts, key=len) if parameter.param_type_name == "option" else name.upper()
            raise RequestError(f"{shown} is empty", "give it a value, or leave it out")
