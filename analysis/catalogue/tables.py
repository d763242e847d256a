"""Tables behind docs/laws.md: published runs read from a folder, and simulated ones, with what is held out of each.

Every function takes the folder and gives a law's inputs and target, `series` (rows joined by a curve; empty for rows
that are only fitted) and `held`. It must not know how laws are fitted or drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.formatting import format_compute, format_size
from analysis.laws.registry import LAWS
from analysis.published.constants import GADRE_RUNS
from analysis.published.curves import GADRE_DOWNSTREAM_RUNS, TRAINED_ON, schedule_curves


def labelled(frame: pd.DataFrame, series: Any, held: Any) -> pd.DataFrame:
    """The rows with what is drawn together and what is held out, on a fresh index."""
    return frame.assign(series=series, held=held).reset_index(drop=True)


def llama(folder: Path) -> pd.DataFrame:
    """Llama 3's IsoFLOP points, the two largest budgets held out."""
    frame = pd.read_csv(folder / "isoflops" / "isoflops.csv")
    frame = frame[frame["experiment"] == "llama_3__raw_loss"].sort_values(["budget", "params"])
    names = [f"{format_compute(budget)} FLOPs" for budget in frame["budget"]]
    return labelled(frame, names, frame["budget"] > 2e21)


def llama_minima(folder: Path) -> pd.DataFrame:
    """The best of every budget, the three largest budgets held out."""
    frame = llama(folder)
    best = frame.loc[frame.groupby("budget")["loss"].idxmin()]
    return labelled(best.assign(x=best["budget"]), "best of each budget", best["budget"] > 7e20)


def lambada(folder: Path) -> pd.DataFrame:
    """LAMBADA's error by compute, Gadre et al.'s models of 10 to 80 tokens a parameter; above 1B held out."""
    frame = pd.read_csv(folder / "gadre" / "models.csv").query("10 <= tok_mult <= 80").sort_values("flops")
    frame = frame.assign(x=frame["flops"], loss=frame["err_lambada_openai"])
    return labelled(frame, "LAMBADA", frame["N"] > 1e9)


def constant_rate(folder: Path) -> pd.DataFrame:
    """One training curve at a constant rate after warm-up, its last two thirds held out."""
    frame = pd.read_csv(folder / "multipowerlaw" / "25M" / "constant_72000.csv")
    return labelled(frame.assign(x=frame["step"]), "25M, constant rate", frame["step"] > 24000)


def gemstones(folder: Path) -> pd.DataFrame:
    """Gemstones' cool_begin set, models above 1.5B parameters held out; seven shapes are drawn."""
    frame = pd.read_csv(folder / "gemstones" / "cool_begin.csv")
    drawn = ("256x23", "256x80", "768x3", "768x45", "1792x7", "1792x18", "1536x50")
    shape = frame["run"].str.extract(r"(\d+x\d+)")[0]
    names = np.where(shape.isin(drawn), shape.str.replace("x", " x "), "")
    return labelled(frame, names, frame["params"] > 1.5e9)


def repeated(folder: Path) -> pd.DataFrame:
    """Muennighoff et al.'s runs as ScaleBench has them; those of 421M parameters are drawn."""
    frame = pd.read_csv(folder / "scalebench" / "data_constrained_train.csv")
    frame = frame.sort_values(["unique_tokens", "tokens"], ascending=False)
    once = frame["unique_tokens"] == frame["tokens"]
    names = pd.Series([f"{format_size(u)} unique" for u in frame["unique_tokens"]], index=frame.index)
    drawn = (frame["params"] == 421.2e6) & (once | frame["unique_tokens"].isin([1e8, 4e8, 1.5e9]))
    return labelled(frame, names.mask(once, "one epoch").where(drawn, ""), False)


def over_trained(folder: Path) -> pd.DataFrame:
    """Gadre et al.'s models trained on C4; all but five held out."""
    frame = pd.read_csv(folder / "gadre" / "models.csv")
    frame = frame[frame["dataset_name"] == "c4_original"].sort_values(["N", "D"])
    five = frame.query(GADRE_RUNS).index
    frame = frame.assign(params=frame["N"], tokens=frame["D"], loss=frame["loss_c4_val"], ratio=frame["D"] / frame["N"])
    return labelled(frame, [f"{format_size(n)} params" for n in frame["N"]], ~frame.index.isin(five))


