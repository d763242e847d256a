"""How often prediction intervals covered, over all studies of a folder.

Reads `heldout.json` and `registered.json` of reports. It must not know how predictions were made.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.errors import UserError
from analysis.estimate import Estimate

FILES = {"heldout.json": "held out", "registered.json": "registered"}
"""Files of a report that hold scored predictions, and what they are called."""


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """Scored predictions of all studies."""

    rows: pd.DataFrame
    """study, kind, run_id, level, predicted, lo, hi, measured, error_fraction, covered."""
    coverage: Estimate
    """Share of runs inside their prediction intervals."""
    expected: float
    """Mean nominal coverage of these intervals."""
    mape: float
    """Mean absolute error, a fraction of the loss."""

    def by_study(self) -> pd.DataFrame:
        """One row a study and kind: num_runs, num_covered, mape, level."""
        grouped = self.rows.groupby(["study", "kind"], sort=True)
        frame = grouped.agg(num_runs=("covered", "size"), num_covered=("covered", "sum"), level=("level", "mean"))
        frame["mape"] = grouped["error_fraction"].apply(lambda values: float(values.abs().mean()))
        return frame.reset_index()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `scoreboard --json`."""
        return {
            "num_runs": len(self.rows),
            "coverage": self.coverage.to_dict(),
            "expected": self.expected,
            "mape": self.mape,
            "studies": self.by_study().to_dict("records"),
        }


def read_scores(root: Path) -> pd.DataFrame:
    """Every scored prediction below a folder.

    Parameters
    ----------
    root : Path
        Folder of reports.

    Returns
    -------
    DataFrame
        One row a scored run; see `Scoreboard.rows`.

    Raises
    ------
    UserError
        When the folder is absent, a file cannot be read, or nothing is scored in it.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder that holds the reports")
    rows = []
    for name, kind in FILES.items():
        for file in sorted(root.glob(f"**/{name}")):
            try:
                raw = json.loads(file.read_text(encoding="utf-8"))
                found = [_row(run, raw.get("level", 0.95)) for run in raw["runs"]]
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UserError(f"{file} holds no scored predictions; make its report again") from None
            study = file.parent.relative_to(root).as_posix()
            rows += [{"study": study, "kind": kind, **row} for row in found]
    if not rows:
        raise UserError(f"no report below {root} has a held-out or registered prediction; make one with `report`")
    return pd.DataFrame(rows)


def _row(run: dict[str, Any], level: float) -> dict[str, Any]:
    out: dict[str, Any] = {"run_id": run.get("run_id"), "level": float(run.get("level", level))}
    out |= {key: float(run[key]) for key in ("predicted", "lo", "hi", "measured", "error_fraction")}
    return {**out, "covered": bool(out["lo"] <= out["measured"] <= out["hi"])}


def scoreboard(root: Path, *, level: float = 0.95) -> Scoreboard:
    """How often intervals covered over all studies below a folder.

    Runs of one study share its law's error. The interval of the coverage is Wilson's (Wilson 1927) for as many runs as
    carry the same evidence: where coverage differs between studies more than chance explains, fewer.

    Parameters
    ----------
    root : Path
        Folder of reports.
    level : float
        Coverage of that interval.

    Returns
    -------
    Scoreboard
        The scored runs, their coverage with its interval, and their mean error.

    Raises
    ------
    UserError
        When nothing is scored there.
    """
    rows = read_scores(root)
    covered = rows["covered"].to_numpy(dtype=float)
    share = float(covered.mean())
    effective = covered.size / design_effect(covered, rows["study"].to_numpy())
    lo, hi = wilson(share, effective, level=level)
    return Scoreboard(
        rows=rows,
        coverage=Estimate(value=share, lo=lo, hi=hi, level=level),
        expected=float(rows["level"].mean()),
        mape=float(rows["error_fraction"].abs().mean()),
    )


def design_effect(covered: np.ndarray, studies: np.ndarray) -> float:
    """By how much clustering by study widens the variance of a share; one or more (Kish 1965)."""
    share = float(covered.mean())
    names = np.unique(studies)
    if len(names) < 2 or share in (0.0, 1.0):
        return 1.0
    totals = np.array([(covered[studies == name] - share).sum() for name in names])
    clustered = len(names) / (len(names) - 1) * float((totals**2).sum()) / covered.size**2
    return max(1.0, clustered / (share * (1 - share) / covered.size))


def wilson(share: float, num: float, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of `num` cases."""
    z = float(stats.norm.ppf((1 + level) / 2))
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)
