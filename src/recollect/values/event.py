"""Progress events: what a verb tells while it works. Rendering is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Work done so far in one stage.

    Attributes:
        stage: What is happening: "scan", "store", "verify", "write", "check", "delete", …
        subject: What it happens to, a collection name as a rule.
        done: Units finished in this stage.
        total: Units expected; 0 when unknown.
        unit: "records", "objects" or "bytes".
    """

    stage: str
    subject: str
    done: int
    total: int = 0
    unit: str = "records"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something the user should know although the work goes on."""

    message: str


Event: TypeAlias = Progress | Note
OnEvent: TypeAlias = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Drop the event; the default of every verb."""
