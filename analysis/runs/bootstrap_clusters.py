"""Which runs are drawn together: the one rule for the clusters of a bootstrap.

Runs that share training, or are points of one curve, deviate together. Drawn one by one they would look like more
evidence than they are.
"""

from __future__ import annotations

import pandas as pd

SHARED_BY = ("trunk", "curve", "run")
"""Columns whose equal values mark runs that deviate together, in order of preference: the shared prefix of training,
the training curve, and the run of which a row is a point."""


def choose(frame: pd.DataFrame, num_params: int, *, spare: int = 0) -> tuple[str | None, str | None]:
    """The column by whose values runs are drawn together.

    The first column of SHARED_BY that has a value in every row, and one value for several rows, holds the clusters. A
    fit of p parameters says nothing about fewer than p clusters, so that with fewer runs are drawn one by one, and the
    note says that intervals are then likely too narrow.

    Parameters
    ----------
    frame : DataFrame
        The runs that are fitted.
    num_params : int
        Free parameters of the law.
    spare : int
        Clusters that are needed beyond them: a weighted set of laws compares how well each fits, which takes more.

    Returns
    -------
    labels : str or None
        The column; None when runs are drawn one by one.
    note : str or None
        One sentence for the reader; None when no rows share anything.
    """
    for name in SHARED_BY:
        if name not in frame.columns or not bool(frame[name].notna().all()):
            continue
        num_clusters = int(frame[name].nunique())
        shared = len(frame) - num_clusters
        if shared <= 0:
            continue
        rows, shares = ("runs", "training") if name == "trunk" else ("rows", f"a {name}")
        alike = "their first steps (one trunk)" if name == "trunk" else shares
        if num_clusters >= num_params + spare:
            return name, (
                f"{rows} that share {alike} are drawn together for intervals: {shared} fitted {rows} share {shares} "
                "with another"
            )
        trunks = "trunks (shared first steps)" if name == "trunk" else f"{name}s"
        return None, (
            f"{num_clusters} {trunks} are too few for {num_params} parameters: intervals take {rows} of one {name} as "
            "independent, and are likely too narrow"
        )
    return None, None
