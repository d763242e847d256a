"""Runs under every counting convention: a law that holds in one count moves as that count says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import isoflop as iso
from analysis.__main__ import main
from analysis.errors import UserError
from analysis.frontiers.recounted import compare_conventions, shapes_of
from analysis.laws.registry import LAWS
from models.config.published_counts import CONVENTIONS
from models.config.transformer import TransformerConfig

THETA = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
"""Besiroglu et al. 2024."""
WIDTHS = (128, 192, 256, 384, 512, 768, 1024)


def table(convention: str) -> dict[str, np.ndarray]:
    """Runs without noise whose losses follow the law in one convention's N."""
    width = np.repeat(WIDTHS, 6)
    depth = np.maximum(width // 64, 2)
    data = {
        "width": width,
        "depth": depth,
        "heads": width // 64,
        "vocab": np.full(width.size, 32000),
        "context": np.full(width.size, 512),
    }
    count = CONVENTIONS[convention].params
    params = np.array([count(shape) for shape in shapes_of(data)], dtype=float)
    tokens = params * np.tile(np.geomspace(3, 150, 6), len(WIDTHS))
    return {**data, "tokens": tokens, "loss": LAWS["hoffmann"](THETA, {"params": params, "tokens": tokens})}


@pytest.mark.parametrize("truth", ["kaplan", "6nd"])
def test_the_convention_in_which_the_law_holds_finds_its_exponent(truth: str) -> None:
    found = {row.convention: row for row in compare_conventions(table(truth)).rows}
    assert list(found) == list(CONVENTIONS)
    exact = THETA[4] / (THETA[3] + THETA[4])
    assert found[truth].a.value == pytest.approx(exact, rel=1e-4)
    assert found["kaplan" if truth == "6nd" else "6nd"].a.value != pytest.approx(exact, abs=0.02)


def test_kaplans_count_of_a_law_in_all_parameters_has_the_larger_exponent() -> None:
    # Pearce and Song 2024: leaving out embeddings is most of what parts Kaplan's exponent from Chinchilla's
    found = {row.convention: row for row in compare_conventions(table("6nd")).rows}
    assert found["kaplan"].a.value > found["6nd"].a.value + 0.05
    assert found["kaplan"].flops_over_6n == (1.0, 1.0)


def test_fields_that_the_table_lacks_are_given_for_all_models() -> None:
    data = table("6nd")
    plain, gated = (shapes_of(data, model)[0] for model in ({}, {"activation": "swiglu", "tie_embeddings": True}))
    assert (plain.gated, gated.gated, gated.tie_embeddings) == (False, True, True)
    with pytest.raises(UserError, match="vocab_size of its models"):
        shapes_of({name: column for name, column in data.items() if name != "vocab"})


def test_counts_of_the_table_that_differ_from_its_shapes_are_said() -> None:
    data = table("6nd")
    (note,) = compare_conventions({**data, "params_total": np.full(data["tokens"].size, 1e8)}).notes
    assert "--set" in note


def test_the_verb_and_python_give_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table("6nd")
    rows = [
        "width,depth,heads,vocab,context,tokens,loss",
        *(",".join(map(str, row)) for row in zip(*data.values(), strict=False)),
    ]
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    assert main(["conventions", str(tmp_path / "runs.csv"), "--bootstrap", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    ours = iso.conventions(iso.load_runs(tmp_path / "runs.csv", required=("tokens", "loss")))
    assert [row["convention"] for row in told["rows"]] == list(CONVENTIONS)
    assert told["rows"][0]["a"]["value"] == pytest.approx(ours.rows[0].a.value)
    assert main(["conventions", str(tmp_path / "runs.csv"), "--bootstrap", "0"]) == 0
    assert "tokens per N" in capsys.readouterr().out
    assert main(["conventions", str(tmp_path / "runs.csv"), "--law", "bounded"]) == 2
    assert "is no law of params and tokens" in capsys.readouterr().err


def test_python_counts_one_shape() -> None:
    config = TransformerConfig(vocab_size=1000, width=64, depth=2, num_heads=2, context=128)
    assert iso.conventions(config)["kaplan"].params == 2 * 12 * 64**2
