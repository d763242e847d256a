"""The report of a sweep: what it holds, that it is the same every time, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.study.build import build_study
from analysis.study.curves import training_curves
from analysis.study.study import Choices
from experiments.records import RunRecord, RunStatus

BUDGETS = (1e11, 3e11, 1e12, 5e12)
FEW = ("--simulations", "25")
SIZES = np.geomspace(8e3, 8e5, 8)


def truth(params: float, tokens: float) -> float:
    return 1.15 + 18 / params**0.30 + 220 / tokens**0.40


def write_store(root: Path) -> Path:
    """A store and manifest as training leaves them: grid, seed replicates, held-out budget, one diverged run."""
    rng = np.random.default_rng(5)
    runs: dict[str, dict[str, object]] = {}
    number = 0
    for budget in BUDGETS:
        for params in SIZES:
            per_token = 6 * params * (1 + 40 * params**-0.35)
            tokens = float(np.ceil(budget / per_token / 2048) * 2048)
            if not 0.03 < (params / 0.12 / budget**0.45) < 12:
                continue
            for seed in (0, 1) if budget == BUDGETS[1] and 4e4 < params < 9e4 else (0,):
                number += 1
                run_id = f"{number:012x}"
                held = budget == BUDGETS[-1]
                other = "replicate" if seed else "fit"
                runs[run_id] = {"budget": budget, "role": "heldout" if held else other}
                loss = truth(params, tokens) * math.exp(rng.normal(0, 0.002))
                diverged = number == 3
                record = RunRecord(
                    run_id=run_id,
                    status=RunStatus.DIVERGED if diverged else RunStatus.DONE,
                    reason="loss is not finite" if diverged else None,
                    design={
                        "params": params,
                        "params_total": params * 1.2,
                        "params_non_embedding": params,
                        "tokens": tokens,
                        "flops": per_token * tokens,
                        "flops_6nd": 6 * params * tokens,
                        "width": 32,
                        "depth": 2,
                        "seed": seed,
                    },
                    outcome={} if diverged else {"loss": loss, "loss_se": 0.002 * loss},
                    execution={"trunk": f"{params:.0f}-{seed}", "versions": {"torch": "2.13.0"}},
                )
                folder = root / "runs" / run_id
                folder.mkdir(parents=True)
                (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
                steps = np.unique(np.geomspace(1, tokens / 2048, 30).astype(int))
                lines = [
                    json.dumps({"tokens": int(step) * 2048, "step": int(step), "train_loss": loss + 3 / step**0.5})
                    for step in steps
                ]
                (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"tokens": 99', encoding="utf-8")
    manifest = {
        "name": "tiny",
        "runs": runs,
        "report": {"law": "hoffmann", "holdout": "role == 'heldout'", "title": "Tiny <sweep> & co"},
        "source": "experiments/sweeps/tiny.yaml",
    }
    (root / "sweeps").mkdir()
    path = root / "sweeps" / "tiny.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(manifest, report folder) of one report made by the command."""
    root = tmp_path_factory.mktemp("store")
    manifest = write_store(root)
    assert main(["report", str(manifest), "--out", str(root / "first"), "--bootstrap", "60", *FEW]) == 0
    return manifest, root / "first"


class Page(HTMLParser):
    """Collects tags, links and text, and fails on tags that are not closed in order."""

    VOID = {"meta", "br", "link", "img", "path", "use", "rect", "line", "circle", "image", "stop", "input"}

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if values.get("src"):
            self.sources.append(str(values["src"]))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script", "svg"} & set(self.stack):
            self.text.append(data)


def test_the_page_is_self_contained_and_its_links_lead_to_files_beside_it(report: tuple[Path, Path]) -> None:
    _, out = report
    html = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.stack == []
    assert page.sources == []
    assert all((out / link).exists() for link in page.links)
    written = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)  # what libraries say inside is theirs
    assert written.count("<svg") == 8
    assert "Tiny &lt;sweep&gt; &amp; co" in html
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"|xlink:href="#[^"]*"', "", written)


def test_the_held_out_prediction_opens_the_page_and_agrees_with_its_json(report: tuple[Path, Path]) -> None:
    _, out = report
    raw = json.loads((out / "heldout.json").read_text(encoding="utf-8"))
    keys = {"run_id", "flops", "predicted", "lo", "hi", "measured", "error_fraction", "carried_forward"}
    assert all(keys <= set(row) for row in raw["runs"])
    for row in raw["runs"]:
        assert row["error_fraction"] == pytest.approx(row["predicted"] / row["measured"] - 1)
        assert row["lo"] < row["predicted"] < row["hi"]
    errors = [abs(row["error_fraction"]) for row in raw["runs"]]
    assert raw["mape"]["value"] == pytest.approx(np.mean(errors))
    assert raw["mape"]["value"] < 0.03
    assert raw["mape"]["value"] < raw["carried_mape"]["value"] / 2
    page = Page()
    page.feed((out / "report.html").read_text(encoding="utf-8"))
    words = " ".join(" ".join(page.text).split())
    assert f"predicts the loss of {len(raw['runs'])} held-out runs" in words
    assert "Carrying the best smaller run" in words
    assert "diverged: loss is not finite" in words
    assert "role == 'heldout'" in words
    assert "nan" not in words.lower().split()


def test_no_estimate_stands_without_an_interval_or_a_reason(report: tuple[Path, Path]) -> None:
    _, out = report
    for name in ("parameters", "exponents"):
        with (out / "tables" / f"{name}.csv").open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                assert row["lo"] or row["reason"] or row.get("not_identified")
    raw = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    assert raw["frontier_along_shapes"]["convention"] == "counted"
    assert raw["frontier_along_shapes"]["a"]["lo"] is not None


