"""Every verb with every kind of bad input: one sentence on standard error, exit status 2, and the store as it was.

The kinds are those that people meet: a misspelt name, a wrong type, a missing file, one that cannot be read, one that
is cut off, and a value that cannot be meant.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import isoflop

SWEEP = """
name: tiny
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design: {kind: ladder, tokens: [12800, 25600], shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
TABLE = "params,tokens,loss\n" + "\n".join(
    f"{n:g},{d:g},{1.7 + 400 / n**0.34 + 410 / d**0.28:.5f}" for n in (1e6, 3e6, 1e7, 3e7) for d in (2e7, 1e8, 5e8)
)


def tiny(old: str = "", new: str = "") -> str:
    """The tiny sweep with one text replaced by another, which must be there."""
    assert old in SWEEP
    return SWEEP.replace(old, new, 1)


def digests(root: Path) -> dict[str, str]:
    """Every file below `root` with a digest of its content."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a planned store, good files, and spoilt copies of each."""
    root = tmp_path_factory.mktemp("place")
    here = Path.cwd()
    os.chdir(root)
    earlier = os.environ.get("ISOFLOP_CACHE")
    os.environ["ISOFLOP_CACHE"] = str(root / "cache")
    (root / "good.yaml").write_text(SWEEP)
    (root / "runs.csv").write_text(TABLE)
    (root / "latin.yaml").write_bytes(SWEEP.replace("tiny", "größe").encode("latin-1"))
    (root / "latin.csv").write_bytes(TABLE.replace("loss", "größe").encode("latin-1"))
    (root / "cut.yaml").write_text(SWEEP[: SWEEP.index("shapes") + 12])
    (root / "folder").mkdir()
    (root / "empty").write_text("")
    (root / "words.csv").write_text(TABLE.replace(",2e+07,", ",2e+07,about "))
    (root / "header.csv").write_text(TABLE.splitlines()[0] + "\n")
    (root / "runs.parquet").write_bytes(b"PAR1 and then nothing")
    for number, (old, new) in enumerate(SPOILT_SWEEPS):
        (root / f"spoilt{number}.yaml").write_text(tiny(old, new))
    assert isoflop.main(["fit", "runs.csv", "--law", "hoffmann", "--out", "fit.json"]) == 0
    good = (root / "fit.json").read_text()
    (root / "cut.json").write_text(good[: len(good) // 2])
    (root / "other.json").write_text('{"schema": "isoflop.fit/1"}')
    (root / "list.json").write_text("[1, 2, 3]")
    (root / "without.json").write_text(good.replace('"params": {', '"parms": {'))
    sweeps = root / "sweeps"
    sweeps.mkdir()
    (sweeps / "broken.json").write_text('{"name": "broken", "runs": {"abc":')
    (sweeps / "odd.json").write_text('{"name": "odd", "runs": 7}')
    (root / "runs").mkdir()
    yield root
    os.chdir(here)
    if earlier is None:
        del os.environ["ISOFLOP_CACHE"]
    else:
        os.environ["ISOFLOP_CACHE"] = earlier


SPOILT_SWEEPS = [
    # a misspelt key or name
    ("corpus:", "corpos:"),
    ("markov", "markow"),
    ("kind: ladder", "kind: lader"),
    ("tokens: [", "tokkens: ["),
    ("recipe:", "recepie:"),
    ("learning_rate", "learning_rat"),
    ("width: 8,", "widht: 8,"),
    ("name: tiny", "name: tiny\nschedule: {name: cosin}"),
    ("name: tiny", "name: tiny\nvary: {schedule.name: [wsd, cosin]}"),
    ("name: tiny", "name: tiny\nvary: {modl.norm: [layernorm]}"),
    ("name: tiny", "name: tiny\nmodel: {positions: rotery}"),
    ("name: tiny", "name: tiny\nmodel: {family: decodr}"),
    ("name: tiny", "name: tiny\nobjective: {name: cau}"),
    ("name: tiny", "name: tiny\nschedule: {decay_shape: exp}"),
    ("name: tiny", "name: tiny\nreport: {law: nolaw}"),
    ("name: tiny", "name: tiny\nprecision: bf17"),
    # a wrong type
    ("[12800, 25600]", "many"),
    ("[12800, 25600]", "12800"),
    ("width: 8,", "width: wide,"),
    ("width: 8,", "width: 8.5,"),
    ("0.01", "fast"),
    ("0.01", "[0.01]"),
    ("batch_tokens: 256", "batch_tokens: {a: 1}"),
    ("{corpus: markov", "[corpus, markov"),
    ("shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}]", "shapes: {width: 8}"),
    ("name: tiny", "name: [tiny]"),
    ("name: tiny", "name: tiny\nmodel: {dropout: high}"),
    ("name: tiny", "name: tiny\nseeds: zero"),
    ("context: 32", "context: null"),
    # a value that cannot be meant
    ("[12800, 25600]", "[]"),
    ("[12800, 25600]", "[-1]"),
    ("[12800, 25600]", "[.nan]"),
    ("[12800, 25600]", "[.inf]"),
    ("width: 8,", "width: 0,"),
    ("width: 8,", "width: -8,"),
    ("depth: 1}, {", "depth: 0}, {"),
    ("head_width: 8", "head_width: 0"),
    ("0.01", "-0.001"),
    ("0.01", ".nan"),
    ("learning_rate: 0.01", "learning_rate: 0.01, rate_scale: 0"),
    ("learning_rate: 0.01", "learning_rate: 0.01, rate_scale: -1"),
    ("learning_rate: 0.01", "learning_rate: 0.01, weight_decay: -1"),
    ("learning_rate: 0.01", "learning_rate: 0.01, grad_clip: -1"),
    ("learning_rate: 0.01", "learning_rate: 0.01, warmup_tokens: -5"),
    ("batch_tokens: 256", "batch_tokens: -64"),
    ("name: tiny", "name: tiny\nschedule: {decay_fraction: -1}"),
    ("name: tiny", "name: tiny\nschedule: {decay_fraction: .nan}"),
    ("name: tiny", "name: tiny\nschedule: {final_fraction: 2}"),
    ("name: tiny", "name: tiny\nmodel: {dropout: 1.5}"),
    ("name: tiny", "name: tiny\nseeds: [-1]"),
    ("name: tiny", "name: ../tiny"),
    ("context: 32", "context: 0"),
    ("context: 32", "context: -32"),
    ("val_size: 4096", "val_size: 0"),
    ("num_symbols: 8", "num_symbols: 1"),
    ("num_tokens: 65536", "num_tokens: -1"),
    ("[12800, 25600]", "[1e15]"),
]

SWEEP_FILES = ["absent.yaml", "latin.yaml", "folder", "empty", "cut.yaml"]
MANIFESTS = [
    "absent",
    "sweeps/absent.json",
    "sweeps/broken.json",
    "sweeps/odd.json",
    "latin.yaml",
    "folder",
    "cut.yaml",
]
TABLES = ["absent.csv", "latin.csv", "folder", "empty", "words.csv", "header.csv", "runs.parquet", "sweeps/broken.json"]
FITS = ["absent.json", "folder", "empty", "cut.json", "other.json", "list.json", "without.json", "runs.csv"]

CASES: list[list[str]] = [
    *(["plan", file] for file in SWEEP_FILES),
    *(["plan", f"spoilt{number}.yaml"] for number in range(len(SPOILT_SWEEPS))),
    ["plan", "good.yaml", "--design.tokns=[1]"],
    ["plan", "good.yaml", "--design.tokens=many"],
    ["plan", "good.yaml", "--nonsense"],
    ["plan", "good.yaml", "--device", "tpu"],
    *(["plan", "good.yaml", "--workers", number] for number in ("-1", "0", "many")),
    *(["run", file] for file in SWEEP_FILES),
    *(["run", f"spoilt{number}.yaml", "--wandb", "off"] for number in range(0, len(SPOILT_SWEEPS), 3)),
    *(["run", "good.yaml", "--wandb", "off", "--workers", number] for number in ("-1", "0", "many")),
    ["run", "good.yaml", "--wandb", "sometimes"],
    ["run", "good.yaml", "--wandb", "off", "--devices-per-run", "0"],
    ["run", "good.yaml", "--wandb", "off", "--checkpoint-seconds", "-3"],
    ["run", "good.yaml", "--wandb", "off", "--store", "empty"],
    *(["work", name] for name in MANIFESTS),
    *(["status", name] for name in MANIFESTS),
    *(["cancel", name] for name in MANIFESTS),
    *(["collect", name, "--out", "out.csv"] for name in MANIFESTS),
    ["collect", "sweeps/absent.json"],
    *(["sync", name] for name in MANIFESTS),
    ["prune", "--store", "absent"],
    ["prune", "--store", "empty"],
    *(["generate", name] for name in ("absent", "0123456789ab", "../runs", "")),
    ["generate", "absent", "--temperature", "0"],
    ["generate", "absent", "--tokens", "-4"],
    ["data"],
    ["data", "describe", "corpos"],
    ["data", "describe", "text:absent/"],
    ["data", "describe", "parquet:runs.parquet"],
    ["data", "describe", "jsonl:runs.csv"],
    ["data", "fetch", "corpos"],
    ["describe", "gpt5"],
    ["describe"],
    ["describe", "gpt2", "--params", "-1"],
    ["describe", "gpt2", "--params", "many"],
    *(["fit", file, "--law", "hoffmann"] for file in TABLES),
    ["fit", "runs.csv", "--law", "hofmann"],
    ["fit", "runs.csv", "--law", "hoffmann", "--seed", "-1"],
    ["fit", "runs.csv", "--law", "hoffmann", "--bootstrap", "-1"],
    ["fit", "runs.csv", "--law", "hoffmann", "--bootstrap", "few"],
    ["fit", "runs.csv", "--law", "hoffmann", "--level", "2"],
    ["fit", "runs.csv", "--law", "hoffmann", "--level", "nan"],
    ["fit", "runs.csv", "--law", "hoffmann", "--delta", "-1"],
    ["fit", "runs.csv", "--law", "hoffmann", "--columns", "params"],
    ["fit", "runs.csv", "--law", "hoffmann", "--columns", "params=Nn"],
    ["fit", "runs.csv", "--law", "hoffmann", "--where", "params >"],
    ["fit", "runs.csv", "--law", "hoffmann", "--where", "__import__('os')"],
    ["fit", "runs.csv", "--law", "hoffmann", "--where", "params < 0"],
    ["fit", "runs.csv", "--law", "hoffmann", "--cluster", "colour"],
    ["fit", "runs.csv", "--law", "hoffmann", "--weights", "colour"],
    ["fit", "runs.csv", "--law", "hoffmann", "--drop-largest-losses", "99"],
    ["fit", "runs.csv", "--law", "hoffmann", "--drop-largest-losses", "-1"],
    *(["predict", file, "--at", "params=1e9,tokens=2e10"] for file in FITS),
    ["predict", "fit.json"],
    ["predict", "fit.json", "--at", "params=1e9"],
    ["predict", "fit.json", "--at", "params=big,tokens=2e10"],
    ["predict", "fit.json", "--at", "params=-1,tokens=2e10"],
    ["predict", "fit.json", "--at", "params=nan,tokens=2e10"],
    *(["predict", "fit.json", "--table", file] for file in TABLES if file != "words.csv"),
    *(["isoflop", file] for file in TABLES),
    ["isoflop", "runs.csv", "--method", "line"],
    ["isoflop", "runs.csv", "--level", "0"],
    *(["select", file] for file in TABLES),
    *(["tasks", file, "--errors", "err_*", "--holdout", "params > 1e9"] for file in TABLES),
    ["tasks", "runs.csv", "--errors", "err_*", "--holdout", "params > 1e7"],
    ["tasks", "runs.csv", "--errors", "L", "--holdout", "params > 1e99"],
    ["tasks", "runs.csv", "--errors", "loss", "--holdout", "params > 1e7", "--law", "hofmann"],
    ["select", "runs.csv", "--laws", "hofmann"],
    ["select", "runs.csv", "--holdout", "params > 1e99"],
    *(["compare", file] for file in TABLES),
    *(["frontier", file] for file in TABLES),
    *(["advise", file, "--budget", "1e21"] for file in FITS),
    ["advise", "fit.json"],
    ["advise", "fit.json", "--budget", "-1"],
    ["advise", "fit.json", "--budget", "inf"],
    ["advise", "fit.json", "--budget", "1e21", "--at", "flops=much"],
    ["advise", "fit.json", "--budget", "1e21", "--template", "absent.yaml"],
    ["advise", "fit.json", "--budget", "1e21", "--template", "latin.yaml"],
    *(["report", file, "--out", "out"] for file in TABLES),
    ["report", "sweeps/odd.json", "--out", "out"],
    ["report", "runs.csv", "--out", "out", "--law", "hofmann"],
    ["report", "runs.csv", "--out", "out", "--seed", "-1"],
    *(["arms", name, "--arm", "model.positions"] for name in MANIFESTS),
    *(["rates", name] for name in MANIFESTS),
    ["laws", "hofmann"],
    ["published", "--data", "absent"],
    ["published", "--data", "empty"],
    ["published", "--sections", "epok"],
    ["publish"],
    [],
    # what is asked of a first study, of a tokenizer's file, and of a part of a sweep
    ["init"],
    ["init", "mine.txt"],
    ["init", "good.yaml"],
    ["init", "mine.yaml", "--corpus", "corpos"],
    ["init", "mine.yaml", "--corpus", "text:absent/"],
    ["init", "mine.yaml", "--corpus", "text:*.rst"],
    ["init", "mine.yaml", "--corpus", "jsonl:runs.csv"],
    ["init", "mine.yaml", "--minutes", "0"],
    ["init", "mine.yaml", "--minutes", "soon"],
    ["init", "mine.yaml", "--tokenizer", "word"],
    ["init", "mine.yaml", "--tokenizer", "json:absent.json"],
    ["init", "mine.yaml", "--tokenizer", "json:list.json"],
    ["init", "mine.yaml", "--context", "0"],
    ["plan", "good.yaml", "--data.corpus=text:absent"],
    ["plan", "good.yaml", "--report.holdout=flop > 3"],
    ["plan", "good.yaml", "--seeds=[0]", "--seeds=[1]"],
    ["plan", "good.yaml", "--seeds"],
    ["plan", "good.yaml", "--store", "empty"],
    ["run", "good.yaml", "--wandb", "off", "-k", "heldout"],
    ["run", "good.yaml", "--wandb", "off", "-k", ""],
    ["run", "good.yaml", "--launcher", "slurm", "--dry-run", "-k", "fit"],
    ["run", "good.yaml", "--launcher", "slurm", "--dry-run", "-x"],
    ["prune"],
    ["prune", "--grace-hours", "-1"],
    ["prune", "--grace-hours", "nan"],
    ["status", "--store", "absent"],
    ["list", "--store", "absent"],
    ["help", "config", "nothing"],
    ["help", "cofnig"],
    ["fit", "runs.csv", "--law", "hoffmann", "--columns", "parms=params"],
    ["fit", "runs.csv", "--law", "hoffmann", "--law", "kaplan"],
    ["predict", "fit.json", "--at", "params=1e9,tokens=2e10", "--at", "params=1e10,tokens=2e10"],
    ["compare", "runs.csv", "--simulations", "-3"],
    ["advise", "fit.json", "--at", "flops=1e22", "--budget", "1"],
]


@pytest.mark.parametrize("words", CASES, ids=lambda words: " ".join(words) or "nothing")
def test_bad_input_is_refused_in_one_sentence_and_loses_nothing(
    words: list[str], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = digests(place / "sweeps") | digests(place / "runs")
    capfd.readouterr()
    try:
        status = isoflop.main(words)
    except SystemExit as end:  # argparse's own way out
        status = end.code if isinstance(end.code, int) else 1
    told = capfd.readouterr().err
    assert status == 2, told
    errors = [line for line in told.splitlines() if "error: " in line]
    assert len(errors) == 1, told
    assert "Traceback" not in told
    assert len(errors[0]) > 15
    assert digests(place / "sweeps") | digests(place / "runs") == before


def test_bad_input_of_a_process_is_a_sentence_too(place: Path) -> None:
    command = [sys.executable, "-m", "isoflop", "plan", str(place / "spoilt7.yaml")]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 2
    assert told.stderr.startswith("error: ")
    assert "Traceback" not in told.stderr
