"""Was a process killed for want of memory? By the counter of its control group, which the kernel raises with each kill.

A claim holds the counter of its worker's control group. When the worker has vanished and the counter has risen since,
its memory did not suffice. Standard library only; it must not know what is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

GROUPS = Path("/sys/fs/cgroup")
"""Where control groups are mounted."""


def memory_group() -> dict[str, Any]:
    """Describe this process's control group for memory, so that its kills can be counted later.

    Returns
    -------
    dict of str to object
        memory_events, the file that counts, and memory_kills, its counter now; empty where there is none.
    """
    for path in _counters():
        kills = _kills(path)
        if kills is not None:
            return {"memory_events": str(path), "memory_kills": kills}
    return {}


def killed_for_memory(owner: Mapping[str, Any]) -> bool:
    """Say whether the control group of a process that has vanished has killed since that process was described.

    Parameters
    ----------
    owner : mapping of str to object
        What `memory_group` said of it, on this machine.

    Returns
    -------
    bool
        False where nobody knows: no such group, or it has gone.
    """
    path, before = owner.get("memory_events"), owner.get("memory_kills")
    if not isinstance(path, str) or not isinstance(before, int) or not Path(path).is_relative_to(GROUPS):
        return False
    now = _kills(Path(path))
    return now is not None and now > before


def _counters() -> list[Path]:
    """Files that may count the kills of this process's group: version 2 first, then version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            found += [GROUPS / group.lstrip("/") / "memory.events", GROUPS / "memory.events"]
        elif "memory" in controllers.split(","):
            found += [
                GROUPS / "memory" / group.lstrip("/") / "memory.oom_control",
                GROUPS / "memory/memory.oom_control",
            ]
    return found


def _kills(path: Path) -> int | None:
    """The counter `oom_kill` of a file; None where it cannot be read."""
    try:
        words = (line.split() for line in path.read_text().splitlines())
        return next((int(count) for name, count in words if name == "oom_kill"), None)
    except (OSError, ValueError):
        return None
