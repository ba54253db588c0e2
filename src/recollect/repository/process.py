"""Who holds a lease: a process that others on the same kernel can see die.

The kernel's boot id and the PID namespace make a PID comparable: only where both are
equal does "no such process" mean that the holder is gone. Elsewhere nothing is concluded.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of a process, precise enough to survive PID reuse and equal host names.

    Attributes:
        host: For people.
        pid: Process id within `realm`.
        realm: Boot id and PID namespace; empty where the system does not tell them.
        started: Start time in clock ticks since boot; empty where the system does not tell.
    """

    host: str
    pid: int
    realm: str = ""
    started: str = ""


def current_process() -> Process:
    """Describe the running process."""
    pid = os.getpid()
    return Process(host=socket.gethostname(), pid=pid, realm=_realm(), started=_started(pid))


def is_gone(process: Process) -> bool:
    """Tell whether the process has certainly ended; False where that cannot be known."""
    if not process.realm or process.realm != _realm():
        return False
    started = _started(process.pid)
    if not started and _exists(process.pid):
        return False  # of another user, and this /proc shows its own processes only (hidepid, proc(5))
    return started != process.started


def _realm() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return f"{boot} {namespace}"


def _exists(pid: int) -> bool:
    """Ask by the null signal (kill(2)), which hidepid leaves alone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> str:
    """Return field 22 of /proc/PID/stat (proc(5)); empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the command in parentheses and may hold anything, so count from its end.
    return stat.rsplit(")", 1)[-1].split()[19]
