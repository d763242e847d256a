"""An event that a signal handler may set. It must not know what waits for it."""

from __future__ import annotations

import contextlib
import queue


class Wake:
    """What one thread waits for, and signal handlers or other threads set.

    `threading.Event.set` takes a lock. A handler runs in the thread that it interrupts: where that thread holds the
    lock just then, in `wait` or `clear`, it waits for itself for ever. `SimpleQueue.put` may interrupt itself.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake who waits, now and until `clear`."""
        self._is_set = True
        self._rung.put(None)

    def is_set(self) -> bool:
        """Whether it was set since the last `clear`."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most some seconds; whether it is."""
        if not self._is_set:
            with contextlib.suppress(queue.Empty):
                self._rung.get(timeout=seconds)
        return self._is_set

    def clear(self) -> None:
        """Forget what was set until now."""
        self._is_set = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._rung.get_nowait()
