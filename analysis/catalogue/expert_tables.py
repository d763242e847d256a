"""Tables behind docs/laws.md for laws of experts, mixtures, precision and distillation, as in tables.py.

Simulated ones hold published constants where a paper prints them and they could be checked, with noise of seed 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.catalogue.tables import labelled, simulated
from analysis.formatting import format_size

JOINT = {
    "E": 1.3637,
    "A": 35.91,
    "B": 35.98,
    "alpha": 0.1889,
    "beta": 0.1775,
    "delta": 0.2285,
    "gamma": 0.0098,
    "omega": 0.5529,
    "zeta": 0.0259,
}
"""Of Ludziejewski et al. 2025, read from a public transcription of their fitted law."""
SPARSE = {
    "E": 0.94,
    "A": 16612.5,
    "B": 5455.67,
    "C": 0.4598,
    "F": 17.26,
    "alpha": 0.5962,
    "beta": 0.3954,
    "lam": -0.1666,
    "delta": 0.1603,
    "gamma": 0.1595,
}
"""Of Abnar et al. 2025, table 3."""
LEVERAGED = {"a": 1.23, "d": -0.0761 / np.log(10), "b": -0.117 / np.log(2), "c": 0.0167 / np.log(2) ** 2}
"""Of Tian et al. 2025, table 2, with base ten for compute and base two for granularity: see the law's docstring."""
MIXED = {
    "E": 1.2,
    "C_1": 1.4,
    "C_2": 0.8,
    "C_3": 0.5,
    "A": 300.0,
    "B": 900.0,
    "g_1": 0.3,
    "g_2": 0.6,
    "g_3": 0.9,
    "alpha": 0.33,
    "beta": 0.36,
}
"""Round numbers of our own."""
QUANTIZED = {"E": 2.7648, "A": 4299.0, "B": 18060.0, "alpha": 0.4965, "beta": 0.4965, "gamma": 2.6745}
"""Of Kumar et al. 2024, table 2: beta is alpha there, and gamma that of the weights, without its offset."""
DISTILLED = {
    "c0": 2.5,
    "c1": 20.0,
    "d1": 1.3,
    "f1": 0.1,
    "A": 2000.0,
    "B": 25000.0,
    "alpha": 0.32,
    "beta": 0.64,
    "gamma": 0.75,
}
"""Round numbers of our own: the fitted constants of Busbridge et al. could not be checked."""
SUPERVISED = {"E": 1.2, "A": 3500.0, "B": 18000.0, "alpha": 0.4, "beta": 0.43, "gamma": 0.45}
"""L = E + (A / params**alpha + B / tokens**beta)**gamma, of students without a teacher; likewise."""
SHARES = {f"share_{j}": f"proportion_domain_{j}" for j in range(1, 6)}
"""Columns of ScaleBench's mixtures."""


def _grid(*axes: object) -> list[np.ndarray]:
    return [axis.ravel() for axis in np.meshgrid(*(np.asarray(a, dtype=float) for a in axes), indexing="ij")]


def routed(folder: Path) -> pd.DataFrame:
    """Clark et al.'s routed models as ScaleBench has them, the largest size held out; four numbers of experts drawn."""
    frame = pd.read_csv(folder / "scalebench" / "moe_train.csv")
    names = {"dense_parameter_count": "params", "num_experts": "experts", "loss_validation": "loss"}
    frame = frame.rename(columns=names).sort_values(["experts", "params"])
    drawn = frame["experts"].isin([1, 8, 64, 512])
    series = [f"{e:.0f} experts" if one else "" for e, one in zip(frame["experts"], drawn, strict=True)]
    return labelled(frame, series, frame["params"] == frame["params"].max())


def joint(folder: Path) -> pd.DataFrame:
    """Five sizes, six numbers of experts and four ratios of tokens to params, the largest size held out."""
    sizes, experts, ratios = _grid(np.geomspace(3e7, 3e9, 5), 2.0 ** np.arange(6), [8, 30, 120, 480])
    frame = simulated("moe-joint", JOINT, params=sizes, tokens=sizes * ratios, experts=experts)
    series = [f"{e:.0f} experts" if r == 30 and e in (1, 4, 32) else "" for e, r in zip(experts, ratios, strict=True)]
    return labelled(frame, series, sizes > 2e9)


def sparse(folder: Path) -> pd.DataFrame:
    """Seven sizes, six active shares and five ratios of tokens to params, the largest size held out."""
    sizes, shares, ratios = _grid(np.geomspace(3e7, 3e10, 7), 0.5 ** np.arange(6), [2, 8, 30, 120, 480])
    frame = simulated("moe-sparsity", SPARSE, 0.001, params=sizes, tokens=sizes * ratios, active_fraction=shares)
    drawn = (ratios == 30) & np.isin(shares, [1.0, 0.125, 2.0**-5])
    return labelled(
        frame, [f"1 in {1 / s:.0f} active" if d else "" for s, d in zip(shares, drawn, strict=True)], sizes > 2e10
    )


def active(folder: Path) -> pd.DataFrame:
    """ScaleBench's models of one amount of data by active size and sparsity, the two largest sizes held out."""
    frame = pd.read_csv(folder / "scalebench" / "sparsity_train.csv")
    frame = frame.rename(columns={"N_active": "active_params", "P": "sparsity"})
    frame = frame[frame["D2"] < 1.5].sort_values(["sparsity", "active_params"])
    kinds = {3.2: "sparsity 3.2", 6.2: "6.2", 12.2: "12.2"}
    series = [kinds.get(round(float(np.floor(p * 10) / 10), 1), "") for p in frame["sparsity"]]
    return labelled(frame, series, frame["active_params"] > 0.3)


