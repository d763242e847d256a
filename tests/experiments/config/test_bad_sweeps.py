"""What cannot be right in a sweep file: one sentence that names field and value, exit status 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.laws.registry import LAWS
from experiments.__main__ import main
from experiments.config.report_laws import REPORT_LAWS
from experiments.data.cache import Cache

Refused = Callable[..., str]

GOOD = """
name: good
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design:
  kind: ladder
  tokens: [12800, 25600]
  shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}]
  head_width: 8
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
ISOFLOP = "{kind: isoflop, budgets: [1e9], shapes: [{width: 8, depth: 1}], head_width: 8}"

BAD_VALUES = [
    ("name", "'not/good'", "use letters, digits"),
    ("name", "3", "name is 3; give text"),
    ("data", "null", "data is None; give a mapping"),
    ("data", "sotu", "data must be a mapping with keys such as corpus"),
    ("data.corpus", "marko", "did you mean 'markov'?"),
    ("data.context", "32.5", "data.context is 32.5; give a whole number"),
    ("data.context", "0", "context is 0; it must be at least 1"),
    ("data.tokenizer", "words", "tokenizer 'words' is unknown"),
    ("data.val_fraction", ".nan", "val_fraction is nan"),
    ("data.corpus_options", "{num_symbol: 8}", "did you mean 'num_symbols'?"),
    ("data.corpus_options", "{num_symbols: [8]}", "data.corpus_options.num_symbols is [8]"),
    ("design", "[]", "design must be a mapping"),
    ("design.kind", "laddder", "did you mean ladder?"),
    ("design.knid", "ladder", "unknown key design.knid; did you mean kind?"),
    ("design.tokens", "many", "design.tokens is 'many'; give a list"),
    ("design.tokens", "[many]", "design.tokens[0] is 'many'; give a number"),
    ("design.tokens", "[-1e5]", "design.tokens holds -100000.0; give positive numbers"),
    ("design.tokens", "[1e300]", "tokens are more than"),
    ("design", ISOFLOP.replace("1e9", ".inf"), "design.budgets holds inf; give positive numbers"),
    ("design", ISOFLOP.replace("1e9", ".nan"), "design.budgets holds nan; give positive numbers"),
    ("design", ISOFLOP.replace("1e9", "1e308"), "tokens are more than"),
    ("design", ISOFLOP.replace("head_width: 8", "head_width: 0"), "design.head_width is 0"),
    ("design.head_width", "0", "design.head_width is 0; give a whole number of at least 1"),
    ("design.head_width", "null", "design.head_width is None; give a whole number"),
    ("design.ratio_range", "[5]", "design.ratio_range is [5]; give a list of 2 values or null"),
    ("design.ratio_range", "[300, 5]", "give the smaller number first"),
    ("design.shapes", "[{width: 8}]", "design.shapes[0].depth is missing"),
    ("design.shapes", "[{width: 0, depth: 1}]", "design.shapes[0]: width is 0"),
    ("design.shapes", "[{width: 8, depth: 1, num_heads: 3}]", "width 8 is not divisible by num_heads 3"),
    ("model.dropout", "high", "model.dropout is 'high'; give a number"),
    ("model.dropout", "7", "dropout is 7"),
    ("model.width", "8", "model.width is set by the design's shapes"),
    ("model.positions", "rotry", "did you mean 'rotary'?"),
    ("model.qk_nrom", "true", "did you mean qk_norm?"),
    ("model", "{1: 2}", "model has a key that is no text"),
    ("objective.name", "mask", "choose one of"),
    ("objective.seed", "null", "objective.seed is None; give a whole number"),
    ("recipe.name", "byte-smal", "did you mean byte-small?"),
    ("recipe.learning_rate", "-.001", "recipe.learning_rate is -0.001; give a positive number"),
    ("recipe.rate_scale", "0", "recipe.rate_scale is 0.0; give a positive number"),
    ("recipe.rate_scale", "-2", "recipe.rate_scale is -2.0; give a positive number"),
    ("recipe.rate_scale", ".nan", "recipe.rate_scale is nan; give a positive number"),
    ("recipe.batch_scale", "0", "recipe.batch_scale is 0.0; give a positive number"),
    ("recipe.batch_tokens", "0", "recipe.batch_tokens is 0; give a whole number"),
    ("recipe.warmup_tokens", "-1", "recipe.warmup_tokens is -1"),
    ("recipe.weight_decay", "-1", "recipe.weight_decay is -1.0; give zero or a positive number"),
    ("recipe.weight_decay", ".nan", "recipe.weight_decay is nan"),
    ("recipe.grad_clip", "-1", "recipe.grad_clip is -1.0; give a positive number"),
    ("schedule.name", "cosin", "schedule.name is 'cosin'; did you mean cosine?"),
    ("schedule.name", "null", "schedule.name is None; give constant, cosine, linear or wsd"),
    ("schedule.decay_fraction", "-1", "schedule.decay_fraction is -1.0; give a fraction from 0 to 1"),
    ("schedule.decay_fraction", ".nan", "schedule.decay_fraction is nan; give a fraction from 0 to 1"),
    ("schedule.decay_shape", "exp", "schedule.decay_shape is 'exp'; known: 1-sqrt, linear"),
    ("schedule.final_fraction", "2", "schedule.final_fraction is 2.0; give a fraction from 0 to 1"),
    ("seeds", "[]", "seeds is empty"),
    ("seeds", "[-1]", "seeds is -1"),
    ("seeds", "1", "seeds is 1; give a list such as [0, 1]"),
    ("replicates", "[{seeds: [], width: 8, depth: 1, budget: 12800}]", "replicates[0]: seeds is empty"),
    ("replicates", "[{seeds: [1], width: 8, depth: 1, budget: .inf}]", "replicates[0]: budget is inf"),
    ("vary", "{schedule.name: [wsd, cosin]}", "vary {'schedule.name': 'cosin'}: schedule.name is 'cosin'"),
    ("vary", "{arm: {a: {schedule.decay_fraction: -1}}}", "vary {'arm': 'a'}: schedule.decay_fraction is -1.0"),
    ("vary", "{schedul.name: [wsd]}", "unknown key schedul; did you mean schedule?"),
    ("vary", "{seeds: 3}", "vary.seeds is 3; give a list or a mapping"),
    ("vary", "{arm: {a: 3}}", "vary.arm.a is 3; give a mapping"),
    ("vary", "{arm: []}", "vary.arm is empty"),
    ("precision", "fp16", "precision is 'fp16'; did you mean bf16?"),
    ("report.law", "nolaw", "report.law is 'nolaw'; known: farseer, gadre, hoffmann, hoffmann-break, kaplan, skaling"),
    ("report.law", "hofman", "did you mean hoffmann?"),
    ("report.title", "3", "report.title is 3; give text or null"),
    ("colour", "red", "unknown key colour"),
]


