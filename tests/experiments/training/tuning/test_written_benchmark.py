"""The benchmark of written texts: scores and baselines of a record, and which score is above by its interval."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import written
from experiments.config.reading import load_sweep
from experiments.config.tuning.sweep import FinetuneSweep
from experiments.data.cache import Cache
from experiments.records import RunRecord, RunStatus
from experiments.store.store import RunStore
from tests.tuning import BODIES as ENCODERS
from tests.tuning import rows, write_bodies, write_sweep

BODY = {"family": "decoder", "width": 8, "depth": 1, "num_heads": 1, "context": 32}


def record(low: float, baseline: float) -> RunRecord:
    scores = {
        name: value
        for measure in ("bleu", "chrf", "rougeL")
        for name, value in {measure: low + 0.5, f"{measure}_lo": low, f"{measure}_hi": low + 1}.items()
    }
    beside = {"copy_bleu": baseline, "copy_chrf": baseline, "lead_rougeL": baseline, "val_counts": [3, 4]}
    return RunRecord(
        run_id="0",
        status=RunStatus.DONE,
        config={},
        design=dict.fromkeys(written.DESIGN, 1),
        outcome=scores | beside | dict.fromkeys(written.OUTCOME, 1.0),
        execution={},
    )


@pytest.mark.parametrize("name", list(written.BASELINES))
@pytest.mark.parametrize(("baseline", "above"), [(0.9, True), (1.0, False), (1.7, False)])
def test_a_score_is_above_its_baseline_where_its_whole_interval_is(name: str, baseline: float, above: bool) -> None:
    gains = {
        name: value
        for gain in written.GAINS.values()
        for name, value in {gain: 1.5 - baseline, f"{gain}_lo": 1 - baseline, f"{gain}_hi": 2 - baseline}.items()
    }
    found = written.row(name, record(1.0, baseline), gains | {"tested": 5})
    assert found["tested"] == 5
    for measure in written.BASELINES[name]:
        score = {"score": 1.5, "interval": [1.0, 2.0], "baseline": baseline}
        if measure in written.GAINS:
            score |= {"gain": 1.5 - baseline, "gain_interval": [1 - baseline, 2 - baseline]}
        assert found[measure] == score | {"above": above}


def test_a_paired_gain_may_be_above_where_the_intervals_of_two_scores_overlap() -> None:
    gain = {"tested": 5, "bleu_over_copy": 0.3, "bleu_over_copy_lo": 0.1, "bleu_over_copy_hi": 0.5}
    found = written.row("translate-de", record(1.0, 1.2), gain)
    assert found["bleu"]["above"]
    assert not found["chrf"]["above"]


@pytest.mark.parametrize("name", list(written.BASELINES))
def test_each_task_of_the_benchmark_is_a_shipped_sweep_from_fresh_weights_or_shipped_bodies(name: str) -> None:
    sweep = load_sweep(written.SWEEPS / f"{name}.yaml")
    assert isinstance(sweep, FinetuneSweep)
    if sweep.pretrained.file is None:
        assert sweep.pretrained.scratch
    else:
        assert sweep.pretrained.file.parent == written.SWEEPS
        assert "scratch" in [method.name for method in sweep.design.methods]
    assert len(sweep.design.examples) == len(sweep.seeds) == 1


def test_the_record_holds_the_run_and_keeps_the_task_that_was_not_asked_for(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(200).to_csv(tmp_path / "rows.csv", index=False)
    write_sweep(
        tmp_path / "translate-de.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": BODY},
        task={"name": f"csv:{tmp_path / 'rows.csv'}", "text": "said", "target": "what", "target_tokens": 4}
        | {"val_examples": 4, "test_examples": 6},
        methods=["scratch"],
        rates={"span": 0},
    )
    monkeypatch.setattr(written, "SWEEPS", tmp_path)
    out = tmp_path / "written.json"
    out.write_text(json.dumps({"headlines": {"kept": True}}))
    words = ["written", "--store", str(tmp_path / "store"), "--tasks", "translate-de", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    assert written.main() == 0
    first = json.loads(out.read_text())
    assert first["headlines"] == {"kept": True}
    assert first["translate-de"].keys() == {"scratch"}
    found = first["translate-de"]["scratch"]
    assert (found["tested"], found["examples"]) == (27, 16)  # of the whole test split
    assert found["bleu"]["interval"] == [None, None]  # nothing right was written
    assert not found["bleu"]["above"]
    assert found["chrf"].keys() == {"score", "interval", "baseline", "above"}
    assert written.main() == 0  # the run is there: nothing is trained again, to the second
    assert json.loads(out.read_text()) == first


def test_bodies_are_trained_first_and_each_method_has_an_entry(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = ENCODERS.replace("encoder", "decoder").replace("masked", "causal").replace(", {width: 32, depth: 1}", "")
    write_bodies(tmp_path, bodies)
    write_sweep(
        tmp_path / "headlines.yaml",
        tmp_path / "rows.csv",
        pretrained={"sweep": "bodies.yaml"},
        task={"name": f"csv:{tmp_path / 'rows.csv'}", "text": "said", "target": "what", "target_tokens": 4}
        | {"val_examples": 4, "test_examples": 6},
        methods=["full", "scratch"],
        rates={"span": 0},
        forgetting=False,
    )
    monkeypatch.setattr(written, "SWEEPS", tmp_path)
    out, store = tmp_path / "written.json", RunStore(tmp_path / "store")
    words = ["written", "--store", str(store.root), "--tasks", "headlines", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    assert written.main() == 0
    found = json.loads(out.read_text())["headlines"]
    assert found.keys() == {"full", "scratch"}
    assert found["full"]["loss"] != found["scratch"]["loss"]
    assert all(one["rougeL"]["interval"] for one in found.values())
    known = [store.find_record(folder.name) for folder in store.runs.iterdir()]
    assert len([one for one in known if one is not None and "pretrained" not in one.design]) == 1
