"""What is predicted from a batch of tokens: inputs, targets and which positions count; knows no model and no optimiser.

What is taken out of a sequence is a pure function of (objective's seed, step, the sequence's own tokens), by integer
hashing instead of a generator: the same on every device, in every batch that holds the sequence, and after a restart.
Shapes: B batch, T tokens, S source tokens, N noise tokens, P spans.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config.objective import ObjectiveConfig, lengths


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a model reads and what it must predict."""

    inputs_BT: Tensor
    """Token ids that the model (the decoder, where there are two sides) reads."""
    targets_BT: Tensor
    """Token ids to predict at each position."""
    mask_BT: Tensor | None = None
    """True where a position counts; None: everywhere."""
    source_BS: Tensor | None = None
    """Token ids that the encoder of an encoder-decoder reads."""

    def predicted(self) -> tuple[Tensor | None, Tensor]:
        """Return which of the B T positions are predicted, (N,), None where all are; and their ids, (N,)."""
        if self.mask_BT is None:
            return None, self.targets_BT.flatten()
        places_N = self.mask_BT.flatten().nonzero()[:, 0]
        return places_N, self.targets_BT.flatten()[places_N]


def make_examples(tokens_BT: Tensor, objective: ObjectiveConfig, *, step: int = 0) -> Examples:
    """Return the examples that an objective makes of (B, T + 1) token ids.

    Causal LM reads the first T and predicts the last T; the others take the first T tokens. `step` varies what is taken
    out of a sequence that is seen again; validation keeps it at zero.
    """
    if objective.name == "causal":
        return Examples(inputs_BT=tokens_BT[:, :-1], targets_BT=tokens_BT[:, 1:])
    make = {"masked": masked, "span": span_corruption, "infilling": infilling}[objective.name]
    return make(tokens_BT[:, :-1].contiguous(), objective, step)


def masked(tokens_BT: Tensor, objective: ObjectiveConfig, step: int) -> Examples:
    """Return masked-LM examples: a fixed number of positions, shown as mask, as a random token or as they are."""
    length = tokens_BT.shape[1]
    counts, keys_B1 = lengths(objective, length), row_keys(tokens_BT, objective.seed, step)
    order_BT, fate_BT, random_BT = hashes(keys_B1, length, length, length)
    chosen_BT = smallest(order_BT, counts.noise)
    fate_BT = uniforms(fate_BT)
    hidden_BT = chosen_BT & (fate_BT < objective.mask_fraction)
    swapped_BT = (chosen_BT & (fate_BT < objective.mask_fraction + objective.random_fraction)).bitwise_xor_(hidden_BT)
    inputs_BT = torch.where(swapped_BT, random_BT.remainder(objective.num_ordinary), tokens_BT)
    return Examples(
        inputs_BT=inputs_BT.masked_fill_(hidden_BT, objective.mask_id), targets_BT=tokens_BT, mask_BT=chosen_BT
    )


def span_corruption(tokens_BT: Tensor, objective: ObjectiveConfig, step: int) -> Examples:
    """Return T5's examples: spans of at least one token, apart from each other, each replaced by its own sentinel.

    Kept and taken tokens are cut into as many non-empty parts each, uniformly at random, and alternate; the sequence
    begins with a kept part and ends with a taken one. Source and target are written into one row, side by side.
    """
    batch, length = tokens_BT.shape
    counts, keys_B1 = lengths(objective, length), row_keys(tokens_BT, objective.seed, step)
    kept_hashes, taken_hashes = hashes(keys_B1, length - counts.noise - 1, counts.noise - 1)
    kept_BP, taken_BP = composition(kept_hashes, counts.spans), composition(taken_hashes, counts.spans)
    kept_ends_BP, taken_ends_BP = kept_BP.cumsum(1), taken_BP.cumsum(1)
    starts_BP = kept_ends_BP + taken_ends_BP - taken_BP
    edges_BT = torch.zeros(batch, length + 1, dtype=torch.long, device=tokens_BT.device)
    span_BT = edges_BT.scatter_(1, starts_BP, 1)[:, :-1].cumsum(1)  # spans that have begun, this one included
    taken_BT = span_BT > edges_BT.zero_().scatter_(1, kept_ends_BP + taken_ends_BP, 1)[:, :-1].cumsum(1)
    taken_so_far_BT = taken_BT.cumsum(1)
    position_T, order_P = positions(length, tokens_BT.device), positions(counts.spans, tokens_BT.device)
    num_source = length - counts.noise + counts.spans
    # A kept token stands after the kept tokens and the sentinels before it, a taken one likewise in the target.
    slot_BT = torch.where(taken_BT, taken_so_far_BT + (num_source - 1), position_T - taken_so_far_BT) + span_BT
    sentinel_places = ((kept_ends_BP + order_P), (taken_ends_BP - taken_BP + order_P + num_source))
    out = torch.full(
        (batch, num_source + counts.target), objective.end_id, dtype=tokens_BT.dtype, device=tokens_BT.device
    )
    out.scatter_(1, slot_BT, tokens_BT)
    sentinels = (order_P + objective.first_sentinel).to(tokens_BT.dtype).repeat(batch, 2)
    out.scatter_(1, torch.cat(sentinel_places, 1), sentinels)
    source_BS, targets_BT = out[:, :num_source], out[:, num_source:]
    return Examples(inputs_BT=shifted(targets_BT, objective.start_id), targets_BT=targets_BT, source_BS=source_BS)


