"""Findings recover what made runs were made of, and are absent where nothing was made for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.errors import UserError
from analysis.findings.base import Finding
from analysis.findings.registry import findings
from analysis.findings.repetition import repeated_pairs
from analysis.report.headline import cards
from analysis.study.build import build_study
from analysis.study.study import Choices, Study
from experiments.data.config import DataConfig
from experiments.data.corpus import source_loss
from experiments.data.languages.registry import build_language
from experiments.records import RunRecord
from tests.analysis.findings.made import made_run, made_store

WIDTHS = (16, 24, 32, 48, 64, 96)
TOKENS = (1e5, 2e5, 4e5, 8e5, 1.6e6)
NOTHING: Mapping[str, Any] = {}


def study_of(
    root: Path, runs: Iterator[tuple[RunRecord, Mapping[str, Any]]], *, design: str = "ladder", **choices: Any
) -> Study:
    """The study of made runs, with few draws and no test of disagreement."""
    return build_study([made_store(root, runs, design=design)], Choices(bootstrap=60, simulations=0, **choices))


def only(study: Study, name: str) -> Finding:
    """The finding of this name, which leads the page."""
    found = {finding.plate.name: finding for finding in findings(study)}
    assert found[name].leads
    return found[name]


def law(params: float, tokens: float, floor: float = 1.5, alpha: float = 0.5, beta: float = 0.5) -> float:
    """Hoffmann's form."""
    return float(floor + 0.6 * (5e3 / params) ** alpha + 0.5 * (1e5 / tokens) ** beta)


def grid(data: Mapping[str, Any], floor: float, **powers: float) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """A ladder of widths and tokens on one corpus."""
    rng = np.random.default_rng(1)
    for number, (width, tokens) in enumerate(itertools.product(WIDTHS, TOKENS)):
        params = made_run(0, width=width, depth=1, tokens=1e5, loss=1.0).design["params"]
        loss = law(params, tokens, floor, **powers) * np.exp(0.001 * rng.standard_normal())
        yield made_run(number, width=width, depth=1, tokens=tokens, loss=loss, data=data), NOTHING


@pytest.mark.parametrize(
    "data",
    [
        {"corpus": "markov", "corpus_options": {"order": 2, "num_symbols": 8}, "context": 64},
        {"corpus": "zipf-memory", "corpus_options": {"num_keys": 4096}, "context": 64},
    ],
    ids=["markov", "zipf-memory"],
)
def test_the_exact_entropy_of_a_language_stands_beside_the_floor(data: Mapping[str, Any], tmp_path: Path) -> None:
    config = DataConfig(**data)
    exact = build_language(config).window_entropy(64)
    scored, chance = source_loss(config)
    assert chance is not None
    assert 0 < abs(scored - exact) < 4 * chance
    study = study_of(tmp_path, grid(data, scored))
    found = only(study, "truth")
    table = found.tables[0].frame
    floors = table[table["parameter"] == "E"].set_index("what")
    assert floors["truth"]["source on this text"] == pytest.approx(scored)
    assert floors["truth"]["exact entropy"] == pytest.approx(exact)
    floor = floors.loc["source on this text"]
    assert floor["fitted"] == pytest.approx(scored, rel=0.02)
    assert floor["covered"]
    assert "the interval covers it" in found.sentences[0]
    far = only(study_of(tmp_path / "far", grid(data, exact + 0.5)), "truth")
    assert not far.tables[0].frame.iloc[0]["covered"]
    assert "does not cover it" in far.sentences[0]
    assert [one.plate.name for one in findings(study) if one.leads] == ["truth"]


def test_the_exponents_of_zipf_memory_are_those_of_theory(tmp_path: Path) -> None:
    data = {"corpus": "zipf-memory", "corpus_options": {"exponent": 1.0}, "context": 64}
    table = only(study_of(tmp_path, grid(data, 0.8, alpha=1.0, beta=0.5)), "truth").tables[0].frame
    truths = table.groupby("parameter")["truth"].first()
    assert truths["alpha"] == 1.0
    assert truths["beta"] == 0.5
    rows = table[table["what"].str.contains("much data|room", regex=True)]
    assert rows["covered"].all()


