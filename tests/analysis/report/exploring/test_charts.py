"""The explorable part of a page: what the charts hold, what the sliders read, and what a reader sees in a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.figures.drawing.theme import DARK, LIGHT, Theme
from analysis.report.exploring import charts
from analysis.report.exploring.calculator import calculator
from analysis.report.exploring.charts import explore_spec
from analysis.study.build import build_study
from analysis.study.study import Choices, Study
from tests.analysis.report.test_page import FEW, write_store

ROOT = Path(__file__).resolve().parents[4]
CONTROLS = ("budget", "count", "quantity", "approach", "against")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with its store; its shapes are made after a file that there is."""
    path = write_store(tmp_path_factory.mktemp("store"))
    raw = json.loads(path.read_text(encoding="utf-8")) | {"source": "experiments/sweeps/quickstart.yaml"}
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def study(manifest: Path) -> Study:
    """Its study, with few draws."""
    return build_study([manifest], Choices(bootstrap=40, simulations=0, holdout="role == 'heldout'"))


def test_the_charts_hold_every_run_once_and_answer_the_same_choice_of_a_budget(study: Study) -> None:
    spec = explore_spec(study)
    assert len(spec["concat"]) == 4
    assert {param["name"] for param in spec["params"]} == {*CONTROLS, "clicked"}
    runs = next(rows for rows in spec["datasets"].values() if rows and "residual" in rows[0])
    assert [row["run"] for row in runs] == study.shown["run_id"].tolist()
    assert spec == explore_spec(study), "the same study must give the same page"
    choices = next(param for param in spec["params"] if param["name"] == "budget")["bind"]["options"]
    assert len(choices) == 1 + len(study.budgets)


def lines_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Points of the training curves."""
    return next(
        rows for rows in spec["datasets"].values() if rows and rows[0].keys() == {"run", "budget", "flops", "loss"}
    )


def test_a_sweep_of_many_runs_has_a_page_with_fewer_points_a_curve(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = pd.DataFrame({"tokens": np.arange(1.0, 2001), "train_loss": np.linspace(5, 3, 2000)})
    many = replace(study, curves=dict.fromkeys(study.curves, curve))
    assert len(many.curves) > 3
    monkeypatch.setattr(charts, "CURVE_POINTS", 2000)
    assert len(lines_of(explore_spec(many))) > 5000, "more than Altair takes unasked"
    monkeypatch.setattr(charts, "ALL_POINTS", 10 * len(many.curves))
    assert 5 * len(many.curves) < len(lines_of(explore_spec(many))) <= 10 * len(many.curves)


def test_the_sliders_read_what_the_fit_predicts_at_the_cost_that_they_say(study: Study) -> None:
    table = calculator(study)
    fit = study.comparison.fit
    for i, j in ((0, 0), (10, 7), (-1, -1), (20, 12)):
        params, ratio = np.exp(table["params"][i][j]), np.exp(table["ratios"][j])
        tokens = params * ratio
        predicted = fit.predict({"params": [params], "tokens": [tokens]})
        assert table["loss"][i][j] == pytest.approx(predicted["loss"][0], rel=2e-4)
        assert table["lo"][i][j] == pytest.approx(predicted["prediction_lo"][0], rel=2e-3)
        assert study.shapes.tokens(np.exp(table["flops"][i]), params) == pytest.approx(tokens, rel=0.01)


@pytest.fixture(scope="module")
def page_file(manifest: Path) -> Path:
    """A report's page."""
    out = manifest.parent.parent / "report"
    assert main(["report", str(manifest), "--out", str(out), "--bootstrap", "40", *FEW]) == 0
    return out / "report.html"


class Opened:
    """A page in a browser, with what it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri())

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")

    def drawn(self, times: int) -> str:
        """The charts as SVG text, once they were drawn so often."""
        self.page.wait_for_selector(f'#explore[data-drawn="{times}"]', timeout=60_000)
        return str(self.page.inner_html("#explore-charts"))


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_every_control_changes_the_charts_and_nothing_leaves_the_file(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, page_file, viewport={"width": width, "height": 900}, color_scheme=scheme)
    before = opened.drawn(1)
    assert before.count("aria-roledescription") > 10
    for name in CONTROLS:
        box = opened.page.locator(f"select[name={name}]")
        if box.locator("option").count() < 2:
            continue
        box.focus()
        opened.page.keyboard.press("ArrowDown")  # by the keyboard alone
        opened.page.wait_for_function(
            "before => document.getElementById('explore-charts').innerHTML !== before", arg=before
        )
        before = str(opened.page.inner_html("#explore-charts"))
    loss = opened.page.inner_text("#out-loss")
    opened.page.locator("#slide-flops").focus()
    opened.page.keyboard.press("End")
    assert float(opened.page.inner_text("#out-loss").split()[0]) < float(loss.split()[0])
    assert "times the largest fitted" in opened.page.inner_text("#out-flops")
    opened.page.click("#theme")
    opened.drawn(2)
    assert opened.page.input_value("select[name=quantity]") == "tokens", "a redraw must keep what was chosen"
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.complaints == []


@pytest.mark.parametrize(("scheme", "theme"), [("light", LIGHT), ("dark", DARK)])
def test_budgets_of_the_charts_have_the_colours_of_the_figures(
    browser: Any, page_file: Path, study: Study, scheme: str, theme: Theme
) -> None:
    drawn = Opened(browser, page_file, viewport={"width": 1200, "height": 900}, color_scheme=scheme).drawn(1)
    for colour in theme.budget_colours(len(study.budgets)):
        assert colour in drawn


def test_without_scripts_the_static_figures_say_the_same(browser: Any, page_file: Path) -> None:
    page = Opened(browser, page_file, java_script_enabled=False).page
    assert not page.is_visible("#explore")
    assert page.locator(".plate svg").first.is_visible()
    assert page_file.stat().st_size < 3e6


def test_the_page_opens_with_three_answers_and_the_command_that_goes_on(
    page_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    text = page_file.read_text(encoding="utf-8")
    for question in ("What did we learn?", "How far can it be trusted?", "What should be run next?"):
        assert text.index(question) < text.index('id="explore"')
    command = text.partition("isoflop advise fit.json")[2].partition("<")[0].split()
    assert main(["advise", str(page_file.parent / "fit.json"), *command, "--json"]) == 0
    spec = text.partition('id="explore-spec">')[2].partition("</script>")[0]
    assert json.loads(spec)["concat"]