def test_the_same_inputs_give_the_same_bytes(report: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, out = report
    again = out.parent / "second" / "first"
    assert main(["report", str(manifest), "--out", str(again), "--bootstrap", "60", *FEW]) == 0
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in names:
        first, second = (folder / name for folder in (out, again))
        if name.name in {"report.html", "provenance.json"}:
            assert without_commit(first) == without_commit(second)
        else:
            assert first.read_bytes() == second.read_bytes(), name
    shutil.rmtree(again)


def without_commit(path: Path) -> str:
    """The text less the commit, which others may move while the test runs."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<dt>commit</dt><dd>[^<]*</dd>", "", text)
    return re.sub(r'"git": \{[^}]*\}', "", text)


def test_the_page_holds_no_path_of_the_machine(report: tuple[Path, Path]) -> None:
    manifest, out = report
    for name in ("report.html", "provenance.json", "fit.json", "heldout.json"):
        text = (out / name).read_text(encoding="utf-8")
        assert str(manifest.parent.parent) not in text
        assert "Date" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    origin = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert origin["commands"][0] == "isoflop run experiments/sweeps/tiny.yaml"
    assert origin["commands"][1] == "isoflop report tiny.json --bootstrap 60 --simulations 25 --out first"
    assert origin["training"]["version_torch"] == ["2.13.0"]


def test_roles_replicates_and_curves_are_read_as_the_manifest_says(report: tuple[Path, Path]) -> None:
    manifest, _ = report
    study = build_study([manifest], Choices(bootstrap=0, simulations=0))
    roles = study.table.frame["role_shown"].value_counts().to_dict()
    assert roles["heldout"] >= 3
    assert study.noise_floor is not None
    assert study.noise["num_seeds"].tolist() == [2] * len(study.noise)
    assert study.choices.cluster == "trunk"
    assert study.budgets == BUDGETS
    assert len(study.curves) == len(study.table.frame)
    curve = next(iter(study.curves.values()))
    assert curve["tokens"].is_monotonic_increasing
    assert study.heldout is not None
    assert study.heldout.mape.reason == "no draws were asked for"


def test_a_plain_table_holds_out_its_largest_budget_and_has_no_training_curves(
    report: tuple[Path, Path], tmp_path: Path
) -> None:
    _, out = report
    table = tmp_path / "plain.csv"
    with (out / "tables" / "runs.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    keep = ["params", "tokens", "flops", "loss"]
    table.write_text(
        "\n".join([",".join(keep), *[",".join(row[name] for name in keep) for row in rows]]), encoding="utf-8"
    )
    study = build_study([table], Choices(bootstrap=0, simulations=0))
    assert study.curves == {}
    assert study.noise_floor is None
    assert study.heldout is not None
    assert study.heldout.rows["flops"].min() > 4e12
    assert any("no --holdout was given" in note for note in study.notes)
    with_rule = build_study([table], Choices(bootstrap=0, simulations=0, holdout="params > 4e5"))
    assert with_rule.heldout is not None
    assert (with_rule.heldout.rows["params"] > 4e5).all()


def test_bad_input_ends_in_one_sentence_and_status_2(
    report: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, _ = report
    broken = tmp_path / "broken.json"
    broken.write_text(manifest.read_text(encoding="utf-8")[:50], encoding="utf-8")
    cases = [
        (["report", str(broken)], "is not a sweep manifest"),
        (["report", str(tmp_path / "none.json")], "there is no file"),
        (["report", str(manifest), "--holdout", "flops > 1e30"], "holds out no run"),
        (["report", str(manifest), "--holdout", "flops.x"], "a dot after a name is not allowed"),
        (["report", str(manifest), "--law", "hofman"], "hoffmann"),
        (["report", str(manifest), "--cluster", "trnk"], "trnk is no column"),
        (["report", str(manifest), "--bootstrap", "-1"], "is negative"),
        (
            ["report", str(manifest), "--holdout", "params > 0"],
            "no run is left to fit, and a report takes two at least: loosen --holdout",
        ),
    ]
    for words, message in cases:
        assert main([*words, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert message in error[0]
    assert not (tmp_path / "out").exists()


def test_a_broken_line_amid_a_training_curve_is_an_error_and_a_cut_last_line_is_not(
    report: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest, _ = report
    study = build_study([manifest], Choices(bootstrap=0, simulations=0))
    root = tmp_path / "copy"
    shutil.copytree(manifest.parent.parent / "runs", root / "runs")
    (root / "sweeps").mkdir()
    path = root / "sweeps" / "tiny.json"
    shutil.copy(manifest, path)
    first = next(iter(study.curves))
    file = root / "runs" / first / "metrics.jsonl"
    file.write_text('{"tokens": 1,\n' + file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        training_curves([path], study.table.frame)


def test_the_next_command_names_the_sweep_file_as_the_working_folder_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "deeper" / "work"
    work.mkdir(parents=True)
    manifest = write_store(tmp_path / "store")
    source = tmp_path / "sweeps" / "tiny.yaml"
    source.parent.mkdir()
    source.write_text("name: tiny\n", encoding="utf-8")
    plain = json.loads(manifest.read_text(encoding="utf-8")) | {"source": "../sweeps/tiny.yaml"}
    manifest.write_text(json.dumps(plain), encoding="utf-8")
    monkeypatch.chdir(work)
    assert main(["report", str(manifest), "--out", "page", "--bootstrap", "20", *FEW]) == 0
    page = (work / "page" / "report.html").read_text(encoding="utf-8")
    named = re.search(r"--template ([^\s<]+)", page)
    assert named is not None
    assert Path(named[1]).resolve() == source