def test_counting_as_kaplan_did_leads_a_ladder_and_follows_elsewhere(tmp_path: Path) -> None:
    runs = list(grid({"corpus": "sotu", "context": 64}, 1.5))
    found = only(study_of(tmp_path / "ladder", iter(runs)), "conventions")
    assert {"kaplan", "hoffmann", "6nd"} <= set(found.tables[0].frame["convention"])
    powers = found.tables[1].frame
    assert set(powers["law"]) == {"L(N)", "L(D)", "L(C)"}
    assert (powers["exponent"] > 0).all()
    tokens = powers[powers["law"] == "L(D)"]
    assert len(set(tokens["exponent"])) == 1, "D is counted alike in both"
    others = findings(study_of(tmp_path / "isoflop", iter(runs), design="isoflop"))
    assert [finding.leads for finding in others] == [False]
    held = [(run, {**labels, "role": "heldout" if number < 2 else "fit"}) for number, (run, labels) in enumerate(runs)]
    every = findings(study_of(tmp_path / "heldout", iter(held)))
    made_to_predict = next(one for one in every if one.plate.name == "conventions")
    assert not made_to_predict.leads, "a ladder with two held-out runs opens with what it predicts"
    assert made_to_predict.cards == ()


def arms(cost: float) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Fresh text and text of 1e5 tokens that is repeated, whose loss rises with the passes."""
    for number, (width, tokens, arm) in enumerate(itertools.product((16, 32, 64), TOKENS, ("repeated", "fresh"))):
        params = made_run(0, width=width, depth=1, tokens=1e5, loss=1.0).design["params"]
        unique = 1e5 if arm == "repeated" else 1e8
        loss = law(params, tokens) * (1 + cost * np.log2(tokens / 1e5) if arm == "repeated" else 1)
        run = made_run(number, width=width, depth=1, tokens=tokens, loss=loss, unique_tokens=unique, arm=arm)
        yield run, {"text": arm}


def test_the_cost_of_repeated_text_is_found_pass_by_pass(tmp_path: Path) -> None:
    study = study_of(tmp_path, arms(0.02), reference="fresh")
    found = only(study, "repeated")
    pairs = found.tables[0].frame
    assert len(pairs) == 15
    assert pairs["cost"].to_numpy() == pytest.approx(0.02 * np.log2(pairs["epochs"]))
    assert "16 passes 8.0 %" in found.sentences[0]
    assert "after 16 passes by 8.0 % (one pair)" in found.sentences[0]
    assert set(study.table.frame.loc[study.fitted, "text"]) == {"fresh"}


def test_the_cost_of_repeated_text_is_a_card_in_per_cent(tmp_path: Path) -> None:
    study = study_of(tmp_path, arms(0.02), reference="fresh")
    first = cards(study, findings(study))[0]
    assert first.label.startswith("cost of")
    assert first.value.endswith("%")
    assert "%" in first.interval


def test_without_repetition_there_is_nothing_to_say_of_it(tmp_path: Path) -> None:
    study = study_of(tmp_path, grid({"corpus": "sotu", "context": 64}, 1.5))
    assert len(repeated_pairs(study.table.frame)) == 0


def test_arms_are_compared_with_the_reference_and_only_it_is_fitted(tmp_path: Path) -> None:
    rows = [(run, {"model.positions": labels["text"]}) for run, labels in arms(0.02)]
    plain = [
        (made_run(place, **{k: run.design[k] for k in ("width", "depth", "tokens")}, loss=run.outcome["loss"]), labels)
        for place, (run, labels) in enumerate(rows)
    ]
    found = only(study_of(tmp_path, iter(plain), reference="fresh"), "arms")
    assert found.sentences[0].startswith("Loss less that of fresh")
    assert float(found.tables[0].frame["difference"].iloc[0]) > 0
    with pytest.raises(UserError, match="no arm of this sweep; arms are repeated, fresh"):
        study_of(tmp_path / "other", iter(plain), reference="rotary")


def objectives() -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Two families on different objectives, the second with an exponent of data twice that of the first; it trains to
    a larger budget."""
    rng = np.random.default_rng(5)
    for family, objective, beta in (("decoder", "causal", 0.4), ("encoder", "masked", 0.8)):
        for width, tokens in itertools.product(WIDTHS, (*TOKENS, *((3.2e6,) if family == "encoder" else ()))):
            params = made_run(0, width=width, depth=1, tokens=1e5, loss=1.0).design["params"]
            loss = law(params, tokens, beta=beta) * np.exp(0.001 * rng.standard_normal())
            number = int(width * 1e3 + np.log2(tokens / 1e5) * 10 + (family == "encoder"))
            run = made_run(number, width=width, depth=1, tokens=tokens, loss=loss, objective=objective, arm=family)
            yield run, {"family": family}


