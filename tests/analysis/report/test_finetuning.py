"""Reports of fine-tuning: what their head says is in their tables, and nothing is drawn against what does not vary."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report.finetuning.page import _plates
from analysis.report.finetuning.sentences import opening_sentences
from analysis.study.methods import arm_key
from analysis.study.tuning import TuningStudy, build_tuning_study
from experiments.archives import read_archive

REPORTS = Path(__file__).resolve().parents[3] / "reports"


@pytest.fixture(scope="module")
def ranks() -> TuningStudy:
    path = REPORTS / "lora-rank" / "records.parquet"
    return build_tuning_study(path, read_archive(path).manifest, bootstrap=0)


def test_a_study_of_one_training_size_opens_with_the_sizes_of_its_methods(ranks: TuningStudy) -> None:
    assert ranks.training_sizes == [800]
    assert [plate.name for plate in _plates(ranks)] == ["ranks", "sizes", "rates"]
    said = " ".join(opening_sentences(ranks))
    for slope in ranks.slopes.to_dict("records"):
        assert f"{slope['slope']:+.3f} ({slope['lo']:+.3f}, {slope['hi']:+.3f})" in said
    largest = ranks.pairs[ranks.pairs["arm"] == "lora 16"].iloc[0]
    assert f"lower by {largest['difference']:.3f} ({largest['lo']:.3f}, {largest['hi']:.3f}) nats" in said
    assert "held-out" not in said


def test_slopes_that_are_not_identified_are_said_to_be_so(ranks: TuningStudy) -> None:
    from dataclasses import replace

    slopes = ranks.slopes.assign(slope=None, lo=None, hi=None, reason="1 sizes have their best rate inside")
    said = opening_sentences(replace(ranks, slopes=slopes))
    assert said == (
        "What LoRA's rank does to the loss and the best rate is not identified: 1 sizes have their best rate inside.",
    )


def test_methods_are_ordered_by_their_size_as_a_number(ranks: TuningStudy) -> None:
    assert list(ranks.cells["arm"]) == ["full", *(f"lora {rank}" for rank in (1, 2, 4, 8, 16))]
    assert sorted(["lora 16", "lora 2", "full", "lora"], key=arm_key) == ["full", "lora", "lora 2", "lora 16"]


def test_the_best_rates_of_all_ranks_lie_inside_the_rates_that_were_tried(ranks: TuningStudy) -> None:
    assert not ranks.cells["rate_at_edge"].any()
    assert set(ranks.cells["num_seeds"]) == {3}