@pytest.fixture
def refused(tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Plans a sweep in this process and gives the one sentence with which it is refused."""

    def plan(path: Path, *overrides: str) -> str:
        store = tmp_path / "store"
        assert main(["plan", str(path), "--store", str(store), *overrides]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1
        assert not store.exists()
        return output.err

    return plan


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A sweep file without a mistake."""
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_the_file_that_the_mistakes_are_put_into_is_right(
    good: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(good), "--store", str(good.parent)]) == 0
    assert "4 runs" in capsys.readouterr().out


@pytest.mark.parametrize(("field", "value", "message"), BAD_VALUES)
def test_a_bad_value_is_told_in_one_sentence_that_names_it(
    refused: Refused, good: Path, field: str, value: str, message: str
) -> None:
    assert message in refused(good, f"--{field}={value}")


BAD_FILES = [
    (b"", "does not hold a mapping"),
    (b"- a\n- b\n", "does not hold a mapping"),
    (b"name: [", "is not YAML"),
    (b"name: good\nname: other\n", 'duplicate key "name"'),
    (b"name: a: b\n", "line 1 is not YAML: mapping values are not allowed here"),
    (b"name: good\n\tdata: {}\n", "line 2 is not YAML"),
    (b"name: !!python/object:os.system x\n", "is not YAML"),
    (b"name: \x00\n", "is not YAML"),
    ("name: gut\ndata: {corpus: 'text:Bücher'}\n".encode("latin-1"), "is not UTF-8 text"),
    (GOOD.encode()[:-20], "is not YAML"),
    (GOOD.replace("name: good\n", "").encode(), "name is missing"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_a_bad_file_is_told_in_one_sentence_that_names_it(
    refused: Refused, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    sentence = refused(path)
    assert message in sentence
    assert "bad.yaml" in sentence


def test_a_folder_and_a_missing_file_are_told(refused: Refused, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert "folder.yaml cannot be read: is a directory" in refused(folder)
    assert "good.yaml" in refused(tmp_path / "goood.yaml")


def test_a_bad_override_is_told(refused: Refused, good: Path) -> None:
    assert "has no value" in refused(good, "--design.tokens")
    assert "is not an override" in refused(good, "design.tokens=[1]")
    assert "override --design.tokens" in refused(good, "--design.tokens=[1")
    assert "cannot be set: name is not a mapping" in refused(good, "--name.first=a")


def test_laws_that_a_report_can_fit_are_those_of_size_and_tokens_in_the_registry() -> None:
    fitted = [name for name, law in LAWS.items() if law.target == "loss" and set(law.inputs) <= {"params", "tokens"}]
    assert sorted(REPORT_LAWS) == sorted(fitted)
