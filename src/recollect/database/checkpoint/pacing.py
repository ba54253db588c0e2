"""The pause that background work makes so that writers get the interpreter."""

from __future__ import annotations

import threading

_PAUSE_S = 0.0002  # long enough for a waiting thread to wake up


def pause() -> None:
    """Let other threads run for a moment."""
    threading.Event().wait(_PAUSE_S)


def go_on() -> None:
    """Make no pause: nobody else works on these tables."""
