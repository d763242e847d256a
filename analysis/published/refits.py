"""Published constants, cited, and published numbers beside ours, computed from published runs.

Every comparison is a `Row`: what, where it was published, the number there, ours, and the tolerance that says
agreement. The runs are read from a folder outside the project; nothing of it is kept here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.frontiers.counting import implied_exponent
from analysis.frontiers.isoflop_fit import fit_isoflop
from analysis.laws.registry import LAWS
from analysis.published.constants import (
    BESIROGLU_2024,
    BESIROGLU_SE,
    CZECH_INTERCEPTS,
    EPOCH_OBJECTIVE,
    GADRE,
    GADRE_RUNS,
    GEMSTONES,
    GEMSTONES_SHAPE,
    HOFFMANN_2022,
    ISOFLOP_OBJECTIVES,
    LLAMA_3_EXPONENTS,
    PEARCE_SONG,
    PUBLISHED_DRAWS,
)
from analysis.published.curves import downstream, multipower
from analysis.published.row import Row
from analysis.runs.table import RunTable, load_tables


def _columns(frame: pd.DataFrame, *names: str) -> dict[str, Any]:
    return {name: frame[name].to_numpy(dtype=float) for name in names}


def epoch_table(folder: Path) -> RunTable:
    """The 240 points: those read off figure 4 without the five largest losses."""
    columns = {"params": "Model Size", "flops": "Training FLOP", "loss": "loss"}
    return load_tables([folder / "epoch_chinchilla" / "svg_extracted_data.csv"], columns, None, 5)


def epoch(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Besiroglu et al. 2024."""
    source = "Besiroglu et al. 2024"
    data = _columns(epoch_table(folder).frame, "params", "tokens", "flops", "loss")
    as_published = bootstrap >= 1000
    fit = fit_law("hoffmann", data, bootstrap=PUBLISHED_DRAWS if as_published else bootstrap)
    yield Row(
        what="Epoch: least objective",
        source="the data's README",
        published=EPOCH_OBJECTIVE,
        ours=fit.objective,
        tolerance=1e-11,
        at_most=True,
    )
    for name, near in (("E", 0.01), ("alpha", 0.005), ("beta", 0.005)):
        yield _with_interval(f"Epoch: {name}", source, BESIROGLU_2024[name], fit, name, near)
    assert fit.frontier_estimates is not None
    a = fit.frontier_estimates.a
    yield Row(
        what="Epoch: frontier a",
        source=source,
        published=0.514,
        ours=a.value,
        tolerance=0.002,
        lo=a.lo,
        hi=a.hi,
    )
    if as_published:
        for name in ("E", "alpha", "beta", "A", "B"):
            published = BESIROGLU_SE[name]
            yield Row(
                what=f"Epoch: standard error of {name}",
                source=source,
                published=published,
                ours=fit.bse[name],
                tolerance=(0.1 if name in "AB" else 0.05) * published,
            )
        assert a.se is not None
        yield Row(
            what="Epoch: standard error of a",
            source=source,
            published=BESIROGLU_SE["a"],
            ours=a.se,
            tolerance=0.001,
        )
    yield from _epoch_checks(data)


def _epoch_checks(data: dict[str, Array]) -> Iterator[Row]:
    """Hoffmann's own parameters on these points, and how a fit of the small runs predicts the large ones."""
    theirs = np.array([HOFFMANN_2022[name] for name in LAWS["hoffmann"].param_names])
    r = np.log(LAWS["hoffmann"](theirs, data) / data["loss"])
    size = np.minimum(np.abs(r), 1e-3)
    value = float((size * (np.abs(r) - 0.5 * size)).sum())
    yield Row(
        what="Epoch: objective of Hoffmann's own parameters",
        source="the data's README",
        published=0.004121,
        ours=value,
        tolerance=1e-6,
    )
    small = data["flops"] < 1e21
    part = fit_law("hoffmann", {name: column[small] for name, column in data.items()})
    held = {name: column[~small] for name, column in data.items()}
    predicted = part.predict(held, interval="none")["loss"].to_numpy()
    mape = float(np.mean(np.abs(predicted / held["loss"] - 1)))
    yield Row(
        what="Epoch: error above 1e21 FLOPs, fitted below",
        source="the data's README",
        published=0.0105,
        ours=mape,
        tolerance=5e-4,
    )


