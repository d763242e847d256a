"""How a worker tells its supervisor, by its exit status, what it wants."""

from __future__ import annotations

EXIT_STOPPED = 4
"""Exit status of a worker that was told to stop."""


EXIT_REFUSED = 3
"""Exit status after a problem that no other run would escape: disk, store, changed data. Its message is one
sentence."""


EXIT_RESTART = 75
"""Exit status that asks for a fresh process: many runs done, memory grown, a CUDA error, or a rank in trouble."""
