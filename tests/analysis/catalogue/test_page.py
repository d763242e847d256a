"""docs/laws.md: a section, a figure and a command for every law, and numbers that the command makes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.catalogue.examples import EXAMPLES
from analysis.catalogue.page import COMMAND, PROSE, account, check_examples, make_study, read_prose, section, write_page
from analysis.figures.laws import curve, follow, save_law
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


@pytest.mark.parametrize("example", SIMULATED, ids=lambda example: example.law)
def test_simulated_runs_give_back_their_truth(example, tmp_path: Path) -> None:
    study = make_study(example, tmp_path, bootstrap=0)
    off = [
        abs(e.value - example.truth[name]) / e.se for name, e in study.fit.estimates.items() if name in example.truth
    ]
    assert max(off) < 4
    assert np.median(np.abs(study.errors())) < 0.05
    text = "\n".join(section(study, example, {"When": "Now.", "Runs": "some", "Note": "So."}, "figure.png"))
    assert "Simulated runs" in text
    assert "| true value |" in text
    save_law(study, tmp_path / "law.png")
    assert (tmp_path / "law.png").stat().st_size > 10_000


def test_the_account_counts_what_was_held_out(tmp_path: Path) -> None:
    study = make_study(SIMULATED[0], tmp_path, bootstrap=0)
    held = np.abs(study.errors()[study.held])
    assert f"Over the {held.size} held-out runs" in account(study)
    inside = int(re.findall(r"interval holds (\d+) of them", account(study))[0])
    assert held.size / 2 < inside <= held.size


def test_a_curve_goes_through_what_the_law_says_at_the_runs(tmp_path: Path) -> None:
    study = make_study(SIMULATED[0], tmp_path, bootstrap=0)
    rows = study.frame[study.frame["series"] == study.frame["series"].iloc[0]]
    drawn = curve(study, rows)
    at_runs = study.bands.loc[rows.index, "loss"].to_numpy()
    assert drawn["value"].iloc[[0, -1]].to_numpy() == pytest.approx([at_runs.max(), at_runs.min()], rel=1e-9)
    assert (drawn["lo"] < drawn["value"]).all()
    np.testing.assert_allclose(follow(np.array([1.0, 100.0]), np.array([8.0, 2.0]), np.array([10.0])), [4.0])


COMMANDS = [e for e in EXAMPLES if e.command and e.law in {"m4", "kaplan", "gemstones-shape", "gadre", "parallel"}]


@pytest.mark.parametrize("example", COMMANDS, ids=lambda example: example.law)
def test_the_command_of_a_section_makes_its_fit(example, published_data: Path, capsys: pytest.CaptureFixture) -> None:
    words = [word.replace("DATA", str(published_data)) for word in shlex.split(example.command)]
    assert main(["fit", *words, "--bootstrap", "0", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    fit = make_study(example, published_data, bootstrap=0).fit
    assert printed["num_rows"] == fit.num_rows
    assert printed["objective"] == pytest.approx(fit.objective, rel=1e-9)
    assert {name: p["value"] for name, p in printed["params"].items()} == pytest.approx(fit.params, rel=1e-6)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of published runs; name it with --data"):
        write_page(tmp_path / "laws.md", tmp_path / "nowhere")
