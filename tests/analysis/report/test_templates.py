"""Templates set code as code and link to the pages of concepts where these are."""

from pathlib import Path

from analysis.report.tables import TextTable
from analysis.report.templates import _code, concepts_from, template


def test_words_between_backticks_are_code_and_the_rest_is_escaped() -> None:
    assert _code("use `isoflop advise <fit>` & go") == "use <code>isoflop advise &lt;fit&gt;</code> &amp; go"


def test_concepts_are_linked_from_within_the_checkout_alone(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "docs" / "concepts").mkdir(parents=True)
    assert concepts_from(root / "reports" / "mine", root) == "../../docs/concepts"
    assert concepts_from(tmp_path / "elsewhere", root) is None
    assert concepts_from(root / "reports", tmp_path / "bare") is None


def test_a_long_table_is_folded_under_its_number_of_rows() -> None:
    folded = template("table.html.j2").module.folded  # type: ignore[attr-defined] # macros become attributes when jinja reads the file
    short, long = (TextTable(head=("N",), rows=(("1M",),) * count) for count in (16, 17))
    assert "<details>" not in folded(short, 16, "rows")
    assert "<details><summary>17 rows</summary>" in folded(long, 16, "rows")
    assert folded(long, 16, "rows").count("<td") == 17
