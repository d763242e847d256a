"""What a study says of tables that are too small for a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import UserError
from analysis.study.build import build_study
from analysis.study.study import Choices


@pytest.mark.parametrize(
    ("holdout", "count", "mend"),
    [
        (None, "one run is left to fit", "two at least: give more runs$"),
        ("role == 'fit'", "no run is left to fit", "loosen --holdout .* or give more runs$"),
    ],
)
def test_one_cell_and_its_replicates_are_refused_by_what_the_user_gave(
    holdout: str | None, count: str, mend: str, tmp_path: Path
) -> None:
    table = tmp_path / "cell.csv"
    table.write_text(
        "role,params,tokens,flops,loss\n"
        + "".join(f"{role},1e6,2e7,1.2e14,3.{k}\n" for k, role in enumerate(("fit", "replicate", "replicate")))
    )
    with pytest.raises(UserError, match=f"^{count}, .*{mend}") as caught:
        build_study([table], Choices(bootstrap=0, simulations=0, holdout=holdout))
    assert "None" not in str(caught.value)
