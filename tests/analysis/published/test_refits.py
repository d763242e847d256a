"""Published numbers beside ours, from published runs; skipped where these are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.frontiers.counting import implied_exponent, local_exponents, side_by_side
from analysis.laws.registry import LAWS
from analysis.published.constants import BESIROGLU_2024
from analysis.published.refits import NEED_NO_RUNS, SECTIONS, compare
from analysis.verbs.reporting.published import page


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in NEED_NO_RUNS])
def test_ours_agree_with_the_published(section: str, published_data: Path) -> None:
    rows = compare(published_data, sections=[section], bootstrap=0)[section]
    assert rows
    assert [row.what for row in rows if not row.agrees] == []


def test_standard_errors_agree_with_the_published(published_data: Path) -> None:
    rows = [
        r for r in compare(published_data, sections=["epoch"], bootstrap=1000)["epoch"] if "standard error" in r.what
    ]
    assert len(rows) == 6
    assert [row.what for row in rows if not row.agrees] == []


def test_the_known_bias_of_a_parabola_comes_out_to_six_digits() -> None:
    rows = compare("nowhere", sections=["czech"])["czech"]
    assert len(rows) == 2
    assert all(row.agrees for row in rows)


def test_kaplans_exponent_comes_out_of_chinchillas_law_without_embeddings() -> None:
    rows = compare("nowhere", sections=["counting"])["counting"]
    assert [row.what for row in rows if not row.agrees] == []
    flops, slopes = local_exponents(BESIROGLU_2024, np.geomspace(1e3, 1e10, 2001))
    numeric = np.gradient(np.log(np.geomspace(1e3, 1e10, 2001)), np.log(flops))
    np.testing.assert_allclose(slopes[1:-1], numeric[1:-1], rtol=1e-4)
    n = 1e7
    at = flops[np.argmin(np.abs(np.geomspace(1e3, 1e10, 2001) - n))]
    sizes = np.geomspace(n / 3, 3 * n, 4001)
    total = sizes + 47491 * np.cbrt(sizes)
    loss = 482.01 * total**-0.3478 + 2085.43 * (at / (6 * sizes)) ** -0.3658
    assert sizes[loss.argmin()] == pytest.approx(n, rel=0.01)
    plain = implied_exponent(BESIROGLU_2024, omega=0.0)
    assert plain == pytest.approx(0.3658 / (0.3478 + 0.3658), rel=1e-6)


def test_conventions_stand_side_by_side() -> None:
    params = np.repeat(np.geomspace(1e6, 1e9, 8), 6)
    total, tokens = params + 2e4 * np.sqrt(params), params * np.tile(np.geomspace(3, 150, 6), 8)
    theta = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
    loss = LAWS["hoffmann"](theta, {"params": total, "tokens": tokens})
    data = {
        "params_non_embedding": params,
        "params_total": total,
        "tokens": tokens,
        "loss": loss,
        "flops": 6 * total * tokens,
    }
    rows = {(row["params"], row["flops"]): row["a"]["value"] for row in side_by_side(data)}
    assert rows[("params_total", "6ND")] == pytest.approx(0.3658 / (0.3478 + 0.3658), rel=1e-4)
    assert ("params_total", "counted") not in rows
    assert rows[("params_non_embedding", "6ND")] != pytest.approx(rows[("params_total", "6ND")], abs=0.01)
    assert ("params_non_embedding", "counted") in rows
    with pytest.raises(ValueError, match="counts N in none of"):
        side_by_side({"tokens": tokens, "loss": loss})


def test_the_page_has_a_row_for_every_number() -> None:
    found = compare("nowhere", sections=["counting"])
    text = page(found, "isoflop published")
    assert text.count("| yes |") == len(found["counting"])
    with pytest.raises(ValueError, match="no section 'epochs'"):
        compare("nowhere", sections=["epochs"])
    with pytest.raises(ValueError, match="no folder nowhere"):
        compare("nowhere")
