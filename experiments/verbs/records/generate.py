"""`generate RUN --prompt TEXT`: let a trained run continue a text."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.store.store import RunStore
from experiments.store.weights import WEIGHTS, read_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `generate`."""
    parser.add_argument("run_id", metavar="RUN", help="run_id of a finished run, or the first digits of it")
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument("--prompt", default="", help="text to continue")
    parser.add_argument("--tokens", type=int, default=200, help="new tokens at most")
    parser.add_argument("--method", choices=("sample", "greedy", "beam"), default="sample", help="default: sample")
    parser.add_argument("--temperature", type=float, default=0.8, help="divides the logits before sampling")
    parser.add_argument("--top-k", type=int, help="sample among the k likeliest tokens")
    parser.add_argument("--top-p", type=float, help="sample among the likeliest tokens of this total probability")
    parser.add_argument("--seed", type=int, default=0, help="seed of sampling")


def run(args: argparse.Namespace) -> int:
    """Print the prompt and its continuation."""
    store = RunStore(args.store)
    matches = sorted(path.name for path in store.runs.glob(f"{args.run_id}*"))
    if len(matches) != 1:
        found = f"it matches {', '.join(matches[:4])}" if matches else "the store holds no such run"
        raise UserError(
            f"run {args.run_id!r} in {store.root.resolve()}: {found}; `isoflop list` names the sweeps, and `isoflop "
            "status SWEEP` their runs"
        )
    config = store.read_config(matches[0])
    weights = store.run_folder(matches[0]) / WEIGHTS
    content = read_weights(store, matches[0])
    if config.data.is_language:
        raise UserError(f"run {matches[0]} was trained on tokens of {config.data.corpus!r}, which are no text")

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from experiments.data.tokenizers.tokenizer import EOD, load_tokenizer
    from models.generation import GenerationConfig, generate
    from models.modules.transformer import Transformer

    model = Transformer(config.model, seed=config.seed)
    try:
        model.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:  # no safetensors, or another model's
        reason = str(error).splitlines()[0].rstrip(":")
        raise UserError(f"{weights} does not hold the weights of this run ({reason}); train it again") from error
    tokenizer = load_tokenizer(config.data, Cache())
    (prompt,) = tokenizer.encode([args.prompt.encode()])
    torch.manual_seed(args.seed)
    result = generate(
        model,
        torch.tensor([[EOD, *map(int, prompt)]]),
        GenerationConfig(
            method=args.method,
            max_new_tokens=args.tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            end_id=EOD,
        ),
    )
    new = [int(token) for token in result.tokens_BT[0, : int(result.lengths_B[0])] if int(token) != EOD]
    print(args.prompt + tokenizer.decode(new).decode("utf-8", errors="replace"))
    return 0