def vocabularies(folder: Path) -> pd.DataFrame:
    """ScaleBench's vocabulary runs, the largest models held out; two vocabularies drawn at one size, one there."""
    frame = pd.read_csv(folder / "scalebench" / "vocab_train.csv")
    frame = frame.rename(columns={"non_vocab_parameters": "params", "vocab_size": "vocab", "num_characters": "tokens"})
    frame = frame.rename(columns={"unigram_normalized_loss": "loss"}).sort_values(["vocab", "params", "tokens"])
    large = frame["params"] > 1e9
    drawn = (frame["params"].between(3.0e8, 3.3e8) & frame["vocab"].isin([4096, 64512])) | (
        large & (frame["vocab"] == 16384)
    )
    names = [
        f"{format_size(n)}, {v:.0f}" if s else ""
        for n, v, s in zip(frame["params"], frame["vocab"], drawn, strict=True)
    ]
    return labelled(frame, names, large)


def streams(folder: Path) -> pd.DataFrame:
    """ScaleBench's runs with parallel streams on the Pile, the largest models held out."""
    frame = pd.read_csv(folder / "scalebench" / "parallel_train.csv").rename(columns={"num_params": "params"})
    frame = frame[frame["group"] == "pile"].sort_values(["parallel_size", "params"])
    return labelled(frame, [f"P = {p}" for p in frame["parallel_size"]], frame["params"] > 4e9)


def rates(folder: Path) -> pd.DataFrame:
    """ScaleBench's runs over rate and batch, the largest models held out; four designs are drawn along the rate."""
    frame = pd.read_csv(folder / "scalebench" / "lr_bsz_train.csv")
    theirs = {"non_embedding_param_size": "params", "data_size": "tokens", "bsz": "batch", "lm_loss": "loss"}
    frame = frame.rename(columns=theirs).sort_values(["params", "tokens", "batch", "lr"])
    shown = [(214663680, 2e10), (429260800, 5e10), (536872960, 5e10), (1073741824, 2e10)]
    designs = zip(frame["params"], frame["tokens"], frame["batch"], strict=True)
    names = [
        f"{format_size(n)}, {format_size(d)} tokens" if (n, d) in shown and b == 256 else "" for n, d, b in designs
    ]
    return labelled(frame, names, frame["params"] > 1e9)


def schedules(folder: Path) -> pd.DataFrame:
    """Nine curves of one model of 25M parameters, those that Luo et al. test on held out; five are drawn."""
    parts = [curve.assign(curve=name) for name, curve in schedule_curves(folder, "25M").items()]
    frame = pd.concat(parts, ignore_index=True)
    drawn = frame["curve"].isin(["cosine_24000", "wsdcon_9", "cosine_72000", "constant_72000", "wsd_20000_24000"])
    return labelled(frame, frame["curve"].where(drawn, ""), ~frame["curve"].isin(TRAINED_ON))


def best_rates(folder: Path) -> pd.DataFrame:
    """The best peak rate tried at each size and token budget of this project's own study; nothing is held out."""
    frame = pd.read_csv(RATES)
    frame = frame[frame["lr"] == frame["best_lr"]].sort_values(["tokens", "params"])
    names = [f"{format_size(d)} tokens" for d in frame["tokens"]]
    return labelled(frame.assign(optimum=frame["lr"]), names, False)


def best_sizes(folder: Path) -> pd.DataFrame:
    """Porian et al.'s best size of each budget, tuned models; the three largest budgets held out."""
    frame = pd.read_csv(folder / "porian" / "optimal_pairs.csv")
    frame = frame[frame["hparams"] == "tuned"].sort_values("flops")
    return labelled(
        frame.assign(x=frame["flops"], optimum=frame["n"]), "best size", frame["flops"].rank() > len(frame) - 3
    )


def task_mean(folder: Path) -> pd.DataFrame:
    """Mean error of 17 tasks of Gadre et al.'s models trained on C4; all but the six that they fit held out."""
    frame = pd.read_csv(folder / "gadre" / "models.csv").sort_values("loss_c4_val")
    frame = frame[frame["dataset_name"] == "c4_original"]
    six = frame.query(GADRE_DOWNSTREAM_RUNS).index
    frame = frame.assign(loss=frame["loss_c4_val"], error=frame["err_avg_subset"])
    return labelled(frame, "mean of 17 tasks", ~frame.index.isin(six))


def one_task(folder: Path) -> pd.DataFrame:
    """HellaSwag's error of all of Gadre et al.'s models by their loss on C4; those above 1B parameters held out."""
    frame = pd.read_csv(folder / "gadre" / "models.csv").sort_values("loss_c4_val")
    frame = frame.assign(loss=frame["loss_c4_val"], error=frame["err_hellaswag"])
    return labelled(frame, "HellaSwag", frame["N"] > 1e9)


FINE_TUNED = {"E": 0.9, "A": 60.0, "alpha": 0.12, "beta": 0.1}
TRANSFERRED = {
    "alpha_N": 0.076,
    "alpha_D": 0.103,
    "N_c": 6.4e13,
    "D_c": 1.8e13,
    "k": 1.9e4,
    "alpha": 0.18,
    "beta": 0.38,
}
"""Of Kaplan et al. 2020 for the loss from scratch; of the transfer, numbers of the size that Hernandez et al. find."""


