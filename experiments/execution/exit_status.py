"""How a worker tells its supervisor, by its exit status, what it wants."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of `work`; 1 and 2 are Python's and argparse's own."""

    DONE = 0
    """Nothing is left to train."""
    REFUSED = 3
    """A problem that no other run would escape: disk, store, changed data. Its message is one sentence."""
    STOPPED = 4
    """The worker was asked to stop; there may be more to do."""
    RESTART = 75
    """It asks for a fresh process: many runs done, memory grown, a CUDA error, or a rank that failed."""
