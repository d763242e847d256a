"""Does `select` choose well? `python -m benchmarks.selection --studies 34 --out benchmarks/selection.json`.

Each study draws a table of runs from a known law, asks `select` for a law by its public API and its defaults, and
compares errors on a noise-free far extrapolation, at ten times the largest compute: that of the law chosen and that of
the true law, each re-fitted to the whole table. The choice is good when it is the true law, or errs by at most one
standard deviation of a run's noise more than the true law's re-fit: a difference that one run there could not show.

Studies are appended to a log, so that a stopped benchmark goes on where it was.
`--report docs/concepts/selection.md` puts the table into that page; `--data ../shared/data` chooses on published runs
instead, without their largest budgets, and compares how the choice and Hoffmann's form predict these.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from analysis.arrays import Array
from analysis.laws.registry import LAWS
from analysis.selection.select import select_law

TRUTHS: dict[str, tuple[float, ...]] = {
    "hoffmann": (1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    "kaplan": (0.076, 0.103, 6.4e13, 1.8e13),
    "skaling": (1.6, 3000.0, 20000.0, 0.45, 0.5, 0.7),
    "farseer": (-0.0035, -0.777, 0.2, -0.083, 9.8, 0.156, 10.0, 0.4, -0.15),
    "gemstones": (1.5, 8.0, 1.2, 600.0, 9000.0, 0.4, 0.6, 0.35, 0.45),
    "shifted": (1.7, 4000.0, 0.2, 1e17),
}
"""Parameters of the true laws: Besiroglu et al. 2024 for hoffmann, Kaplan et al. 2020 for kaplan; for the others
surfaces of about the same losses, with a coupling of .7, a data exponent that falls with size, terms of width and
depth, and a plateau below 1e17 FLOPs."""
NOISE = 0.005
"""Standard deviation of a run's log loss."""
FAR = 1e22
"""Compute of the extrapolation, ten times the largest budget."""
DESIGNS = ("isoflop", "ladder")
"""Seven budgets of nine sizes, or twelve sizes of six token budgets; studies alternate. A law of compute alone is
drawn along a ladder of forty compute-optimal runs."""


def runs(truth: str, shape: str) -> tuple[Array, Array]:
    """N and D of one table."""
    if truth == "shifted":
        flops = np.geomspace(1e17, 1e21, 40)
        return np.sqrt(flops / 120), 20 * np.sqrt(flops / 120)
    if shape == "isoflop":
        flops = np.repeat(np.geomspace(1e18, 1e21, 7), 9)
        params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 9), 7)
        return params, flops / (6 * params)
    params = np.repeat(np.geomspace(4e7, 4e9, 12), 6)
    return params, params * np.tile(np.geomspace(2.5, 160, 6), 12)


def columns(truth: str, params: Array, tokens: Array, aspect: Array) -> dict[str, Array]:
    """The table's columns; width and depth where the truth reads them: N = 12 depth width**2, 64 wide a layer times
    `aspect`."""
    out = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
    if truth == "gemstones":
        width = (params / 12 * 64 * aspect) ** (1 / 3)
        out |= {"width": width, "depth": params / 12 / width**2}
    return out


def losses(truth: str, table: dict[str, Array]) -> Array:
    """Noise-free losses."""
    return LAWS[truth](np.array(TRUTHS[truth]), {**table, "x": table["flops"]})


def study(truth: str, seed: int) -> dict[str, Any]:
    """One study: what was chosen, and the far errors of every law re-fitted to the table."""
    shape = DESIGNS[seed % 2]
    rng = np.random.default_rng([seed, list(TRUTHS).index(truth)])
    params, tokens = runs(truth, shape)
    table = columns(truth, params, tokens, rng.choice([0.5, 1.0, 2.0], params.size))
    table["loss"] = losses(truth, table) * np.exp(NOISE * rng.standard_normal(params.size))
    size = np.sqrt(FAR / 120) * np.array([0.5, 1.0, 2.0])
    far = columns(truth, size, FAR / (6 * size), np.ones(3))
    expected = losses(truth, far)
    begun = time.process_time()
    selection = select_law(table, rng=seed)
    spent = time.process_time() - begun
    errors = {}
    for one in selection.candidates:
        predicted = one.fit.predict({**far, "x": far["flops"]}, interval="none")["loss"].to_numpy()
        errors[one.name] = float(np.abs(predicted / expected - 1).mean())
    own = errors[truth]
    chosen = selection.chosen
    return {
        "truth": truth,
        "seed": seed,
        "design": "ladder of compute" if truth == "shifted" else shape,
        "chosen": chosen,
        "best_ranked": selection.candidates[0].name,
        "not_identified": [one.name for one in selection.candidates if one.reason is not None],
        "far_error": None if chosen is None else round(errors[chosen], 6),
        "far_error_of_truth": round(own, 6),
        "far_error_of_hoffmann": round(errors["hoffmann"], 6) if "hoffmann" in errors else None,
        "good": chosen is not None and (chosen == truth or errors[chosen] <= own + NOISE),
        "cpu_seconds": round(spent, 2),
    }


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """The record: shares of good choices by true law, and what was chosen."""
    out: dict[str, Any] = {
        "command": "python -m benchmarks.selection --studies 34 --out benchmarks/selection.json",
        "noise": NOISE,
        "far_flops": FAR,
        "tolerance": "the chosen law errs by at most the noise of one run more than the true law's re-fit",
        "truths": {name: list(values) for name, values in TRUTHS.items()},
        "num_studies": len(studies),
        "good": round(float(np.mean([s["good"] for s in studies])), 4),
        "by_truth": {},
    }
    for truth in TRUTHS:
        mine = [s for s in studies if s["truth"] == truth]
        if not mine:
            continue
        known = [s for s in mine if s["far_error"] is not None]
        chosen = [str(s["chosen"]) for s in mine]
        out["by_truth"][truth] = {
            "num_studies": len(mine),
            "good": round(float(np.mean([s["good"] for s in mine])), 4),
            "within_half_the_tolerance": round(
                float(np.mean([s["far_error"] <= s["far_error_of_truth"] + NOISE / 2 for s in known])), 4
            ),
            "the_truth": round(float(np.mean([c == truth for c in chosen])), 4),
            "chosen": {name: chosen.count(name) for name in sorted(set(chosen))},
            "median_far_error": round(float(np.median([s["far_error"] for s in known])), 6),
            "median_far_error_of_truth": round(float(np.median([s["far_error_of_truth"] for s in mine])), 6),
            "median_cpu_seconds": round(float(np.median([s["cpu_seconds"] for s in mine])), 2),
        }
    out["missed"] = [s for s in studies if not s["good"]]
    return out


