"""What the data cannot say: which parameters of a fit are not determined, and why."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.fitting import PointFit
from analysis.problem import Problem

Array = NDArray[np.float64]


def unidentified(problem: Problem, point: PointFit, draws: Array | None) -> tuple[dict[str, str], list[str]]:
    """Reasons by parameter name, and warnings."""
    law = problem.law
    reasons: dict[str, str] = {}
    if problem.num_rows <= problem.num_params:
        text = f"{problem.num_rows} rows cannot determine {problem.num_params} parameters"
        return dict.fromkeys(law.param_names, text), [text]
    for j in point.bounds_hit:
        side = "lower" if point.phi[j] <= problem.lower[j] + 1e-9 else "upper"
        reasons[law.param_names[j]] = f"the optimum is at its {side} bound"
    return reasons, [f"{name}: {reason}" for name, reason in reasons.items()]
