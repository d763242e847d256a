"""The reporting checklist: what a fit answers, what its runs answer, and that what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from analysis.report.checklist import PARTS, QUESTIONS, checklist, summary, to_dict
from analysis.report.provenance import settings
from experiments.manifests import Manifest
from experiments.records import DESIGN_FIELDS, RunRecord, RunStatus
from experiments.store.store import RunStore


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """Five budgets of six sizes, the largest to be held out."""
    flops = np.repeat(np.geomspace(1e18, 1e20, 5), 6)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 6), 5)
    data = {"params": params, "tokens": flops / (6 * params), "flops": flops}
    loss = LAWS["hoffmann"]((1.8172, 482.01, 2085.43, 0.3478, 0.3658), data)
    noise = np.exp(0.004 * np.random.default_rng(0).standard_normal(30))
    return pd.DataFrame(data | {"loss": loss * noise})


@pytest.fixture(scope="module")
def fit(runs: pd.DataFrame) -> Fit:
    return fit_law("hoffmann", runs)


def test_every_question_belongs_to_a_part_and_is_asked_once() -> None:
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)
    assert list(dict.fromkeys(question.part for question in QUESTIONS)) == list(PARTS)
    assert all(question.advice for question in QUESTIONS)


def test_a_fit_alone_answers_what_it_knows_and_names_the_rest_as_missing(fit: Fit) -> None:
    answers = {answer.question.key: answer.text for answer in checklist(fit)}
    assert fit.law.formula in str(answers["form"])
    assert "huber, delta 0.001 on log residuals, summed" in str(answers["objective"])
    assert str(answers["convergence"]).startswith("status converged, condition number ")
    assert "no draws were asked for" in str(answers["intervals"])
    for key in ("corpus", "tokenizer", "optimizer", "seeds", "heldout", "heldout_error", "other_laws"):
        assert answers[key] is None
    said = summary(checklist(fit))
    assert "Missing: " in said
    assert "held-out runs" in said


def test_columns_of_the_runs_answer_more_and_gaps_in_them_do_not(fit: Fit, runs: pd.DataFrame) -> None:
    more = runs.assign(corpus="sotu", tokenizer="bytes", vocab=264, context=256, epochs=0.5, lr=1e-3, batch=512)
    answers = {answer.question.key: answer.text for answer in checklist(fit, runs=more)}
    assert answers["corpus"] == "sotu"
    assert answers["tokenizer"] == "tokenizer bytes, vocab 264, context 256"
    assert answers["rates"] == "lr 0.001, batch 512"
    assert str(answers["repetition"]).startswith("none")
    repeated = {a.question.key: a.text for a in checklist(fit, runs=runs.assign(epochs=4.0))}
    assert repeated["repetition"] == "at most 4.0 passes over the text"
    gaps = more.assign(lr=np.where(np.arange(30) > 3, np.nan, 1e-3), corpus=None)
    partly = {a.question.key: a.text for a in checklist(fit, runs=gaps)}
    assert partly["corpus"] is None
    curves = {a.question.key: a.text for a in checklist(fit, runs=runs.assign(curve=np.repeat(range(6), 5)))}
    assert curves["checkpoints"] == "5 of each run"
    assert curves["models"] == "30 rows fitted, from 6 training curves"


def test_facts_go_first_and_one_that_answers_nothing_is_refused(fit: Fit, runs: pd.DataFrame) -> None:
    answers = {a.question.key: a.text for a in checklist(fit, runs=runs, facts={"seeds": "0.4 %", "sizes": None})}
    assert answers["seeds"] == "0.4 %"
    assert answers["sizes"] is None
    with pytest.raises(ValueError, match="no question is called 'seed'"):
        checklist(fit, facts={"seed": "0.4 %"})


def test_what_the_runs_do_not_determine_stands_in_the_checklist(runs: pd.DataFrame) -> None:
    tied = runs.assign(tokens=20 * runs["params"])
    tied["loss"] = LAWS["hoffmann"]((1.8, 480.0, 2000.0, 0.35, 0.37), tied)
    answers = {a.question.key: a.text for a in checklist(fit_law("hoffmann", tied))}
    assert "tokens follow params" in str(answers["identification"])


def test_json_holds_every_question_and_lists_what_is_missing(fit: Fit, runs: pd.DataFrame) -> None:
    answers = checklist(fit, runs=runs)
    raw = json.loads(json.dumps(to_dict(answers), allow_nan=False))
    assert [item["key"] for item in raw["items"]] == [question.key for question in QUESTIONS]
    assert raw["missing"] == [item["key"] for item in raw["items"] if item["answer"] is None]
    assert raw["num_answered"] + len(raw["missing"]) == raw["num_questions"]
    assert all((item["answer"] is None) == (item["advice"] is not None) for item in raw["items"])


def test_settings_of_training_are_read_from_the_records_of_a_store(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.prepare()
    for name, rate in (("a1", 0.01), ("b2", 0.02)):
        optimizer = {"name": "adamw", "beta2": 0.99, "learning_rate": rate, "grad_clip": None}
        facts: dict[str, Any] = {
            "config": {"optimizer": optimizer},
            "design": dict.fromkeys(DESIGN_FIELDS, 1),
            "outcome": {"loss": 1.0},
        }
        store.publish(RunRecord(run_id=name, status=RunStatus.DONE, **facts))
    (tmp_path / "tiny.yaml").write_text("name: tiny\nrecipe: {name: byte-small}\n", encoding="utf-8")
    manifest = Manifest(name="tiny", runs={"a1": {}, "b2": {}, "absent": {}}, source="tiny.yaml")
    store.write_manifest(manifest)
    frame = pd.DataFrame({"run_id": ["a1", "b2", "absent"]})
    found = settings([tmp_path / "sweeps" / "tiny.json"], frame, manifest)
    assert found == {"optimizer.beta2": ["0.99"], "optimizer.name": ["adamw"], "recipe.name": ["byte-small"]}
    assert settings([tmp_path / "plain.csv"], frame, None) == {}


def test_every_report_holds_its_checklist_on_the_page_and_as_json(runs: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    out = tmp_path / "report"
    assert main(["report", str(path), "--out", str(out), "--bootstrap", "40", "--simulations", "0"]) == 0
    raw = json.loads((out / "checklist.json").read_text(encoding="utf-8"))
    answers = {item["key"]: item["answer"] for item in raw["items"]}
    held = json.loads((out / "heldout.json").read_text(encoding="utf-8"))
    assert f"{len(held['runs'])} of the largest" in answers["heldout"]
    assert "carrying the best smaller run forward" in answers["heldout_error"]
    assert "isoflop report" in answers["code"]
    assert {"seeds", "optimizer", "corpus"} <= set(raw["missing"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('class="missing"') == len(raw["missing"])
    assert "Reporting checklist" in page
    assert f"{raw['num_answered']} of {raw['num_questions']} questions" in page
