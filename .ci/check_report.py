"""Is a report whole? Its files are there, its JSON says what INTERFACES promise, and every figure it shows is inside
the page."""

import json
import re
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Check one report folder; the first thing that is wrong ends the program with a sentence."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    fit = json.loads((folder / "fit.json").read_text())
    heldout = json.loads((folder / "heldout.json").read_text())
    require(fit["law"] == "hoffmann", "fit.json is not a fit of the law that the sweep fixed")
    require(set(fit["params"]) >= {"E", "A", "B", "alpha", "beta"}, "fit.json lacks parameters")
    require(len(heldout["runs"]) == 2, "heldout.json does not hold the two held-out runs")
    for run in heldout["runs"]:
        require(
            run["lo"] <= run["predicted"] <= run["hi"], f"run {run['run_id']} has no interval around its prediction"
        )
        error = (run["predicted"] - run["measured"]) / run["measured"]
        require(abs(error - run["error_fraction"]) < 1e-9, f"run {run['run_id']} has a wrong error_fraction")
    require("vegaEmbed" in page, "the page has no charts to explore")
    page = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)  # a library's own words
    needed = re.findall(r'src="(?!data:)([^"]*)"|<link[^>]*href="(?!data:)([^"]*)"', page)
    require(not needed, f"the page needs other files: {needed[:3]}")
    require(page.count("<svg") >= 3, "the page shows fewer than three figures")
    require((folder / "provenance.json").exists(), "provenance.json is missing")
    require(any((folder / "figures").glob("*.png")) and any((folder / "figures").glob("*.svg")), "figures are missing")
    require(any((folder / "tables").glob("*.csv")), "tables are missing")
    print(f"{folder}: the report is whole")


def require(holds: bool, otherwise: str) -> None:
    """End with a sentence unless the condition holds."""
    if not holds:
        sys.exit(f"error: {otherwise}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
