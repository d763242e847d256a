"""The closure of an optimiser's step, as torch's own optimisers call it."""

from __future__ import annotations

from collections.abc import Callable

import torch


def evaluated(closure: Callable[[], float] | None) -> float | None:
    """Evaluate a closure with gradients on.

    Parameters
    ----------
    closure : callable, optional
        Computes the loss and its gradients.

    Returns
    -------
    float or None
        What the closure returns; None without one.
    """
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
