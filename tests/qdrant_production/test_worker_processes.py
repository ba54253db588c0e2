"""Processes that work for another one."""

from __future__ import annotations

import subprocess
import sys

PARENT = """
import os, sys, threading
from recollect.executors import ExecutorPlace, open_executor
with open_executor(ExecutorPlace(kind="processes", count=2)) as executor:
    executor.submit(os.getpid).result()
    print("at work", flush=True)
    threading.Event().wait()
"""


def test_workers_of_a_process_that_is_killed_end_too() -> None:
    """They hold the writing end of its output: it ends when the last of them has ended."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at work\n"

        parent.kill()

        assert parent.communicate(timeout=30)[0] == ""