def _with_interval(what: str, source: str, published: float, fit: Fit, name: str, tolerance: float) -> Row:
    e = fit.estimates[name]
    return Row(what=what, source=source, published=published, ours=e.value, tolerance=tolerance, lo=e.lo, hi=e.hi)


def isoflops(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Czech et al. 2026."""
    path = folder / "isoflops" / "isoflops.csv"
    for name, published in ISOFLOP_OBJECTIVES.items():
        table = load_tables([path], {"flops": "budget"}, f"experiment == '{name}'")
        data = _columns(table.frame, "params", "tokens", "loss")
        fit = fit_law("hoffmann", data, residuals="raw")
        yield Row(
            what=f"{name}: mean Huber objective x 1e6",
            source="Czech et al. 2026",
            published=published,
            ours=1e6 * fit.objective / fit.num_rows,
            tolerance=5e-4,
            at_most=True,
        )
        if name.startswith("llama_3"):
            frontier = fit_isoflop(table, method="parabola", bootstrap=bootstrap).frontier
            for label, value, estimate in zip("ab", LLAMA_3_EXPONENTS, (frontier.a, frontier.b), strict=True):
                if estimate is not None:
                    yield Row(
                        what=f"Llama 3: {label} by parabola",
                        source="Czech et al. 2026",
                        published=value,
                        ours=estimate.value,
                        tolerance=0.001,
                        lo=estimate.lo,
                        hi=estimate.hi,
                    )


def porian(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Porian et al. 2024: exponents by Akima interpolation of log loss."""
    published = pd.read_csv(folder / "porian" / "published_exponents.csv")
    keys = ["hparams", "warmup", "decay", "param_count", "val"]
    for entry in published.to_dict(orient="records"):
        where = " and ".join(f"{key} == '{entry[key]}'" for key in keys)
        table = load_tables([folder / "porian" / "isoflop_points.csv"], {"params": "n", "tokens": "t"}, where)
        a = fit_isoflop(table, method="akima", bootstrap=bootstrap).frontier.a
        yield Row(
            what="Porian: a, " + " ".join(str(entry[key]) for key in keys),
            source="Porian et al. 2024",
            published=float(entry["a_basic"]),
            ours=a.value,
            tolerance=0.007,
            lo=a.lo,
            hi=a.hi,
        )


def gemstones(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """McLeish et al. 2025: the two-term law, and the law of width and depth; intervals cluster by run."""
    source = "McLeish et al. 2025"
    for name, (objective, alpha, beta, floor) in GEMSTONES.items():
        frame = load_tables([folder / "gemstones" / f"{name}.csv"], {}, None).frame
        fit = fit_law("hoffmann", frame, bootstrap=bootstrap, cluster="run" if bootstrap else None)
        yield Row(
            what=f"Gemstones {name}: objective",
            source=source,
            published=objective,
            ours=fit.objective,
            tolerance=1e-8,
            at_most=True,
        )
        for parameter, value, near in (("alpha", alpha, 0.003), ("beta", beta, 0.006), ("E", floor, 0.02)):
            yield _with_interval(f"Gemstones {name}: {parameter}", source, value, fit, parameter, near)
    for (name, delta), objective in GEMSTONES_SHAPE.items():
        frame = load_tables([folder / "gemstones" / f"{name}.csv"], {}, None).frame
        fit = fit_law("gemstones", frame, delta=delta)
        yield Row(
            what=f"Gemstones {name}: objective with width and depth, delta {delta:g}",
            source=source,
            published=objective,
            ours=fit.objective,
            tolerance=1e-9,
            at_most=True,
        )


def gadre_table(folder: Path, data_set: str, where: str) -> RunTable:
    """Runs of one training set; the loss is that on C4's validation set."""
    columns = {"params": "N", "tokens": "D", "loss": "loss_c4_val"}
    return load_tables([folder / "gadre" / "models.csv"], columns, f"dataset_name == '{data_set}' and ({where})")


def gadre(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Gadre et al. 2024: least squares on five runs; intervals from the covariance, with one degree of freedom."""
    source = "Gadre et al. 2024"
    for label, (data_set, published) in GADRE.items():
        table = gadre_table(folder, data_set, GADRE_RUNS)
        fit = fit_law("gadre", table.frame, objective="squared", residuals="raw")
        for name, near in (("E", 0.005), ("eta", 0.0005), ("a", 0.5), ("b", 0.5)):
            yield _with_interval(f"Gadre {label}: {name}", source, published[name], fit, name, near)


def chinchilla_tables(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Hoffmann et al. 2022, table A4: exact over 6 N D FLOPs, from the shapes alone.

    Appendix F's sum without embeddings and logits (a softmax counts three FLOPs a score), over 6 N with N made of the
    matrices, the projection of relative positions and one table of 32,000 tokens.
    """
    frame = pd.read_csv(folder / "chinchilla_tables" / "tableA4_flops_ratio.csv")
    context, vocab = 2048.0, 32000.0
    for shape in frame.to_dict(orient="records"):
        width, ffn, layers, heads = (float(shape[name]) for name in ("d_model", "ffw", "layers", "heads"))
        inner = heads * float(shape["k_q_size"])
        matrices = 4 * width * inner + 2 * width * ffn
        per_token = 3 * layers * (2 * matrices + 2 * 2 * context * inner + 3 * heads * context)
        params = layers * (matrices + width * inner) + vocab * width
        yield Row(
            what=f"Chinchilla shape {layers:.0f} x {width:.0f}: exact / 6ND",
            source="Hoffmann et al. 2022, table A4",
            published=float(shape["ratio_exact_over_6ND_paper_recalled"]),
            ours=per_token / (6 * params),
            tolerance=0.006,
        )


def czech(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Czech et al. 2026: the bias of a parabola in log N on noise-free budgets; no runs needed.

    Five budgets of 15 sizes within a factor of 16 of each optimum, on Hoffmann's surface and on a less even one.
    """
    for (alpha, beta), published in CZECH_INTERCEPTS.items():
        E, A, B = (HOFFMANN_2022[name] for name in ("E", "A", "B"))
        balance = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        flops = np.repeat(np.logspace(17, 21, 5), 15)
        params = balance * (flops / 6) ** (beta / (alpha + beta)) * np.tile(np.geomspace(1 / 16, 16, 15), 5)
        tokens = flops / (6 * params)
        frame = pd.DataFrame({"params": params, "tokens": tokens, "flops": flops})
        frame = frame.assign(loss=E + A / params**alpha + B / tokens**beta, row=range(1, 76), source="noise-free")
        flags = pd.Series([""] * 75, dtype=object)
        table = RunTable(frame=frame, excluded=frame[:0], flags=flags, conventions={"flops": "6ND"})
        line = fit_isoflop(table, bootstrap=0, exponents=(alpha, beta)).frontier.line
        yield Row(
            what=f"Intercept of log10 D_opt by parabola, alpha {alpha}, beta {beta}",
            source="Czech et al. 2026",
            published=published,
            ours=math.nan if line is None else line[2] / math.log(10),
            tolerance=5e-7,
        )


def counting(folder: Path, *, bootstrap: int) -> Iterator[Row]:
    """Pearce and Song 2024: no runs needed."""
    for label, theta, published in zip(
        ("Besiroglu's", "Hoffmann's"), (BESIROGLU_2024, HOFFMANN_2022), PEARCE_SONG, strict=True
    ):
        yield Row(
            what=f"Exponent without embeddings under {label} coefficients",
            source="Pearce and Song 2024",
            published=published,
            ours=implied_exponent(theta),
            tolerance=0.01,
        )


SECTIONS: dict[str, Callable[..., Iterator[Row]]] = {
    "epoch": epoch,
    "isoflops": isoflops,
    "porian": porian,
    "gemstones": gemstones,
    "gadre": gadre,
    "downstream": downstream,
    "multipower": multipower,
    "chinchilla-tables": chinchilla_tables,
    "czech": czech,
    "counting": counting,
}
NEED_NO_RUNS = {"czech", "counting"}
"""Sections that are computed from formulas alone."""


def compare(folder: str | Path, *, sections: list[str] | None = None, bootstrap: int = 1000) -> dict[str, list[Row]]:
    """Every published number beside ours, by section.

    Parameters
    ----------
    folder : str or Path
        Holds the published runs.
    sections : list of str, optional
        Sections to compute; all by default.
    bootstrap : int
        Draws of each fit.

    Returns
    -------
    dict of list of Row
        Rows by section.

    Raises
    ------
    UserError
        When the folder of published runs or a section is not there.
    """
    folder = Path(folder)
    chosen = sections or list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise UserError(f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if not set(chosen) <= NEED_NO_RUNS and not folder.is_dir():
        raise UserError(f"there is no folder {folder} of published runs; name it with --data FOLDER")
    return {name: list(SECTIONS[name](folder, bootstrap=bootstrap)) for name in chosen}
