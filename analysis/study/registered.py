"""Predictions that were written down before their runs: registering, reading and scoring them.

A registration is one JSON object a line. Each line holds a hash of itself and of the line before it, so that a changed,
removed or inserted line is found when the file is read. This file must not know figures or HTML.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.laws.base import Law
from analysis.runs.columns import COUNTS, as_columns
from experiments.files import write_atomic

SAME_POINT = 0.01
"""A run is the predicted one where no number differs by a larger fraction."""
BEGAN = "began_unix_seconds"
"""Column of the moment at which a run began."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One registered prediction."""

    time: str
    """When it was registered: ISO 8601, UTC."""
    code: str
    """Version of the code, and its commit where that is known."""
    law: str
    """Name of the law."""
    law_hash: str
    """Digest of the law's formula and parameters' names."""
    data_hash: str
    """Digest of the fitted runs."""
    at: Mapping[str, float]
    """The point: inputs by name."""
    loss: float
    """Predicted loss, nats per token."""
    confidence: tuple[float, float]
    """Interval of the law there."""
    prediction: tuple[float, float]
    """Interval of one new run."""
    level: float
    """Nominal coverage of both."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of one line, without its hash."""
        return {**vars(self), "confidence": list(self.confidence), "prediction": list(self.prediction)}

    @property
    def seconds(self) -> float:
        """The time as seconds since 1970."""
        return datetime.fromisoformat(self.time).timestamp()