def infilling(tokens_BT: Tensor, objective: ObjectiveConfig, step: int) -> Examples:
    """Return BART's examples: spans, each replaced by one mask token, an empty one inserting a mask; all is predicted.

    Span lengths are Poisson given that they add up to the noise, which is the multinomial distribution, so that every
    sequence has as many masks and as many tokens left.
    """
    batch, length = tokens_BT.shape
    counts, keys_B1 = lengths(objective, length), row_keys(tokens_BT, objective.seed, step)
    owner_BN, gap_BP = hashes(keys_B1, counts.noise, counts.spans)
    owner_BN = owner_BN.remainder(counts.spans)
    taken_BP = torch.zeros(batch, counts.spans, dtype=torch.long, device=tokens_BT.device)
    taken_BP.scatter_add_(1, owner_BN, torch.ones_like(owner_BN))
    gap_BP = gap_BP.remainder(length - counts.noise + 1).sort(dim=1).values
    starts_BP = gap_BP + taken_BP.cumsum(1) - taken_BP
    # Kept tokens stand after those before them and the masks so far; taken ones go to an extra column, cut off.
    span_BT = counted(starts_BP, length)[:, :-1].cumsum(1)
    taken_BT = span_BT > counted(starts_BP + taken_BP, length)[:, :-1].cumsum(1)
    num_source = length - counts.noise + counts.spans
    position_T = positions(length, tokens_BT.device)
    slot_BT = (position_T - taken_BT.cumsum(1) + span_BT).masked_fill_(taken_BT, num_source)
    source_BS = torch.full(
        (batch, num_source + 1), objective.mask_id, dtype=tokens_BT.dtype, device=tokens_BT.device
    ).scatter_(1, slot_BT, tokens_BT)[:, :-1]
    return Examples(inputs_BT=shifted(tokens_BT, objective.start_id), targets_BT=tokens_BT, source_BS=source_BS)


def shifted(targets_BT: Tensor, start_id: int) -> Tensor:
    """Return the decoder's input: the start token, then all targets but the last."""
    inputs_BT = targets_BT.roll(1, dims=1)
    inputs_BT[:, 0] = start_id
    return inputs_BT


def composition(hashes_BT: Tensor, parts: int) -> Tensor:
    """Return (B, parts) positive numbers that add up to T + 1, uniform over all ways to do so, from (B, T) hashes."""
    cuts_BT = smallest(hashes_BT, parts - 1)
    part_BT = torch.nn.functional.pad(cuts_BT.cumsum(1), (1, 0))
    return counted(part_BT, parts - 1)


def counted(places_BN: Tensor, length: int) -> Tensor:
    """Return (B, length + 1): how often each of 0..length occurs in a row."""
    counts_BT = torch.zeros(places_BN.shape[0], length + 1, dtype=torch.long, device=places_BN.device)
    return counts_BT.scatter_add_(1, places_BN, torch.ones_like(places_BN))


def smallest(values_BT: Tensor, count: int) -> Tensor:
    """Return (B, T): True at the `count` smallest values of each row, by value and then by position."""
    chosen_BT = torch.zeros_like(values_BT, dtype=torch.bool)
    return chosen_BT.scatter_(1, values_BT.argsort(dim=1, stable=True)[:, :count], True)


def row_keys(tokens_BT: Tensor, seed: int, step: int) -> Tensor:
    """Return one (B, 1) key for each row from its tokens, the seed and the step."""
    content_B1 = mix(tokens_BT + ordinals(tokens_BT.shape[1], tokens_BT.device)).sum(1, keepdim=True)
    return mix(content_B1.bitwise_xor_(mix_number(seed * 1_000_003 + step)))


def hashes(keys_B1: Tensor, *counts: int) -> list[Tensor]:
    """Return uniform integers in [0, 2^62), (B, count) for each of the counts, independent of each other."""
    numbers = mix(keys_B1 + counters(counts, keys_B1.device)).bitwise_and_((1 << 62) - 1)
    return list(numbers.split(counts, dim=1))


@functools.lru_cache(maxsize=64)
def counters(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the mixed numbers of all streams' positions, kept between steps; streams are numbered from 1."""
    parts = [positions(count, device) + (stream << 40) for stream, count in enumerate(counts, start=1)]
    return mix(torch.cat(parts))


@functools.lru_cache(maxsize=64)
def positions(count: int, device: torch.device) -> Tensor:
    """Return 0..count-1, kept between steps."""
    return torch.arange(count, device=device)


@functools.lru_cache(maxsize=64)
def ordinals(count: int, device: torch.device) -> Tensor:
    """Return 1..count above the bits of a token, kept between steps."""
    return (positions(count, device) + 1) << 32


def uniforms(hashes_BT: Tensor) -> Tensor:
    """Return uniform float32 numbers in [0, 1) of hashes."""
    return (hashes_BT >> 38).float().mul_(2.0**-24)


GOLDEN, FIRST, SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685
"""Constants of splitmix64 as signed numbers."""


def mix(x: Tensor) -> Tensor:
    """Return the finaliser of splitmix64 (Steele et al. 2014) of int64 numbers, modulo 2^64."""
    x = x + GOLDEN
    x = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(FIRST)
    x = (x >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(x).mul_(SECOND)
    return (x >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(x)


def mix_number(x: int) -> int:
    """Return `mix` of one number, as a signed one."""
    whole = (1 << 64) - 1
    x = (x + GOLDEN) & whole
    x = ((x >> 30) ^ x) * FIRST & whole
    x = ((x >> 27) ^ x) * SECOND & whole
    x = (x >> 31) ^ x
    return x - (1 << 64) if x >> 63 else x