def leveraged(folder: Path) -> pd.DataFrame:
    """Four active shares, four budgets and four granularities, the largest budget held out."""
    shares, flops, granularity = _grid([0.03, 0.06, 0.12, 0.25], [1e18, 1e19, 1e20, 1e22], [2, 4, 8, 16])
    frame = simulated("leverage", LEVERAGED, 0.02, active_fraction=shares, flops=flops, granularity=granularity)
    drawn = granularity == 8
    series = [f"{100 * s:.0f} % active" if d else "" for s, d in zip(shares, drawn, strict=True)]
    return labelled(frame, series, flops > 1e21)


def mixtures(folder: Path) -> pd.DataFrame:
    """ScaleBench's mixtures of five domains, loss of the first on models of 70M; every fifth mixture is held out."""
    frame = pd.read_csv(folder / "scalebench" / "domain_mixture_train.csv")
    frame = frame[frame["group"] == "70M"].rename(columns={theirs: ours for ours, theirs in SHARES.items()})
    frame = frame.assign(loss=frame["loss_domain_1"]).sort_values("loss").reset_index(drop=True)
    frame = frame.assign(mixture=np.arange(len(frame)) + 1.0)
    return labelled(frame, "loss of domain 1", frame["mixture"] % 5 == 3)


def mixed(folder: Path) -> pd.DataFrame:
    """Forty mixtures of three domains at three sizes and two ratios of tokens to params, the largest size held out."""
    shares = np.random.default_rng(1).dirichlet((1.0, 1.0, 1.0), 40)
    path = np.geomspace(0.02, 0.8, 12)
    shares = np.concatenate([shares, np.stack([path, (1 - path) / 2, (1 - path) / 2], axis=1)])
    which, sizes, ratios = _grid(np.arange(len(shares)), [1e8, 3e8, 1e9, 4e9], [20, 100])
    columns = {f"share_{j + 1}": shares[which.astype(int), j] for j in range(3)}
    frame = simulated("mixing-joint", MIXED, 0.002, **columns, params=sizes, tokens=sizes * ratios)
    drawn = (which >= 40) & (ratios == 20)
    series = [f"{format_size(n)} params" if d else "" for n, d in zip(sizes, drawn, strict=True)]
    return labelled(frame, series, sizes > 2e9)


def quantized(folder: Path) -> pd.DataFrame:
    """Five sizes in six precisions with three ratios of tokens to params, the largest size held out."""
    sizes, bits, ratios = _grid(np.geomspace(3e7, 1.7e9, 5), [3, 4, 5, 6, 8, 16], [10, 50, 250])
    frame = simulated("precision", QUANTIZED, params=sizes, tokens=sizes * ratios, bits=bits)
    series = [f"{b:.0f} bits" if r == 50 and b in (3, 4, 6, 16) else "" for b, r in zip(bits, ratios, strict=True)]
    return labelled(frame, series, sizes > 1e9)


def distilled(folder: Path) -> pd.DataFrame:
    """Eight teachers, six students and four ratios of tokens to params, the largest student held out."""
    teacher, sizes, ratios = _grid(np.geomspace(1.7, 5.0, 8), np.geomspace(1e7, 1e10, 6), [1, 8, 64, 512])
    E, A, B, alpha, beta, gamma = SUPERVISED.values()
    student = E + (A / sizes**alpha + B / (sizes * ratios) ** beta) ** gamma
    frame = simulated(
        "distillation",
        DISTILLED,
        0.0001,
        teacher_loss=teacher,
        student_loss=student,
        params=sizes,
        tokens=sizes * ratios,
    )
    drawn = (ratios == 8) & ((sizes < 2e7) | (sizes > 5e9) | (np.abs(np.log10(sizes) - 8.2) < 0.1))
    series = [f"student of {format_size(n)}" if d else "" for n, d in zip(sizes, drawn, strict=True)]
    return labelled(frame, series, sizes > 5e9)


def penalised(folder: Path) -> pd.DataFrame:
    """Muennighoff et al.'s runs as ScaleBench has them; those of 421M parameters are drawn by unique tokens."""
    frame = pd.read_csv(folder / "scalebench" / "data_constrained_train.csv")
    frame = frame.sort_values(["unique_tokens", "tokens"], ascending=False)
    drawn = (frame["params"] == 421.2e6) & frame["unique_tokens"].isin([1e8, 4e8, 1.5e9])
    series = pd.Series([f"{format_size(u)} unique" for u in frame["unique_tokens"]], index=frame.index)
    return labelled(frame, series.where(drawn, ""), False)


def straight(folder: Path) -> pd.DataFrame:
    """Mean error of 17 tasks by compute, Gadre et al.'s models of 10 to 80 tokens a parameter; above 1B held out."""
    frame = pd.read_csv(folder / "gadre" / "models.csv").query("10 <= tok_mult <= 80").sort_values("flops")
    frame = frame[frame["dataset_name"] == "c4_original"]
    frame = frame.assign(x=frame["flops"], error=frame["err_avg_subset"])
    return labelled(frame, "mean of 17 tasks", frame["N"] > 1e9)


def straight_sizes(folder: Path) -> pd.DataFrame:
    """Mean error of 17 tasks of Gadre et al.'s models trained on C4 by size and tokens; those above 1B held out."""
    frame = pd.read_csv(folder / "gadre" / "models.csv").sort_values(["N", "D"])
    frame = frame[frame["dataset_name"] == "c4_original"]
    frame = frame.assign(params=frame["N"], tokens=frame["D"], error=frame["err_avg_subset"])
    return labelled(frame, [f"{format_size(n)} params" for n in frame["N"]], frame["N"] > 1e9)
