"""What a model costs, in words and numbers, from its config alone: the `describe` verb; torch-free."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from models.config.accounting import (
    count_params,
    forward_flops_per_token,
    memory_bytes,
    params_fit,
    params_non_embedding,
    params_total,
    training_flops,
    training_flops_6nd,
)
from models.config.assignments import parse_assignment
from models.config.presets import preset, preset_names, scaled_to
from models.config.published_counts import CONVENTIONS, count_by_convention
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.formatting import format_binary_bytes, format_size

TOKENS_PER_PARAMETER = 20.0
"""Tokens per parameter of compute-optimal training, rounded (Hoffmann et al. 2022, table 3)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `describe`."""
    parser.add_argument("preset", nargs="?", help=f"a published shape: {', '.join(preset_names())}")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the config")
    parser.add_argument(
        "--params", type=float, metavar="N", help="scale the preset's family to N parameters, as 1.8e12"
    )
    parser.add_argument("--batch-tokens", type=int, help="tokens held at a time (default: one sequence)")
    parser.add_argument(
        "--precision", default="bf16-mixed", help="precision of the memory estimate (default bf16-mixed)"
    )
    parser.add_argument(
        "--conventions", action="store_true", help="N and training FLOPs per token as papers and tools count them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def config_of(name: str | None, assignments: list[str], params: float | None) -> TransformerConfig:
    """Return the config of a preset with fields replaced, scaled to a number of parameters if one is given."""
    changes = dict(parse_assignment(assignment) for assignment in assignments)
    if name is None:
        missing = [field for field in ("vocab_size", "width", "depth", "num_heads", "context") if field not in changes]
        if missing:
            raise UserError(
                f"without a preset, give {', '.join(missing)} by --set; presets: {', '.join(preset_names())}"
            )
        config = TransformerConfig(**changes)
    else:
        config = preset(name).replace(**changes) if changes else preset(name)
    return config if params is None else scaled_to(config, params)


def description(
    config: TransformerConfig, *, batch_tokens: int | None = None, precision: str = "bf16-mixed"
) -> dict[str, Any]:
    """Return everything that `describe` prints, as plain numbers."""
    held = config.context if batch_tokens is None else batch_tokens
    tokens = TOKENS_PER_PARAMETER * params_total(config)
    return {
        "config": dataclasses.asdict(config),
        "params": {
            "total": params_total(config),
            "non_embedding": params_non_embedding(config),
            "fit": params_fit(config),
            "groups": count_params(config),
        },
        "forward_flops_per_token": forward_flops_per_token(config),
        "memory_bytes": {
            mode: memory_bytes(config, batch_tokens=held, precision=precision, mode=mode)
            for mode in ("training", "inference")
        },
        "compute_optimal": {
            "tokens": tokens,
            "flops": training_flops(config, tokens=tokens),
            "flops_6nd": training_flops_6nd(config, tokens=tokens),
        },
    }


def render(facts: dict[str, Any], title: str) -> str:
    """Return the description as aligned text."""
    params, flops, memory = facts["params"], facts["forward_flops_per_token"], facts["memory_bytes"]
    config, best = facts["config"], facts["compute_optimal"]
    lines = [
        title,
        f"  {config['family']}, width {config['width']}, depth {config['depth']}, heads {config['num_heads']}, "
        f"context {config['context']}, vocabulary {config['vocab_size']}, positions {config['positions']}",
        "",
        f"parameters                 {params['total']:>20,}  ({format_size(params['total'], digits=4)})",
        *(f"  {group:<24} {count:>20,}" for group, count in params["groups"].items() if count),
        f"  without tables and head  {params['non_embedding']:>20,}",
        "",
        f"forward FLOPs per token    {sum(flops.values()):>20,.0f}",
        *(f"  {part:<24} {count:>20,.0f}" for part, count in flops.items() if count),
    ]
    for mode, parts in memory.items():
        lines += ["", f"memory, {mode:<18} {format_binary_bytes(sum(parts.values())):>20}"]
        lines += [f"  {part:<24} {format_binary_bytes(count):>20}" for part, count in parts.items() if count]
    lines += [
        "",
        f"compute at {TOKENS_PER_PARAMETER:g} tokens per parameter",
        f"  tokens                   {format_size(best['tokens'], digits=4):>20}",
        f"  counted FLOPs            {best['flops']:>20.3e}",
        f"  6 N D                    {best['flops_6nd']:>20.3e}",
    ]
    return "\n".join(lines)


def counts(config: TransformerConfig) -> dict[str, Any]:
    """Return what `describe --conventions` prints: every convention's N and training FLOPs per token."""
    own = params_fit(config)
    return {
        name: {
            **dataclasses.asdict(count),
            "flops_over_6n": count.flops_per_token / (6 * own),
            "source": CONVENTIONS[name].source,
            "differs": CONVENTIONS[name].differs,
        }
        for name, count in count_by_convention(config).items()
    }


def render_counts(table: dict[str, Any], title: str) -> str:
    """Return every convention's counts as aligned text, with why they differ."""
    lines = [f"{title}, as others count it", "", f"{'':12}{'N':>18}{'FLOPs per token':>22}{'over 6 N of isoflop':>22}"]
    lines += [
        f"{name:12}{one['params']:>18,}{one['flops_per_token']:>22,}{one['flops_over_6n']:>22.4f}"
        for name, one in table.items()
    ]
    return "\n".join([*lines, "", *(f"{name}: {one['differs']} {one['source']}." for name, one in table.items())])


def run(args: argparse.Namespace) -> int:
    """Print the description that the arguments ask for."""
    config = config_of(args.preset, args.set, args.params)
    if args.conventions:
        table = counts(config)
        text = json.dumps(table, indent=1) if args.json else render_counts(table, args.preset or "a transformer")
        sys.stdout.write(text + "\n")
        return 0
    facts = description(config, batch_tokens=args.batch_tokens, precision=args.precision)
    title = args.preset or "a transformer"
    if args.params is not None:
        size = format_size(args.params, digits=4)
        title += f" scaled to {size} parameters (dense; a shape of this family, no published model"
        title += "; 1.8T is what is told of GPT-4, unconfirmed)" if abs(args.params / 1.8e12 - 1) < 0.1 else ")"
    sys.stdout.write((json.dumps(facts, indent=1) if args.json else render(facts, title)) + "\n")
    return 0