BENT = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37, "s": 0.06, "c": 1e20 / 6}
"""Numbers of the size that Besiroglu et al. find, with a break at 1e20 FLOPs."""
BOUNDED_CURVE = {"E": 0.8, "I": 4.6, "m": 6e4, "b": 0.5}
BOUNDED_SIZES = {"E": 0.8, "I": 4.6, "n": 2e9, "a": 0.4, "m": 6e4, "b": 0.5}
"""Of the size of those that Lin et al. 2024 find."""
CRITICAL = {"B_star": 2e8, "alpha_B": 0.21}
"""Of Kaplan et al. 2020."""
TRADED = {"S_min": 2000.0, "B_crit": 3e5}
RATES = Path(__file__).resolve().parents[2] / "reports" / "recipe" / "rates.csv"
"""This project's own study of peak rates."""


def simulated(law: str, truth: Mapping[str, float], noise: float = 0.003, **columns: Any) -> pd.DataFrame:
    """Losses of a law with log-normal noise of seed 0."""
    frame = pd.DataFrame(columns)
    noisy = np.exp(noise * np.random.default_rng(0).standard_normal(len(frame)))
    return frame.assign(**{LAWS[law].target: LAWS[law](truth, columns) * noisy})


def bent(folder: Path) -> pd.DataFrame:
    """Nine budgets of seven sizes with a break at 1e20 FLOPs, the two largest budgets held out; five are drawn."""
    flops = np.repeat(np.geomspace(1e18, 1e22, 9), 7)
    sizes = np.sqrt(flops / 120) * np.tile(np.geomspace(0.15, 7, 7), 9)
    frame = simulated("hoffmann-break", BENT, 0.001, params=sizes, tokens=flops / (6 * sizes))
    drawn = np.isin(np.arange(63) // 7, [0, 2, 4, 6, 8])
    series = [f"{format_compute(c)} FLOPs" if d else "" for c, d in zip(flops, drawn, strict=True)]
    return labelled(frame, series, flops > 2e21)


def fine_tuning(folder: Path) -> pd.DataFrame:
    """Four sizes by nine amounts of data, the largest size held out."""
    size, data = (a.ravel() for a in np.meshgrid([1e9, 2e9, 4e9, 16e9], np.geomspace(1e5, 1e8, 9), indexing="ij"))
    frame = simulated("zhang", FINE_TUNED, params=size, finetune_tokens=data)
    return labelled(frame, [f"{format_size(n)} params" for n in size], size > 1e10)


def bounded_curve(folder: Path) -> pd.DataFrame:
    """One model fine-tuned on 200 to 1.6M examples, the two largest amounts held out."""
    examples = 200.0 * 2.0 ** np.arange(14)
    frame = simulated("bounded", BOUNDED_CURVE, x=examples)
    return labelled(frame, "one model", examples > 5e5)


def bounded_sizes(folder: Path) -> pd.DataFrame:
    """Five sizes by ten amounts of data, the largest size held out."""
    axes = ([1e8, 3e8, 1e9, 3e9, 9e9], 200.0 * 3.0 ** np.arange(10))
    size, examples = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    frame = simulated("bounded-size", BOUNDED_SIZES, params=size, x=examples)
    return labelled(frame, [f"{format_size(n)} params" for n in size], size > 5e9)


def transfer(folder: Path) -> pd.DataFrame:
    """Three sizes by eleven amounts of data, from scratch and pretrained; the smallest and the largest are drawn."""
    axes = ([0.0, 1.0], [4e7, 2e8, 1e9], np.geomspace(1e5, 1e10, 11))
    kind, size, data = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    frame = simulated("hernandez", TRANSFERRED, params=size, finetune_tokens=data, pretrained=kind)
    names = [f"{format_size(n)} {'pretrained' if p else 'from scratch'}" for n, p in zip(size, kind, strict=True)]
    names = ["" if n == 2e8 else name for n, name in zip(size, names, strict=True)]
    return labelled(frame, names, data > 5e9)


def critical(folder: Path) -> pd.DataFrame:
    """Critical batches at eight losses, the lowest two held out."""
    loss = np.geomspace(5.5, 2.4, 8)
    return labelled(simulated("critical-batch", CRITICAL, noise=0.1, loss=loss), "critical batch", loss < 2.8)


def traded(folder: Path) -> pd.DataFrame:
    """Steps to one loss with nine batches."""
    batch = np.geomspace(2e4, 5e6, 9)
    return labelled(simulated("batch-tradeoff", TRADED, noise=0.03, batch=batch), "steps to one loss", False)
