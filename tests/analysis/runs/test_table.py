"""Tables of runs: what is kept, left out, flagged and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import UserError
from analysis.runs.files import row_names
from analysis.runs.table import RowRules, load_tables
from analysis.verbs.arguments import parse_columns
from experiments.records import RunRecord, RunStatus

GOOD = "params,tokens,flops,loss\n1e6,2e7,1.2e14,3.0\n2e6,2e7,2.4e14,2.8\n4e6,2e7,4.8e14,2.7\n"


def write(tmp_path: Path, text: str, name: str = "runs.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_tokens_and_flops_give_each_other_under_6nd(tmp_path: Path) -> None:
    table = load_tables([write(tmp_path, "params,flops,loss\n1e6,1.2e14,3\n2e6,2.4e14,2.8\n")])
    assert table.frame["tokens"].tolist() == [2e7, 2e7]
    assert table.conventions["flops"] == "6ND"
    assert "tokens = flops / (6 params)" in table.notes
    table = load_tables([write(tmp_path, "params,tokens,loss\n1e6,2e7,3\n2e6,2e7,2.8\n")])
    assert table.frame["flops"].tolist() == [1.2e14, 2.4e14]


def test_counted_flops_are_told_apart_from_6nd(tmp_path: Path) -> None:
    path = write(tmp_path, "params,tokens,flops,loss\n1e6,2e7,2e14,3\n2e6,2e7,3e14,2.8\n")
    assert load_tables([path]).conventions["flops"] == "as given"
    assert load_tables([write(tmp_path, GOOD)]).conventions["flops"] == "6ND"


def test_several_tables_are_concatenated_and_keep_their_source_and_row(tmp_path: Path) -> None:
    first, second = write(tmp_path, GOOD, "a.csv"), tmp_path / "b.parquet"
    pd.read_csv(first).rename(columns={"params": "N"}).assign(params=1.0).to_parquet(second)
    table = load_tables([first, second])
    assert table.frame["source"].tolist() == ["a"] * 3 + ["b"] * 3
    assert table.frame["row"].tolist() == [1, 2, 3, 1, 2, 3]
    mapped = load_tables([second], {"params": "N"})
    assert mapped.frame["params"].tolist() == [1e6, 2e6, 4e6]
    assert mapped.frame["params (original)"].tolist() == [1.0] * 3


def test_rows_left_out_are_counted_with_reasons(tmp_path: Path) -> None:
    table = load_tables([write(tmp_path, GOOD)], where="params < 3e6", drop_largest_losses=0)
    assert len(table.frame) == 2
    assert table.excluded["excluded_because"].tolist() == ["--where params < 3e6"]
    assert table.notes == ("1 row left out: --where params < 3e6",)
    table = load_tables([write(tmp_path, GOOD)], drop_largest_losses=1)
    assert table.frame["loss"].tolist() == [2.8, 2.7]


def test_unfinished_runs_are_left_out_with_their_reason(tmp_path: Path) -> None:
    text = "status,reason,params,tokens,loss\ndone,,1e6,2e7,3\ndiverged,loss is nan,2e6,2e7,\ndone,,4e6,2e7,2.7\n"
    table = load_tables([write(tmp_path, text)])
    assert table.excluded["excluded_because"].tolist() == ["status diverged: loss is nan"]
    assert len(table.frame) == 2


def test_unusual_rows_are_flagged_and_kept(tmp_path: Path) -> None:
    text = GOOD.replace("loss\n", "loss,epochs,decayed\n").replace("3.0\n", "3.0,2.5,True\n")
    text = text.replace("2.8\n", "2.8,1,False\n").replace("2.7\n", "2.7,1,True\n") + "4e6,2e7,4.8e14,2.7,1,True\n"
    text += "4e6,2e7,4.8e18,2.6,1,True\n"
    table = load_tables([write(tmp_path, text)], rules=RowRules(keep_copies=True))
    flags = table.flags.tolist()
    assert any("row 1 of runs: repeats its data 2.50 times" in note for note in table.notes)
    assert "repeats its data 2.50 times" in flags[0]
    assert flags[1] == "learning rate not decayed"
    assert flags[2] == ""
    assert flags[3] == "copy of an earlier row"
    assert "check units" in flags[4]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("params,tokens\n1,2\n3,4\n", {}, "no column 'loss'"),
        ("N,D,loss\n1,2,3\n3,4,3\n", {}, r"is it 'N'\?.*--columns params=N"),
        ("params,loss\n1,3\n2,3\n", {}, "'tokens', nor 'flops'"),
        (GOOD, {"params": "parms"}, "nearest: params"),
        (GOOD.replace("2.8", "abc"), {}, r"loss is not a number in row 2 of runs \('abc'\)"),
        (GOOD.replace("2.8", ""), {}, "loss is missing in row 2 of runs"),
        (GOOD.replace("2.8", "inf"), {}, "loss is infinite in row 2 of runs"),
        (GOOD.replace("2.8", "-2.8"), {}, "loss is not positive in row 2 of runs.*--residuals raw"),
        (GOOD.replace("2e6", "0"), {}, "params is not positive in row 2 of runs"),
        (GOOD.replace("flops,loss", "loss,loss"), {}, "'loss' 2 times"),
        ("params,tokens,loss\n1,2,3\n", {}, "1 row is left, and at least 2 are needed"),
        ("params,tokens,loss\n", {}, "holds no rows"),
        ("", {}, "is empty"),
        ("params,tokens,loss\n1,2,3\n1,2,3,4,5\n", {}, "cannot be read as CSV"),
    ],
)
def test_a_bad_table_is_one_sentence_that_names_rows_or_columns(
    tmp_path: Path, text: str, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_tables([write(tmp_path, text)], columns)
    assert "\n" not in str(caught.value)


def test_raw_residuals_may_have_negative_losses(tmp_path: Path) -> None:
    table = load_tables([write(tmp_path, GOOD.replace("2.8", "-2.8"))], rules=RowRules(allow_nonpositive_loss=True))
    assert table.frame["loss"].min() == -2.8


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "runs.csv")
    with pytest.raises(UserError, match=r"there is no file .*rnus.csv \(nearest: runs.csv\)"):
        load_tables([tmp_path / "rnus.csv"])
    with pytest.raises(UserError, match="of no known kind"):
        load_tables([write(tmp_path, "x", "runs.xls")])
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        load_tables([write(tmp_path, "x", "runs.parquet")])
    with pytest.raises(UserError, match="without runs/"):
        load_tables([tmp_path])


def test_columns_are_parsed_or_refused() -> None:
    assert parse_columns("params=N, loss=val loss,") == {"params": "N", "loss": "val loss"}
    assert parse_columns(None) == {}
    with pytest.raises(UserError, match="cannot read 'N'"):
        parse_columns("N")
    with pytest.raises(UserError, match="gives params twice"):
        parse_columns("params=N,params=M")


def test_a_store_of_records_becomes_a_table_and_a_truncated_record_is_named(tmp_path: Path) -> None:
    design = dict.fromkeys(("params_total", "params_non_embedding", "flops_6nd", "width", "depth"), 8.0)
    for index in range(3):
        record = RunRecord(
            run_id=f"{index:012x}",
            status=RunStatus.DONE,
            design={**design, "params": 1e5 * (index + 1), "tokens": 1e6, "flops": 1e12},
            outcome={"loss": 3.0 - index / 10},
        )
        folder = tmp_path / "runs" / record.run_id
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
    table = load_tables([tmp_path])
    assert table.frame["loss"].tolist() == [3.0, 2.9, 2.8]
    assert table.conventions == {
        "params": "params_non_embedding + untied head",
        "flops": "counted",
        "tokens": "column 'tokens'",
    }
    assert row_names(table.frame)[0] == "run 000000000000"
    (folder / "record.json").write_text(record.to_json()[:60], encoding="utf-8")
    with pytest.raises(UserError, match=r"000000000002.*not complete JSON.*delete that file"):
        load_tables([tmp_path])


def test_a_subset_keeps_rows_and_flags_together(tmp_path: Path) -> None:
    table = load_tables([write(tmp_path, GOOD)])
    part = table.subset(np.array([False, True, True]))
    assert part.frame["row"].tolist() == [2, 3]
    assert len(part.flags) == 2
