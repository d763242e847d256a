"""A fit as JSON, with its draws and its rows as Parquet beside it: written and read back.

Owns the format of saved fits; what the numbers mean is in fit.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.files import json_ready, write_json
from analysis.fitting.fit import Fit
from analysis.fitting.frontier_exponents import FrontierExponents
from analysis.fitting.prediction import Predictor
from analysis.laws.base import Law
from analysis.laws.registry import get_law
from analysis.solver.certificate import Certificate
from analysis.uncertainty.lack_of_fit import LackOfFit
from experiments.files import write_atomic

SCHEMA = "isoflop.fit/1"
"""Name and version of the JSON."""


def fit_to_dict(fit: Fit, *, draws: str | None = None, runs: str | None = None) -> dict[str, Any]:
    """The JSON object of a fit.

    Parameters
    ----------
    fit : Fit
        The fit.
    draws : str, optional
        Name of the file beside it that holds the draws.
    runs : str, optional
        Name of the file beside it that holds the fitted rows.

    Returns
    -------
    dict
        Plain JSON: null for what is absent, never NaN.
    """
    params = {
        name: {
            "value": e.value,
            "se": e.se,
            "lo": e.lo,
            "hi": e.hi,
            "identified": fit.identified.get(name) is None,
            "reason": fit.identified.get(name),
        }
        for name, e in fit.estimates.items()
    }
    out = {
        "schema": SCHEMA,
        "law": fit.law.name,
        "law_options": dict(fit.law.options),
        "formula": fit.law.formula,
        "source": fit.law.source,
        "columns": dict(fit.columns),
        "conventions": dict(fit.conventions),
        "params": params,
        "cov": fit.cov,
        "objective": fit.objective,
        "status": fit.status,
        "num_rows": fit.num_rows,
        "num_clusters": fit.num_clusters,
        "agreement": fit.agreement,
        "certificate": None if fit.certificate is None else fit.certificate.to_dict(),
        "lack_of_fit": None if fit.lack_of_fit is None else fit.lack_of_fit.to_dict(),
        "condition": fit.condition,
        "residual_scale": fit.residual_scale,
        "warnings": list(fit.warnings),
        "frontier": None if fit.frontier_estimates is None else fit.frontier_estimates.to_dict(),
        "draws": draws,
        "runs": runs,
        "options": dict(fit.options),
        "working": fit.predictor.to_dict(),
    }
    ready: dict[str, Any] = json_ready(out)
    return ready


def fit_from_dict(
    raw: Mapping[str, Any],
    *,
    draws: Array | None = None,
    law: Law | None = None,
    runs: Mapping[str, Array] | None = None,
) -> Fit:
    """The inverse of `fit_to_dict`.

    Parameters
    ----------
    raw : mapping
        The JSON object.
    draws : Array, shape (B, p), optional
        Working parameters, read from the file that it names.
    law : Law, optional
        The law, where it is not one of the registry.
    runs : mapping, optional
        The fitted rows, read from the file that it names.

    Returns
    -------
    Fit
        As it was.

    Raises
    ------
    UserError
        When the object is not a fit of this version, or lacks a field.
    """
    if raw.get("schema") != SCHEMA:
        found = f"its schema is {raw['schema']}, not {SCHEMA}" if raw.get("schema") else f"it names no schema {SCHEMA}"
        raise UserError(f"this is not a fit that can be read: {found}; make it with `fit --out`")
    try:
        return _from_fields(raw, draws, law or get_law(raw["law"], **raw.get("law_options", {})), runs)
    except KeyError as error:
        raise UserError(f"the fit lacks the field {error.args[0]}; make it again with `fit --out`") from None
    except (TypeError, AttributeError) as error:
        raise UserError(f"a field of the fit holds what cannot be ({error}); make it again with `fit --out`") from error


def _from_fields(raw: Mapping[str, Any], draws: Array | None, law: Law, runs: Mapping[str, Array] | None) -> Fit:
    predictor = Predictor.from_dict(raw["working"], draws=draws)
    frontier = raw["frontier"] and FrontierExponents.from_dict(raw["frontier"], level=predictor.level)
    return Fit(
        law=law,
        estimates={n: Estimate.from_dict(raw["params"][n], level=predictor.level) for n in law.param_names},
        identified={n: raw["params"][n].get("reason") for n in law.param_names},
        cov=np.array([[math.nan if v is None else v for v in row] for row in raw["cov"]], dtype=np.float64),
        objective=raw["objective"],
        status=raw["status"],
        num_rows=raw["num_rows"],
        num_clusters=raw["num_clusters"],
        agreement=raw["agreement"],
        certificate=None if raw.get("certificate") is None else Certificate.from_dict(raw["certificate"]),
        lack_of_fit=None if raw.get("lack_of_fit") is None else LackOfFit.from_dict(raw["lack_of_fit"]),
        condition=math.inf if raw["condition"] is None else raw["condition"],
        residual_scale=math.nan if raw["residual_scale"] is None else raw["residual_scale"],
        predictor=predictor,
        frontier_estimates=frontier,
        options=raw["options"],
        columns=raw["columns"],
        conventions=raw["conventions"],
        warnings=tuple(raw["warnings"]),
        runs=runs,
    )


def save_fit(fit: Fit, path: Path) -> Path:
    """Write a fit as JSON, with its draws and its rows as Parquet beside it; each file atomically.

    Parameters
    ----------
    fit : Fit
        The fit.
    path : Path
        The JSON file; the others are `<stem>.draws.parquet` and `<stem>.runs.parquet`.

    Returns
    -------
    Path
        The JSON file.
    """
    import pandas as pd

    frames = {}
    if fit.predictor.draws is not None:
        frames["draws"] = pd.DataFrame(fit.predictor.draws, columns=list(fit.law.param_names))
    if fit.runs is not None:
        frames["runs"] = pd.DataFrame(dict(fit.runs))
    names = {}
    for kind, frame in frames.items():
        names[kind] = f"{path.stem}.{kind}.parquet"
        write_atomic(path.with_name(names[kind]), frame.to_parquet())
    write_json(path, fit_to_dict(fit, **names))
    return path


def load_fit(path: Path) -> Fit:
    """Read what `save_fit` wrote.

    Parameters
    ----------
    path : Path
        The JSON file. Without the draws' file beside it, intervals come from the covariance.

    Returns
    -------
    Fit
        As it was.

    Raises
    ------
    UserError
        When there is no such file, or it does not hold a fit.
    """
    again = f"make it with `fit ... --out {path}`"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; {again}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); {again}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} does not hold a fit; {again}")
    draws, runs = _beside(path, raw.get("draws")), _beside(path, raw.get("runs"))
    try:
        return fit_from_dict(raw, draws=None if draws is None else np.column_stack(list(draws.values())), runs=runs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _beside(path: Path, name: str | None) -> dict[str, Array] | None:
    """Columns of the Parquet file of that name beside a fit; None where there is none."""
    if not name or not path.with_name(name).exists():
        return None
    import pandas as pd

    frame = pd.read_parquet(path.with_name(name))
    return {str(column): frame[column].to_numpy(dtype=np.float64) for column in frame.columns}
