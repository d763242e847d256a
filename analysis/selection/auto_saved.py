"""A weighted set of laws as JSON: written, and read back beside fits of one law."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.files import json_ready, write_json
from analysis.fitting.fit import Fit
from analysis.fitting.fit_json import fit_from_dict, fit_to_dict
from analysis.laws.registry import AUTO
from analysis.selection.auto import AutoFit
from analysis.selection.cutoffs import CutOff
from experiments.files import write_atomic

SCHEMA = "isoflop.auto/1"
"""Name and version of the JSON."""


def auto_to_dict(auto: AutoFit, *, runs: str | None = None) -> dict[str, Any]:
    """The JSON object of a weighted set of laws.

    Parameters
    ----------
    auto : AutoFit
        The set.
    runs : str, optional
        Name of the file beside it that holds the fitted rows.

    Returns
    -------
    dict
        Plain JSON: null for what is absent, never NaN.
    """
    ready: dict[str, Any] = json_ready(
        {
            "schema": SCHEMA,
            "law": AUTO,
            "weights": dict(auto.weights),
            "widening": auto.widening,
            "verdict": auto.verdict,
            "cutoffs": [one.to_dict() for one in auto.record],
            "left_out": dict(auto.left_out),
            "num_rows": auto.best.num_rows,
            "warnings": list(auto.warnings),
            "runs": runs,
            "fits": {name: fit_to_dict(fit) for name, fit in auto.fits.items()},
        }
    )
    return ready


def auto_from_dict(raw: Mapping[str, Any], *, runs: Mapping[str, Array] | None = None) -> AutoFit:
    """The inverse of `auto_to_dict`.

    Parameters
    ----------
    raw : mapping
        The JSON object.
    runs : mapping, optional
        The fitted rows, read from the file that it names.

    Returns
    -------
    AutoFit
        As it was.

    Raises
    ------
    UserError
        When the object is not such a set, or lacks a field.
    """
    if raw.get("schema") != SCHEMA:
        raise UserError(f"this is not a set of laws of schema {SCHEMA!r}; make it with `fit --law auto --out`")
    try:
        return AutoFit(
            fits={name: fit_from_dict(fit, runs=runs) for name, fit in raw["fits"].items()},
            weights=raw["weights"],
            widening=raw["widening"],
            record=tuple(CutOff.from_dict(one) for one in raw["cutoffs"]),
            left_out=raw["left_out"],
            warnings=tuple(raw["warnings"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"a field of the set of laws is absent or wrong ({error}); make it again") from error


def save_auto(auto: AutoFit, path: str | Path) -> Path:
    """Write a weighted set of laws as JSON, with its rows as Parquet beside it; each file atomically.

    Parameters
    ----------
    auto : AutoFit
        The set.
    path : str or Path
        The JSON file; the rows are `<stem>.runs.parquet`.

    Returns
    -------
    Path
        The JSON file.
    """
    import pandas as pd

    path = Path(path)
    name = None
    if auto.best.runs is not None:
        name = f"{path.stem}.runs.parquet"
        write_atomic(path.with_name(name), pd.DataFrame(dict(auto.best.runs)).to_parquet())
    write_json(path, auto_to_dict(auto, runs=name))
    return path


def load_any(path: str | Path) -> Fit | AutoFit:
    """Read what `Fit.save` or `save_auto` wrote.

    Parameters
    ----------
    path : str or Path
        The JSON file.

    Returns
    -------
    Fit or AutoFit
        As it was.

    Raises
    ------
    UserError
        When there is no such file, or it holds neither.
    """
    import pandas as pd

    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Fit.load(path)  # which says what is wrong
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        return Fit.load(path)
    beside = path.with_name(str(raw.get("runs")))
    runs = None
    if raw.get("runs") and beside.exists():
        frame = pd.read_parquet(beside)
        runs = {str(name): frame[name].to_numpy(dtype=np.float64) for name in frame.columns}
    return auto_from_dict(raw, runs=runs)
