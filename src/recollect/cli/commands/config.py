"""`recollect config`."""

from __future__ import annotations

import msgspec

from recollect.cli.session import Session
from recollect.values.url import without_secrets

STOPPED = "nothing was changed"


def run(session: Session) -> None:
    """Show the settings in force and where each comes from, without the secrets that URLs may hold."""
    settings = session.settings
    values = {
        name: without_secrets(value) if isinstance(value, str) else value
        for name, value in msgspec.to_builtins(settings).items()
        if name != "origins"
    }
    session.output.table(
        ["Setting", "Value", "From"],
        [[name, _text(value), settings.origins.get(name, "not set")] for name, value in values.items()],
    )
    session.output.summary({"settings": values, "origins": settings.origins})


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={part}" for name, part in value.items() if part)
    return "" if value is None else str(value)
