"""Laws on halves of tables: what is predicted from what, and the section that says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.errors import UserError
from analysis.laws.registry import LAWS
from analysis.published import halves as module
from analysis.published.halves import TABLES, HalvedTable, halves
from analysis.verbs.reporting.published import halves_section

TABLE = HalvedTable(
    name="made", file="made.csv", laws=("hoffmann",), columns={"params": "N"}, groups="kind", near=("params", "tokens")
)


def write_made(folder: Path, noise: float = 0.001) -> None:
    """Two kinds of runs on surfaces of their own."""
    rng = np.random.default_rng(0)
    params, ratio = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 8), [5.0, 20.0, 80.0]))
    parts = []
    for kind, floor in (("a", 1.7), ("b", 2.4)):
        loss = LAWS["hoffmann"]([floor, 400.0, 410.0, 0.34, 0.28], {"params": params, "tokens": ratio * params})
        loss = loss * np.exp(noise * rng.standard_normal(loss.size))
        parts.append(pd.DataFrame({"kind": kind, "N": params, "tokens": ratio * params, "loss": loss}))
    pd.concat(parts).to_csv(folder / "made.csv", index=False)


def test_every_row_is_predicted_once_by_the_half_that_it_is_not_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_made(tmp_path)
    monkeypatch.setattr(module, "TABLES", (TABLE,))
    (found,) = halves(tmp_path)
    assert found.num_rows == 48
    assert found.error is not None
    assert found.lo is not None
    assert found.hi is not None
    assert found.median is not None
    assert 0 < found.lo < found.error < found.hi
    assert found.error < 0.004 < found.nearest


def test_the_error_grows_with_the_noise_that_no_law_can_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TABLES", (TABLE,))
    errors = []
    for noise in (0.001, 0.02):
        write_made(tmp_path, noise)
        errors += [one.error or 0.0 for one in halves(tmp_path)]
    assert errors[1] > 0.016 * np.sqrt(2 / np.pi)
    assert errors[1] > 5 * errors[0]


def test_a_law_that_cannot_be_fitted_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_made(tmp_path)
    frame = pd.read_csv(tmp_path / "made.csv")
    frame.assign(loss=-frame["loss"]).to_csv(tmp_path / "made.csv", index=False)
    monkeypatch.setattr(module, "TABLES", (TABLE,))
    (found,) = halves(tmp_path)
    assert found.error is None
    assert found.reason
    assert f"none: {found.reason}" in halves_section([found])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"moe_train\.csv of published runs"):
        list(halves(tmp_path))


def test_some_sections_are_made_anew_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_made(tmp_path)
    monkeypatch.setattr(module, "TABLES", (TABLE,))
    page = tmp_path / "published.md"
    page.write_text("# Old\n\n## counting\n\nkept\n\n## halves\n\nold\n", encoding="utf-8")
    words = ["published", "--data", str(tmp_path), "--sections", "halves", "--out", str(page)]
    assert main(words) == 0
    text = page.read_text(encoding="utf-8")
    assert "## counting\n\nkept\n\n## halves" in text
    assert "| made | `hoffmann` | 48 |" in text
    page.unlink()
    assert main(words) == 2


def test_the_tables_name_columns_that_their_laws_read(published_data: Path) -> None:
    for table in TABLES:
        columns = set(pd.read_csv(published_data / table.file, nrows=1).columns)
        assert set(table.columns.values()) <= columns
        assert {table.groups} - {None} <= columns
