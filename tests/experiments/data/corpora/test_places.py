"""Where files of a corpus are looked for: beside the sweep file, by pattern, packed or not; content alone counts."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import documents
from experiments.data.identity import resolve
from experiments.errors import UserError
from tests.known import sweep_of

SWEEP = """
name: own
data: {corpus: "text:texts", context: 32}
design: {kind: ladder, tokens: [1.0e+5], shapes: [{width: 8, depth: 1}]}
"""


def write_texts(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"{number} " * 400)


def test_a_path_is_read_from_the_folder_of_the_sweep_file_and_an_override_from_that_of_the_shell(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "study" / "texts")
    file = tmp_path / "study" / "own.yaml"
    file.write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    beside = sweep_of(Path("study/own.yaml")).data
    assert beside.corpus == f"text:{Path('study/texts')}"
    overridden = sweep_of(Path("study/own.yaml"), ["--data.corpus=text:elsewhere"]).data
    assert overridden.corpus == "text:elsewhere"
    with pytest.raises(UserError, match="from the folder of the sweep file"):
        resolve(overridden, cache)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    seen = sweep_of(Path(os.path.relpath(file))).data
    assert resolve(seen, cache).content_hash is not None


def test_varied_corpora_move_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    arms = "vary: {size: {small: {data.corpus: 'text:a'}, large: {data.corpus: 'jsonl:b'}}}\n"
    file.write_text(SWEEP + arms)
    size = sweep_of(file).vary["size"]
    assert size == {"small": {"data.corpus": f"text:{tmp_path / 'a'}"}, "large": {"data.corpus": f"jsonl:{tmp_path}/b"}}
    file.write_text(SWEEP + "vary: {data.corpus: ['text:a', sotu, 'hf:b']}\n")
    assert sweep_of(file).vary["data.corpus"] == [f"text:{tmp_path / 'a'}", "sotu", "hf:b"]


def test_the_place_of_the_files_is_no_part_of_a_runs_identity(tmp_path: Path, cache: Cache) -> None:
    identities = []
    for place in ("here", "there/and/everywhere"):
        write_texts(tmp_path / place)
        identities.append(resolve(DataConfig(corpus=f"text:{tmp_path / place}", context=32), cache).identity())
    assert identities[0] == identities[1]


def test_a_pattern_names_the_files_that_it_matches(tmp_path: Path, cache: Cache) -> None:
    write_texts(tmp_path / "texts")
    (tmp_path / "texts" / "deep").mkdir()
    (tmp_path / "texts" / "deep" / "note.md").write_text("a note in Markdown")
    (tmp_path / "texts" / "1x.txt").write_text("eleventh")
    matched = list(documents(DataConfig(corpus=f"text:{tmp_path}/texts/1?.txt"), cache))
    assert len(matched) == 3  # 10, 11 and 1x
    assert list(documents(DataConfig(corpus=f"text:{tmp_path}/**/*.md"), cache)) == [b"a note in Markdown"]
    with pytest.raises(UserError, match="no file matches"):
        list(documents(DataConfig(corpus=f"text:{tmp_path}/*.rst"), cache))


def test_packed_json_lines_give_the_documents_of_the_plain_file(tmp_path: Path, cache: Cache) -> None:
    lines = "".join(json.dumps({"text": f"document {number}"}) + "\n" for number in range(5))
    for name in ("plain", "packed"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain" / "a.jsonl").write_text(lines)
    with gzip.open(tmp_path / "packed" / "a.jsonl.gz", "wt") as file:
        file.write(lines)
    plain, packed = (
        list(documents(DataConfig(corpus=f"jsonl:{tmp_path}/{name}"), cache)) for name in ("plain", "packed")
    )
    assert plain == packed
    assert len(plain) == 5
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(b"no gzip at all")
    with pytest.raises(UserError, match="cannot be unpacked"):
        list(documents(DataConfig(corpus=f"jsonl:{broken}"), cache))
