"""Where intervals were measured to miss their nominal coverage, and what `fit` says there.

The numbers come from `python benchmarks/coverage.py`; its table is in docs/coverage.md.
"""

from __future__ import annotations

ENOUGH_RUNS = 60
"""Independent runs from which 95 % intervals covered 93 to 97 % of the time."""
ENOUGH_CLUSTERS = 12
"""Clusters of runs from which they did."""


def regime_warnings(num_rows: int, num_clusters: int, num_params: int) -> list[str]:
    """Warnings for a fit of `num_params` parameters to `num_rows` rows in `num_clusters` independent units."""
    out = []
    clustered = num_clusters < num_rows
    if clustered and num_clusters < ENOUGH_CLUSTERS:
        out.append(
            f"{num_clusters} clusters are few for {num_params} parameters: intervals were measured to miss "
            f"their nominal coverage below {ENOUGH_CLUSTERS}"
        )
    elif num_rows < ENOUGH_RUNS:
        out.append(
            f"{num_rows} runs are few for {num_params} parameters: intervals were measured to miss their "
            f"nominal coverage below {ENOUGH_RUNS}"
        )
    return out
