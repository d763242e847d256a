"""Configs, hashes, the cache: what defines data, and the message when it changed or cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.data import cache as cache_module
from experiments.data.cache import Cache, build_folder, explain_write_errors, write_json
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import passages
from experiments.data.corpus import prepare
from experiments.data.identity import resolve
from experiments.data.split import cut
from experiments.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "texts"
    place.mkdir()
    for i in range(30):
        (place / f"{i}.txt").write_text(f"the text of document {i}\n" * 5)
    return place


def test_an_unknown_corpus_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'sotu'"):
        DataConfig(corpus="sotus")
    with pytest.raises(ValueError, match="has no option 'oder'; did you mean 'order'"):
        DataConfig(corpus="markov", corpus_options={"oder": 2})
    with pytest.raises(ValueError, match="must be of type int"):
        DataConfig(corpus="markov", corpus_options={"order": "two"})
    with pytest.raises(ValueError, match="'num_tokens' of corpus 'markov' is -5; it must be at least 1"):
        DataConfig(corpus="markov", corpus_options={"num_tokens": -5})
    with pytest.raises(ValueError, match="names no place"):
        DataConfig(corpus="text:")


def test_an_option_given_at_its_default_changes_nothing(tmp_path: Path) -> None:
    plain = DataConfig(corpus="markov")
    explicit = DataConfig(corpus="markov", corpus_options={"sharpness": 2, "order": 2})
    assert plain == explicit
    assert hash(plain) == hash(explicit)
    assert resolve(plain, Cache(tmp_path)) == resolve(explicit, Cache(tmp_path))
    other = DataConfig(corpus="markov", corpus_options={"order": 1})
    assert resolve(plain, Cache(tmp_path)).content_hash != resolve(other, Cache(tmp_path)).content_hash


def test_identity_of_files_is_their_content_and_not_their_place(folder: Path, tmp_path: Path) -> None:
    first = resolve(DataConfig(corpus=f"text:{folder}"), Cache(tmp_path))
    moved = folder.rename(tmp_path / "moved")
    second = resolve(DataConfig(corpus=f"text:{moved}"), Cache(tmp_path))
    assert first.identity() == second.identity()
    with pytest.raises(ValueError, match="not resolved"):
        DataConfig().identity()


def test_a_corpus_that_changed_under_a_sweep_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    planned = resolve(DataConfig(corpus=f"text:{folder}", context=8, val_fraction=0.3), Cache(tmp_path))
    prepare(planned, Cache(tmp_path))
    (folder / "3.txt").write_text("another text of another length\n")
    for act in (resolve, prepare):
        with pytest.raises(UserError, match=r"changed under this sweep: it was planned with content \w{12}"):
            act(planned, Cache(tmp_path))
    assert resolve(replace(planned, content_hash=None), Cache(tmp_path)).content_hash != planned.content_hash


def test_a_file_is_hashed_again_only_when_it_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(corpus=f"text:{folder}")
    first = resolve(data, Cache(tmp_path))
    monkeypatch.setattr("hashlib.file_digest", None)
    assert resolve(data, Cache(tmp_path)) == first


def test_planning_imports_neither_numpy_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from experiments.data.identity import resolve, known_train_tokens\n"
        "from pathlib import Path; from experiments.data.cache import Cache\n"
        f"from experiments.data.config import DataConfig; cache = Cache(Path({str(tmp_path)!r}))\n"
        "for name in ('sotu', 'markov'): data = resolve(DataConfig(corpus=name), cache); data.vocab_size;"
        " known_train_tokens(data, cache)\n"
        "assert not {'numpy', 'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_many_processes_at_once_build_one_corpus(folder: Path, tmp_path: Path) -> None:
    code = (
        "from experiments.data.corpus import prepare; from experiments.data.config import DataConfig\n"
        f"data = DataConfig(corpus='text:{folder}', context=8, val_fraction=0.3)\n"
        "from pathlib import Path; from experiments.data.cache import Cache\n"
        f"corpus = prepare(data, Cache(Path({str(tmp_path / 'cache')!r})))\n"
        "print(corpus.train_batch(0, 20).sum())"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[3]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(outputs) == 1
    built = [path for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir()]
    assert len(built) == 1


def test_a_folder_that_appears_while_another_is_built_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "built"

    def build(temporary: Path) -> None:
        target.mkdir()
        write_json(target / "meta.json", {"who": "the other"})
        write_json(temporary / "meta.json", {"who": "me"})

    build_folder(target, build)
    assert cache_module.read_json(target / "meta.json") == {"who": "the other"}
    assert {path.name for path in tmp_path.iterdir()} == {"built", ".built.lock"}


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".built.k1ll3d").mkdir()
    (tmp_path / ".built.k1ll3d" / "train.bin").write_text("half")
    build_folder(tmp_path / "built", lambda temporary: write_json(temporary / "meta.json", {}))
    assert {path.name for path in tmp_path.iterdir()} == {"built", ".built.lock"}


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(temporary: Path) -> None:
        (temporary / "half").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        build_folder(tmp_path / "built", build)
    assert {path.name for path in tmp_path.iterdir()} == {".built.lock"}


def test_a_full_or_read_only_disk_is_one_sentence(tmp_path: Path) -> None:
    for number, words in ((28, "the disk is full"), (30, "read-only"), (13, "not allowed")):
        with pytest.raises(UserError, match=words), explain_write_errors(tmp_path):
            raise OSError(number, os.strerror(number))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a part of that path is a file"):
        prepare(DataConfig(corpus="markov", corpus_options={"num_tokens": 1000}), Cache(tmp_path / "file" / "cache"))


def test_a_damaged_token_file_is_named_and_made_anew(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataConfig(corpus=f"text:{folder}", context=8, val_fraction=0.3)
    prepare(data, Cache(tmp_path))
    path = next((tmp_path / "tokens").glob("*/train.bin"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    prepare(data, Cache(tmp_path))
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.read_bytes() == whole


def test_the_cache_folder_is_named_by_argument_then_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "named"))
    assert Cache().root == tmp_path / "named"
    assert Cache(tmp_path).root == tmp_path
    monkeypatch.delenv("ISOFLOP_CACHE")
    assert Cache().root.name == "isoflop"


def test_passages_join_to_the_text_and_stay_where_they_were_after_an_insertion() -> None:
    rng = np.random.default_rng(1)
    lines = [bytes(rng.integers(97, 123, size=60, dtype=np.uint8)) + b"\n" for _ in range(4000)]
    before = list(passages(b"".join(lines)))
    after = list(passages(b"".join([*lines[:2000], b"a new line\n", *lines[2000:]])))
    assert b"".join(before) == b"".join(lines)
    assert len(before) > 50
    assert len(set(before) - set(after)) <= 3


def test_cutting_never_ends_within_a_character() -> None:
    text = "aé€😀" * 5
    for size in range(1, len(text.encode()) + 2):
        part = cut(text.encode(), size)
        assert len(part) <= size
        if size >= 4:
            assert text.startswith(part.decode())


def test_a_missing_or_empty_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a file nor a folder"):
        resolve(DataConfig(corpus=f"text:{tmp_path / 'nowhere'}"), Cache(tmp_path))
    with pytest.raises(UserError, match=r"holds no .txt file"):
        resolve(DataConfig(corpus=f"text:{tmp_path}"), Cache(tmp_path))