def test_arms_of_different_objectives_have_a_law_each_and_no_multiplier(tmp_path: Path) -> None:
    study = study_of(tmp_path, objectives(), reference="decoder")
    found = only(study, "arm-laws")
    betas = {row["family"]: row for row in found.tables[0].frame.to_dict("records") if row["parameter"] == "beta"}
    for family, beta in (("decoder", 0.4), ("encoder", 0.8)):
        assert betas[family]["value"] == pytest.approx(beta, abs=0.05)
        assert betas[family]["lo"] < betas[family]["value"] < betas[family]["hi"]
    assert betas["decoder"]["hi"] < betas["encoder"]["lo"]
    assert "Not all intervals overlap" in found.sentences[2]
    assert not len(study.multipliers)
    assert any("count different predictions and have no multiplier" in note for note in study.notes)
    held = study.table.frame[study.table.frame["role_shown"] == "heldout"]
    assert set(held["family"]) == {"decoder"}, "the largest budget of the reference, though another arm went further"
    assert set(held["tokens"]) == {1.6e6}


def test_an_arm_of_too_few_runs_says_why_it_has_no_law(tmp_path: Path) -> None:
    rows = [row for row in objectives() if row[1]["family"] == "decoder" or row[0].design["tokens"] < 1.5e5]
    found = only(study_of(tmp_path, iter(rows[:33]), reference="decoder"), "arm-laws")
    lacking = [row for row in found.tables[0].frame.to_dict("records") if row["family"] == "encoder"]
    assert lacking
    assert all(np.isnan(row["lo"]) and row["reason"] for row in lacking)


def shapes(gain: float) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Shapes of three depths; deeper ones are better by `gain` at each doubling than N and D say."""
    for number, (width, depth, tokens) in enumerate(itertools.product((16, 24, 32, 48), (1, 2, 4), TOKENS)):
        params = made_run(0, width=width, depth=depth, tokens=1e5, loss=1.0).design["params"]
        loss = law(params, tokens) * (1 - gain * np.log2(depth))
        yield made_run(number, width=width, depth=depth, tokens=tokens, loss=loss), NOTHING


def test_what_depth_is_worth_beyond_size_is_found(tmp_path: Path) -> None:
    off = values(only(study_of(tmp_path, shapes(0.02)), "shape"))
    assert off["residual at depth 4"] < -0.005 < 0.005 < off["residual at depth 1"]
    even = values(only(study_of(tmp_path / "even", shapes(0.0)), "shape"))
    assert abs(even["residual at depth 4"]) < 1e-3


def values(found: Finding) -> dict[str, float]:
    """The numbers of a table of quantities."""
    frame = found.tables[0].frame
    return dict(zip(frame["quantity"].astype(str), frame["value"].astype(float), strict=True))


def tuned(power: float) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Cells of five rates about a best one that moves as a power of N."""
    rng = np.random.default_rng(3)
    number = 0
    for width, tokens in itertools.product((16, 32, 64, 96), (1e5, 4e5, 1.6e6)):
        params = made_run(0, width=width, depth=1, tokens=1e5, loss=1.0).design["params"]
        best = 0.02 * (params / 2e4) ** power
        for scale in (0.25, 0.5, 1.0, 2.0, 4.0):
            number += 1
            rate = 0.02 * scale
            noise = np.exp(0.0005 * rng.standard_normal())
            loss = law(params, tokens) * np.exp(0.01 * np.log(rate / best) ** 2) * noise
            yield made_run(number, width=width, depth=1, tokens=tokens, loss=loss, lr=rate), NOTHING


def test_the_best_rate_and_its_power_of_size_are_found_and_only_the_best_runs_are_fitted(tmp_path: Path) -> None:
    study = study_of(tmp_path, tuned(-0.3), design="tuned")
    found = only(study, "rates")
    power = dict(found.cards)["power of N in the best rate, all runs"]
    assert power.covers(-0.3)
    assert len(found.tables[0].frame) == 12
    assert int((study.table.frame["role_shown"] == "other rate").sum()) == 48


def test_runs_whose_text_nobody_counted_repeat_none() -> None:
    runs = {"width": 8, "depth": 1, "params": 1e3, "tokens": [1e5, 2e5], "seed": 0, "loss": [2.0, 1.9]}
    assert len(repeated_pairs(pd.DataFrame(runs | {"unique_tokens": [None, None]}))) == 0
