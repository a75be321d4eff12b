"""Why a process died: of itself, or by a signal from outside."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


def from_outside(status: int, hung: bool, killings: int) -> bool:
    """Whether somebody ended it who had nothing to do with its work.

    `hung`: the supervisor ended it for that; `killings`: of the kernel's out-of-memory killer while it lived.
    """
    return status in _OUTSIDE and not hung and killings == 0


def memory_killings() -> int:
    """How often the kernel's out-of-memory killer struck so far, on this machine or in this control group.

    0 where that is not known, as off Linux.
    """
    found = 0
    for path, name in (("/proc/vmstat", "oom_kill"), ("/sys/fs/cgroup/memory.events", "oom_kill")):
        with suppress(OSError, ValueError):
            for line in Path(path).read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(" ")
                if key == name:
                    found = max(found, int(value))
    return found