def simulate(args: argparse.Namespace) -> None:
    """Run what the log lacks, then write the record."""
    args.log.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if args.log.exists():
        for line in args.log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            done[entry["truth"], entry["seed"]] = entry
    begun = time.monotonic()
    for seed in range(args.studies):
        for truth in args.truths:
            if (truth, seed) in done or time.monotonic() - begun > args.seconds:
                continue
            done[truth, seed] = study(truth, seed)
            with args.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(done[truth, seed]) + "\n")
    record = summary([done[key] for key in sorted(done)])
    for truth, row in record["by_truth"].items():
        print(f"{truth:10} {row['num_studies']:4} studies, good {row['good']:.3f}, chosen {row['chosen']}")
    print(f"{'all':10} {record['num_studies']:4} studies, good {record['good']:.3f}")
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if args.report:
        write_report(args.report, "simulated", simulated_table(record))


def simulated_table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    head = ["true law", "studies", "good", "within half the tolerance", "the truth itself", "what was chosen"]
    head += ["far error, median", "of the truth's re-fit"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for truth, row in record["by_truth"].items():
        chosen = ", ".join(
            f"{name} {count}" for name, count in sorted(row["chosen"].items(), key=lambda pair: -pair[1])
        )
        good, half, own = (f"{100 * row[k]:.0f} %" for k in ("good", "within_half_the_tolerance", "the_truth"))
        errors = [f"{100 * row[k]:.2f} %" for k in ("median_far_error", "median_far_error_of_truth")]
        lines.append(
            f"| {truth} | {row['num_studies']} | {good} | {half} | {own} | {chosen} | {errors[0]} | {errors[1]} |"
        )
    lines.append(f"\nAll: {100 * record['good']:.1f} % of {record['num_studies']} studies are good.")
    return "\n".join(lines)


def published_table(folder: Path) -> str:
    """Choices on published runs as Markdown."""
    from analysis.formatting import format_percent
    from benchmarks.published_heldout import compare_set, tables

    lines = [
        "| runs | fitted | held out | reach | chosen | its error | Hoffmann's | ratio | best afterwards | its error |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for name, table in tables(folder):
        row, _ = compare_set(name, table)
        print(row)
        if row.ratio is not None:
            ratios.append(row.ratio)
        ratio = "none" if row.ratio is None else f"{row.ratio:.2f}"
        cells = [name, str(row.num_fitted), str(row.num_heldout), f"{row.reach:.3g} x", str(row.chosen or "none")]
        cells += [format_percent(row.mape), format_percent(row.reference_mape), ratio, row.best]
        lines.append("| " + " | ".join([*cells, format_percent(row.best_mape)]) + " |")
    lines.append(
        f"\nLargest ratio {max(ratios):.2f}, smallest {min(ratios):.2f}, geometric mean "
        f"{float(np.exp(np.mean(np.log(ratios)))):.2f}, over {len(ratios)} sets."
    )
    return "\n".join(lines)


def write_report(path: Path, marker: str, text: str) -> None:
    """Put a table between the two lines `<!-- marker -->` and `<!-- /marker -->` of a page."""
    page = path.read_text(encoding="utf-8")
    head, _, rest = page.partition(f"<!-- {marker} -->")
    _, _, tail = rest.partition(f"<!-- /{marker} -->")
    path.write_text(f"{head}<!-- {marker} -->\n\n{text}\n\n<!-- /{marker} -->{tail}", encoding="utf-8")


def main() -> None:
    """The simulated studies, or with --data the published runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=34, help="studies for each true law")
    parser.add_argument("--truths", nargs="+", default=list(TRUTHS), choices=list(TRUTHS))
    parser.add_argument("--log", type=Path, default=Path("build/selection.jsonl"))
    parser.add_argument("--out", type=Path, help="write the record here")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--data", type=Path, help="choose on the published runs of this folder instead")
    parser.add_argument("--report", type=Path, help="write the table into this page, between its markers")
    args = parser.parse_args()
    if args.data is None:
        simulate(args)
        return
    text = published_table(args.data)
    print(text)
    if args.report:
        write_report(args.report, "published", text)


if __name__ == "__main__":
    main()
