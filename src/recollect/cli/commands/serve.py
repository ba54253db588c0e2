"""`recollect serve`."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.session import Session
from recollect.service.daemon import Daemon
from recollect.service.nvecd_face import face_settings
from recollect.service.options import load_options
from recollect.settings import process_environment
from recollect.wiring import open_repository

STOPPED = "what was acknowledged is in the log"
REPLACES = frozenset({"config"})


def run(
    session: Session,
    *,
    data: Annotated[str, typer.Option(metavar="DIR", help="Data directory.")] = "",
    config: Annotated[str, typer.Option(metavar="FILE", help="Options of the server (TOML or YAML).")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One option of the server; repeatable."),
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the options and the data directory's name, and end.")
    ] = False,
) -> None:
    """Run an embedded database behind its network faces, until SIGTERM or Ctrl-C.

    The end is orderly: requests under way are finished, a checkpoint is taken, exit code 0.
    """
    options = load_options(
        data=data, config=config, settings=settings or [], environment=process_environment()
    )
    if check_config:
        if options.nvecd.enabled:
            face_settings(options, Path(options.data))  # reads the file of nvecd, if one is named
        session.output.say("the options of the server are valid")
        session.output.summary(options)
        return
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-5s %(message)s"
    )
    daemon = Daemon(
        options,
        clock=session.context.clock,
        random_bytes=session.context.random_bytes,
        open_repository=lambda url: open_repository(url, session.context),
    )
    daemon.start()
    try:
        if daemon.statehouse is not None:
            session.output.say(f"statehouse on port {daemon.statehouse.port}")
            session.output.emit("ready", {"statehouse_port": daemon.statehouse.port})
        sys.stdout.flush()
        threading.Event().wait()
    except KeyboardInterrupt:
        session.output.say("stopping")
    finally:
        daemon.stop()
