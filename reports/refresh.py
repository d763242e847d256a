"""Write six results of the committed reports into README.md: `python reports/refresh.py [--check]`.

Owns the text between `<!-- numbers -->` and `<!-- /numbers -->`; everything there comes from the reports' files. With
`--check` nothing is written, and the exit status says whether the texts are up to date.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- numbers -->\n", "<!-- /numbers -->"
QUICKSTART = ROOT / "reports" / "quickstart"
SPEECHES = ROOT / "reports" / "isoflop-speeches"
REVIEWS = ROOT / "reports" / "isoflop-imdb"
POSITIONS = ROOT / "reports" / "positions"
RATES = ROOT / "reports" / "learning-rate"
MUON = ROOT / "reports" / "muon"
METHODS = ROOT / "reports" / "peft"


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def interval(row: dict[str, str], digits: int = 2) -> str:
    """value (lo, hi)."""
    value, low, high = (float(row[key]) for key in ("value", "lo", "hi"))
    return f"{value:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def headlines() -> str:
    """Six results as a Markdown list: a prediction, exponents, three comparisons, and what pre-training is worth."""
    lines = (prediction(), exponent(), rates(), comparison(), optimizers(), pretraining())
    return "".join(f"* {line}\n" for line in lines)


def prediction(folder: Path = SPEECHES) -> str:
    """How the law of a study predicted the runs that it had not seen."""
    held = json.loads((folder / "heldout.json").read_text())["runs"]
    errors = [abs(run["error_fraction"]) for run in held]
    carried = [abs(run["carried_forward"] - run["measured"]) / run["measured"] for run in held]
    inside = sum(run["lo"] <= run["measured"] <= run["hi"] for run in held)
    shown = "; ".join(
        f"{run['predicted']:.3f} ({run['lo']:.3f}, {run['hi']:.3f}), measured {run['measured']:.3f}" for run in held
    )
    return (
        f"**Larger runs are predicted.** A law fitted to small runs predicted the loss of {len(held)} runs that "
        f"cost {held[0]['flops'] / largest_fitted(folder):.1f} times as much, with a mean error of {mean(errors):.1%}; "
        f"{inside} of {len(held)} lie within their intervals (nats per byte: {shown}). Guessing the loss of the best "
        f"smaller run instead has an error of {mean(carried):.1%}. [Speeches](reports/{folder.name}/report.html). "
        f"{registered()}"
    )


def registered(folder: Path = REVIEWS) -> str:
    """How predictions held that were written down before their runs were trained."""
    runs = json.loads((folder / "registered.json").read_text())["runs"]
    errors, inside = [abs(run["error_fraction"]) for run in runs], sum(run["covered"] for run in runs)
    return (
        f"On film reviews, tokenized by byte-pair encoding, the predictions were registered before their runs were "
        f"trained: the mean error is {mean(errors):.1%}, and {inside} of {len(runs)} lie within their intervals. "
        f"[Film reviews](reports/{folder.name}/report.html)"
    )


def exponent(folder: Path = SPEECHES) -> str:
    """How the best size grows with compute, by two methods."""
    found = {row["approach"]: row for row in rows(folder / "tables" / "exponents.csv") if row["exponent"] == "a"}
    return (
        "**The best size grows as compute to the power a.** "
        f"a = {interval(found['parametric hoffmann'])} by the fitted law, {interval(found['isoflop parabola'])} by the "
        "minima of the IsoFLOP curves (loss against size at equal compute). "
        f"[Speeches](reports/{folder.name}/report.html)"
    )


def comparison(folder: Path = POSITIONS) -> str:
    """What one position encoding gains over another."""
    found = next(row for row in rows(folder / "tables" / "arms.csv") if row["arm"] == "t5")
    value, low, high = (-float(found[key]) for key in ("difference", "hi", "lo"))
    return (
        f"**Small differences are measurable.** Over {found['num_cells']} pairs of runs, T5's relative positions "
        f"lower the loss by {value:.3f} ({low:.3f}, {high:.3f}) nats compared with rotary ones. "
        f"[Positions](reports/positions/report.html)"
    )


def rates(folder: Path = RATES) -> str:
    """How the best peak rate moves with size, in two parametrizations."""
    cards = {card["label"]: card for card in json.loads((folder / "summary.json").read_text())["cards"]}

    def power(arm: str) -> str:
        card = cards[f"power of N in the best rate, {arm}"]
        ends = [f"{float(end):.2f}" for end in (card["value"], *card["interval"].split(" to "))]
        return f"{ends[0]} ({ends[1]}, {ends[2]})"

    return (
        f"**muP transfers the learning rate across sizes.** The best peak rate scales as N to the power "
        f"{power('standard')} in the standard parametrization, and to the power {power('mup')} in muP. "
        f"[Peak rates](reports/{folder.name}/report.html)"
    )


def optimizers(folder: Path = MUON) -> str:
    """What Muon gains over AdamW, each at its best rate."""
    found = next(row for row in rows(folder / "best_rates.csv") if row["arm"] == "muon")
    pairs = [float(row["difference"]) for row in rows(folder / "arms.csv") if row["difference"]]
    low, high, tokens = min(pairs), max(pairs), int(float(found["tokens"]))
    return (
        f"**Recipes are compared at their own best rates.** At width 64 and {tokens:,} tokens, Muon lowers the loss by "
        f"{-mean(pairs):.3f} nats compared with AdamW; the {len(pairs)} seeds lie between {-high:.3f} and {-low:.3f}. "
        f"[Optimisers](reports/{folder.name}/README.md)"
    )


def pretraining(folder: Path = METHODS) -> str:
    """How many examples fresh weights need for the loss of a tuned body, at the smallest and at the largest size."""
    found = sorted(rows(folder / "tables" / "worth.csv"), key=lambda row: (float(row["params"]), int(row["examples"])))
    examples = int(found[0]["examples"])
    fewest = [row for row in found if int(row["examples"]) == examples]

    def times(row: dict[str, str]) -> str:
        value, low, high = (float(row[key]) / examples for key in ("worth", "lo", "hi"))
        return f"{value:.1f} ({low:.1f}, {high:.1f}) times as many at {float(row['params']) / 1000:.0f}k parameters"

    return (
        "**What pre-training is worth is measured.** To reach the loss of a pre-trained encoder that was tuned on "
        f"{examples} questions, random weights need {times(fewest[0])}, and {times(fewest[-1])}. "
        f"[Methods of fine-tuning](reports/{folder.name}/report.html)"
    )


def largest_fitted(folder: Path) -> float:
    """Largest compute of the fitted runs."""
    return max(float(row["flops"]) for row in rows(folder / "tables" / "runs.csv") if row["role"] != "heldout")


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def replaced(path: Path, text: str) -> str:
    """The file's text with `text` between the marks."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    if not mark or END not in rest:
        sys.exit(f"error: {path} lacks the marks {BEGIN.strip()} and {END}; put them where the numbers belong")
    return before + BEGIN + text + END + rest.partition(END)[2]


def main(check: bool) -> int:
    """Refresh, or compare, the texts."""
    path = ROOT / "README.md"
    wanted = replaced(path, headlines())
    if check:
        return int(path.read_text(encoding="utf-8") != wanted)
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