def law_digest(law: Law) -> str:
    """Digest of what a law says: its formula, inputs and parameters."""
    parts = [law.name, law.formula, *law.inputs, *law.param_names, json.dumps(dict(law.options), sort_keys=True)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def data_digest(fit: Fit) -> str:
    """Digest of the fitted runs in any order; of the parameters where the fit did not keep its runs."""
    if fit.runs is None:
        return "params:" + hashlib.sha256(json.dumps(fit.params, sort_keys=True).encode()).hexdigest()[:16]
    names = sorted(fit.runs)
    rows = sorted(zip(*(np.asarray(fit.runs[name], dtype=np.float64).tolist() for name in names), strict=True))
    return "sha256:" + hashlib.sha256(json.dumps([names, rows]).encode()).hexdigest()


def predictions_of(
    fit: Fit, points: Mapping[str, Any] | pd.DataFrame, *, code: str, now: datetime | None = None
) -> list[Registered]:
    """What a fit predicts at points, ready to be registered.

    Parameters
    ----------
    fit : Fit
        Of a law of the loss.
    points : mapping or DataFrame
        The law's inputs.
    code : str
        Version of the code.
    now : datetime, optional
        The moment; by default the clock's.

    Returns
    -------
    list of Registered
        One for each point.

    Raises
    ------
    UserError
        When the law is not one of the loss, or the fit has no intervals.
    """
    if fit.law.target != "loss":
        raise UserError(f"{fit.law.name} predicts {fit.law.target}; registered predictions are of losses")
    predicted = fit.predict(points)
    if not np.isfinite(predicted.to_numpy(dtype=float)).all():
        raise UserError("the fit has no interval here, and a prediction without one cannot be scored; fit more runs")
    moment = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    given = {name: np.atleast_1d(np.asarray(column)) for name, column in as_columns(points).items()}
    named = dict.fromkeys((*COUNTS, *fit.law.inputs, *fit.predictor.aliases.values()))
    names = [name for name in named if name in given]
    out = []
    for i, row in enumerate(predicted.itertuples(index=False, name=None)):
        at = {name: float(given[name][min(i, given[name].size - 1)]) for name in names}
        loss, c_lo, c_hi, p_lo, p_hi = map(float, row)
        out.append(
            Registered(
                time=moment,
                code=code,
                law=fit.law.name,
                law_hash=law_digest(fit.law),
                data_hash=data_digest(fit),
                at=at,
                loss=loss,
                confidence=(c_lo, c_hi),
                prediction=(p_lo, p_hi),
                level=fit.level,
            )
        )
    return out


def register(path: Path, predictions: Sequence[Registered]) -> None:
    """Append predictions to a file.

    Parameters
    ----------
    path : Path
        The file; made when it is absent.
    predictions : sequence of Registered
        What is appended, one line each.

    Raises
    ------
    UserError
        When the file was changed by hand, or holds a prediction of the same point already.
    """
    known = read_registered(path) if path.exists() else []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    last = json.loads(lines[-1])["hash"] if lines else ""
    for one in predictions:
        for number, old in enumerate(known, start=1):
            if _same_point(old.at, one.at):
                law = "" if old.law_hash == one.law_hash else f" under the law {old.law}, not {one.law},"
                raise UserError(
                    f"line {number} of {path} predicts this point{law} already; a point is registered once, so keep "
                    "that line, or use another file"
                )
        known.append(one)
        body = one.to_dict()
        last = _chained(last, body)
        lines.append(json.dumps({**body, "hash": last}, allow_nan=False))
    write_atomic(path, "\n".join(lines) + "\n")


def _chained(before: str, body: Mapping[str, Any]) -> str:
    text = before + json.dumps(body, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _same_point(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    shared = set(one) & set(other)
    return bool(shared) and all(math.isclose(one[name], other[name], rel_tol=SAME_POINT) for name in shared)


def read_registered(path: Path) -> list[Registered]:
    """The predictions of a file, in order.

    Parameters
    ----------
    path : Path
        What `register` wrote.

    Returns
    -------
    list of Registered
        One for each line.

    Raises
    ------
    UserError
        When the file is absent, a line is not a registration, or its hash does not fit it and the line before.
    """
    if not path.exists():
        raise UserError(f"there is no file {path}; register predictions with `predict FIT --at ... --register {path}`")
    out, last = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            body = dict(json.loads(line))
            digest = body.pop("hash")
            pairs = {name: (float(body[name][0]), float(body[name][1])) for name in ("confidence", "prediction")}
            one = Registered(**{**body, **pairs})
            datetime.fromisoformat(one.time)
        except (ValueError, TypeError, KeyError, IndexError):
            raise UserError(
                f"line {number} of {path} is no registered prediction; restore the file as it was"
            ) from None
        last = _chained(last, body)
        if digest != last:
            raise UserError(
                f"line {number} of {path} was changed after it was registered, or a line before it was; restore the "
                "file as it was"
            )
        out.append(one)
    return out


def score(path: Path, frame: pd.DataFrame, law: Law) -> pd.DataFrame:
    """Every registered prediction whose run has come, beside what was measured.

    Parameters
    ----------
    path : Path
        The registrations.
    frame : DataFrame
        Runs with `loss` and the predictions' inputs, and `began_unix_seconds` where it is known.
    law : Law
        The law that the report fits.

    Returns
    -------
    DataFrame
        line, time, law, run_id, predicted, lo, hi, level, measured, error_fraction, covered, and the point's numbers;
        a prediction whose run has not come has no row. `checked` says whether the run's time was known.

    Raises
    ------
    UserError
        When the file was changed, a run began before its prediction, or the law is not the registered one.
    """
    rows = []
    for number, one in enumerate(read_registered(path), start=1):
        if one.law == law.name and one.law_hash != law_digest(law):
            raise UserError(
                f"line {number} of {path} was predicted by another form of {one.law} than the code has now; score it "
                f"with the code of that time ({one.code})"
            )
        if one.law != law.name:
            raise UserError(
                f"line {number} of {path} was predicted by the law {one.law}, and this report fits {law.name}; make "
                f"the report with --law {one.law}"
            )
        for _, run in frame[_matches(one.at, frame)].iterrows():
            began = float(run.get(BEGAN, math.nan))
            name = run.get("run_id", f"in row {run.get('row', '?')}")
            if began < one.seconds:
                when = datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
                raise UserError(
                    f"run {name} began at {when}, before it was predicted in line {number} of {path} ({one.time}); a "
                    "prediction counts only for a run that comes after it"
                )
            measured, (lo, hi) = float(run["loss"]), one.prediction
            row = {"line": number, "time": one.time, "law": one.law, "run_id": name, "predicted": one.loss}
            row |= {"lo": lo, "hi": hi, "level": one.level, "measured": measured}
            row |= {"error_fraction": (one.loss - measured) / measured, "covered": lo <= measured <= hi}
            rows.append({**row, "checked": math.isfinite(began), **one.at})
    return pd.DataFrame(rows)


def _matches(at: Mapping[str, float], frame: pd.DataFrame) -> NDArray[np.bool_]:
    out = np.ones(len(frame), dtype=bool)
    for name, value in at.items():
        if name not in frame.columns:
            return np.zeros(len(frame), dtype=bool)
        column = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
        out &= np.abs(column / value - 1) <= SAME_POINT
    return out
