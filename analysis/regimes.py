"""Where intervals have been shown to have their nominal coverage, and what `fit` says elsewhere.

The numbers come from `python benchmarks/coverage.py`; its table is in docs/coverage.md.
"""

from __future__ import annotations

ENOUGH_RUNS = 60
"""Independent runs from which 95 % intervals were measured to cover about as often as they say."""
ENOUGH_CLUSTERS = 12
"""Clusters of runs from which they were; with four, bands of the law covered 72 to 86 % of the time."""


def regime_warnings(num_rows: int, num_clusters: int, num_params: int) -> list[str]:
    """Warnings for a fit of `num_params` parameters to `num_rows` rows in `num_clusters` independent units."""
    if num_clusters < num_rows and num_clusters < ENOUGH_CLUSTERS:
        return [
            f"{num_clusters} clusters are few for {num_params} parameters: intervals are likely too narrow below "
            f"{ENOUGH_CLUSTERS} clusters (docs/coverage.md)"
        ]
    if num_rows < ENOUGH_RUNS:
        return [
            f"{num_rows} runs are few for {num_params} parameters: intervals may miss their nominal coverage, which is "
            f"established from {ENOUGH_RUNS} runs (docs/coverage.md)"
        ]
    return []
