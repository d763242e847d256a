"""docs/laws.md: a section, a figure and a command for every law, and numbers that the command makes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.catalogue.examples import EXAMPLES, Example
from analysis.catalogue.page import (
    COMMAND,
    PROSE,
    account,
    check_examples,
    figure_of,
    read_prose,
    section,
    write_page,
)
from analysis.figures.laws import between, curve, save_law
from analysis.files import sections_of
from analysis.laws.registry import LAWS

DOCS = Path(__file__).resolve().parents[3] / "docs"
SIMULATED = [example for example in EXAMPLES if example.truth]


def test_every_law_has_an_example_and_prose() -> None:
    prose = read_prose(PROSE.read_text(encoding="utf-8"))
    check_examples(prose)
    assert {example.law for example in EXAMPLES} == set(LAWS) == set(prose)
    del prose["power"]["Note"]
    with pytest.raises(ValueError, match="power has no section"):
        check_examples(prose)


def test_the_page_has_a_section_and_a_figure_for_every_law() -> None:
    page = (DOCS / "laws.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)$", page, flags=re.M) == list(LAWS)
    assert COMMAND in page
    prose = read_prose(PROSE.read_text(encoding="utf-8"))
    assert [name for name in LAWS if any(text not in page for text in prose[name].values())] == []
    for name, law in LAWS.items():
        assert law.formula in page
        assert law.source in page
        assert (DOCS / "figures" / "laws" / f"{name}.png").is_file()
    assert {path.stem for path in (DOCS / "figures" / "laws").iterdir()} == set(LAWS)
    assert "nan" not in page.replace("nansum", "").split()


@pytest.mark.parametrize("name", list(LAWS))
def test_a_section_says_what_identifies_its_law_and_what_was_fitted_again_or_why_nothing_was(name: str) -> None:
    text = sections_of((DOCS / "laws.md").read_text(encoding="utf-8"))[name]
    example = next(example for example in EXAMPLES if example.law == name)
    assert "| value | 95 % interval |" in text
    rows = [line for line in text.splitlines() if re.match(r"\| `\w+` \|", line)]
    assert len(rows) == len(LAWS[name].parameters) or example.option
    assert all(re.search(r"\| (none: .+|-?[\d.e+-]+ to -?[\d.e+-]+) \|$", row) for row in rows)
    if example.truth:
        reason = r"no published runs are fitted here|the folder holds no|fitted again by|No published fit has this form"
        assert re.search(reason, text)
    else:
        assert "**Simulated runs.**" not in text
        assert re.search(r"\b(19|20)\d\d\b", text)


@pytest.mark.parametrize("example", SIMULATED, ids=lambda example: example.law)
def test_simulated_runs_give_back_their_truth(example: Example, tmp_path: Path) -> None:
    shown = figure_of(example, tmp_path, bootstrap=0)
    truth = example.truth
    assert truth is not None
    found = {name: estimate for name, estimate in shown.fit.estimates.items() if name in truth}
    off = [abs(one.value - truth[name]) / one.se for name, one in found.items() if one.se is not None]
    assert len(off) == len(found)
    assert max(off) < 4
    assert np.median(np.abs(shown.errors())) < 0.05
    text = "\n".join(section(shown, example, {"When": "Now.", "Runs": "some", "Note": "So."}, "figure.png"))
    assert "Simulated runs" in text
    assert "| true value |" in text
    save_law(shown, tmp_path / "law.png")
    assert (tmp_path / "law.png").stat().st_size > 10_000


def test_the_account_counts_what_was_held_out(tmp_path: Path) -> None:
    shown = figure_of(SIMULATED[0], tmp_path, bootstrap=0)
    held = np.abs(shown.errors()[shown.held])
    assert f"Over the {held.size} held-out runs" in account(shown)
    inside = int(re.findall(r"interval holds (\d+) of them", account(shown))[0])
    assert held.size / 2 < inside <= held.size


def test_a_curve_goes_through_what_the_law_says_at_the_runs(tmp_path: Path) -> None:
    shown = figure_of(SIMULATED[0], tmp_path, bootstrap=0)
    rows = shown.frame[shown.frame["series"] == shown.frame["series"].iloc[0]]
    drawn = curve(shown, rows)
    at_runs = shown.bands.loc[rows.index, "loss"].to_numpy()
    assert drawn["value"].iloc[[0, -1]].to_numpy() == pytest.approx([at_runs.max(), at_runs.min()], rel=1e-9)
    assert (drawn["lo"] < drawn["value"]).all()
    np.testing.assert_allclose(between(np.array([1.0, 100.0]), np.array([8.0, 2.0]), np.array([10.0])), [4.0])


COMMANDS = [e for e in EXAMPLES if e.command and e.law in {"m4", "kaplan", "gemstones-shape", "gadre", "parallel"}]


@pytest.mark.parametrize("example", COMMANDS, ids=lambda example: example.law)
def test_the_command_of_a_section_makes_its_fit(
    example: Example, published_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.command is not None
    words = [word.replace("DATA", str(published_data)) for word in shlex.split(example.command)]
    draws = [] if "--bootstrap" in words else ["--bootstrap", "0"]
    assert main(["fit", *words, *draws, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    fit = figure_of(example, published_data, bootstrap=0).fit
    assert printed["num_rows"] == fit.num_rows
    assert printed["objective"] == pytest.approx(fit.objective, rel=1e-9)
    assert {name: p["value"] for name, p in printed["params"].items()} == pytest.approx(fit.params, rel=1e-6)


def test_one_section_is_made_anew_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "laws.md"
    page.write_text("# Laws\n\n## power\n\nkept\n\n## precision\n\nold\n", encoding="utf-8")
    write_page(page, tmp_path, names=["precision", "critical-batch"], bootstrap=0)
    sections = sections_of(page.read_text(encoding="utf-8"))
    assert list(sections) == ["power", "precision", "critical-batch"]
    assert sections["power"] == "## power\n\nkept"
    assert LAWS["precision"].source in sections["precision"]
    assert {path.name for path in (tmp_path / "figures" / "laws").iterdir()} == {"precision.png", "critical-batch.png"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of published runs; name it with --data"):
        write_page(tmp_path / "laws.md", tmp_path / "nowhere")
