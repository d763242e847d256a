"""Write the numbers of the committed quickstart report into README.md and reports/README.md: `python
reports/refresh.py [--check]`.

Owns the text between `<!-- numbers -->` and `<!-- /numbers -->`; everything there comes from the report's files. With
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


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def interval(row: dict[str, str], digits: int = 2) -> str:
    """value (lo, hi)."""
    value, low, high = (float(row[key]) for key in ("value", "lo", "hi"))
    return f"{value:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def quickstart_table(folder: Path = QUICKSTART) -> str:
    """What the quickstart found, as a Markdown table with 95 % intervals."""
    held = json.loads((folder / "heldout.json").read_text())["runs"]
    fit = json.loads((folder / "fit.json").read_text())
    exponents = {row["approach"]: row for row in rows(folder / "tables" / "exponents.csv") if row["exponent"] == "a"}
    measured = [abs(run["error_fraction"]) for run in held]
    carried = [abs(run["carried_forward"] - run["measured"]) / run["measured"] for run in held]
    width = [(run["hi"] - run["lo"]) / 2 / run["predicted"] for run in held]
    inside = sum(run["lo"] <= run["measured"] <= run["hi"] for run in held)
    shown = "; ".join(
        f"{run['predicted']:.3f} ({run['lo']:.3f}, {run['hi']:.3f}) for {run['measured']:.3f}" for run in held
    )
    entropy = fit["params"]["E"]
    lines = [
        "| | value (95 % interval) |",
        "|---|---|",
        f"| held-out error of the law at {held[0]['flops'] / largest_fitted(folder):.1f} times the largest fitted "
        f"compute | "
        f"mean {mean(measured):.1%}; carrying the best smaller run's loss forward errs by {mean(carried):.1%} |",
        f"| predicted for measured loss of the {len(held)} held-out runs, nats per byte | {shown} |",
        f"| prediction intervals | {inside} of {len(held)} cover; half-width {mean(width):.1%} of the loss |",
    ]
    for name, label in (
        ("isoflop parabola", "a of N_opt ~ C^a, by IsoFLOP minima"),
        ("parametric hoffmann", "a, by the fitted law along the shapes trained"),
        ("envelope", "a, by the envelope"),
    ):
        lines.append(f"| {label} | {interval(exponents[name])} |")
    lines.append(
        f"| irreducible loss E, nats per byte | {entropy['value']:.2f} ({entropy['lo']:.2f}, {entropy['hi']:.2f}) |"
    )
    return "\n".join(lines) + "\n"


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
    wanted = replaced(path, quickstart_table())
    if check:
        return int(path.read_text(encoding="utf-8") != wanted)
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
