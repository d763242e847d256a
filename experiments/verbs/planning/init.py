"""`init FILE --corpus CORPUS`: a commented sweep file for a corpus of one's own, sized to its tokens and one's time."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.places import SUFFIXES
from experiments.data.corpus import prepare
from experiments.data.tokenizers.json_file import tokenizer_file
from experiments.errors import UserError
from experiments.files import write_atomic
from experiments.formatting import duration
from experiments.machine.devices import find_devices
from experiments.planning.starter import plan_starter, sweep_text
from models.command_line import next_step
from models.formatting import format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `init`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file to write, such as mine.yaml")
    parser.add_argument(
        "--corpus",
        default="sotu",
        help="text:FOLDER, jsonl:FILE, parquet:FILE, hf:NAME or a name of `isoflop data list` (default: sotu)",
    )
    parser.add_argument("--tokenizer", default="bytes", help="bytes, bpe-SIZE or json:FILE (default: bytes)")
    parser.add_argument("--context", type=int, default=128, help="tokens per sequence (default: 128)")
    parser.add_argument("--minutes", type=float, default=15.0, help="time that the training may take (default: 15)")
    parser.add_argument("--workers", type=int, help="number of workers (default: one per core or GPU)")
    parser.add_argument(
        "--trial",
        action="store_true",
        help="the smallest grid, trained in a minute or two: it shows the whole path, with runs too short for a law",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE where it is there")


def run(args: argparse.Namespace) -> int:
    """Measure the corpus and write the file."""
    if args.file.suffix not in (".yaml", ".yml"):
        raise UserError(f"{args.file} is no sweep file; give a name that ends in .yaml")
    if args.file.exists() and not args.force:
        raise UserError(f"{args.file} is there already; give another name, or --force to replace it")
    if not 0 < args.minutes < 1e6:
        raise UserError(f"--minutes is {args.minutes:g}; give the minutes that the training may take, such as 15")
    devices = find_devices("auto", args.workers)
    try:
        data = DataConfig(corpus=args.corpus, tokenizer=args.tokenizer, context=args.context)
    except ValueError as error:
        raise UserError(str(error)) from None
    corpus = prepare(data, Cache())
    starter = plan_starter(
        corpus.data,
        num_train_tokens=corpus.num_train_tokens,
        seconds=60 * args.minutes * len(devices),
        kind=devices[0].kind,
        trial=args.trial,
    )
    write_atomic(args.file, sweep_text(starter, _seen_from(data, args.file.parent), args.file.stem))
    print(
        f"{args.file}: {starter.num_runs} runs on {format_size(corpus.num_train_tokens)} training tokens of "
        f"{data.corpus}, "
        f"at most about {duration(starter.seconds / len(devices))} on {len(devices)} {devices[0].kind} workers"
    )
    if starter.is_trial:
        print("a trial: its runs are too short for a law; leave --trial out for a study")
    print(next_step("plan", args.file))
    return 0


def _seen_from(data: DataConfig, folder: Path) -> DataConfig:
    """The corpus and the tokenizer with their paths as seen from the sweep file's folder."""
    place, file = Path(data.where).expanduser(), tokenizer_file(data.tokenizer)
    if data.info.name in SUFFIXES and not place.is_absolute():
        data = replace(data, corpus=f"{data.info.name}:{os.path.relpath(place, folder)}")
    if file is not None and not file.is_absolute():  # its path now holds from the sweep file's folder alone
        data = replace(data, tokenizer=f"json:{os.path.relpath(file, folder)}")
    return data
