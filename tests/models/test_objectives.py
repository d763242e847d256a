"""The laws of the objectives: what is taken out can be put back, in the stated amounts, from the seed alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.config.objective import FAMILY_OF, ObjectiveConfig, ObjectiveName, lengths
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.lit import LitTransformer
from models.objectives import composition, hashes, make_examples, mix, mix_number, row_keys

NAMES: tuple[ObjectiveName, ...] = ("masked", "span", "infilling")


def stream(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (batch, length + 1), generator=torch.Generator().manual_seed(seed))


def put_back(source: list[int], target: list[int], objective: ObjectiveConfig) -> list[int]:
    """Replace each sentinel of a source by what follows it in the target."""
    spans: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token >= objective.first_sentinel:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    return [out for token in source for out in spans.get(token, [token])]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 90), st.floats(0.05, 0.9), st.floats(1, 8), st.integers(0, 9))
def test_span_corruption_loses_nothing(length: int, fraction: float, mean_span: float, seed: int) -> None:
    objective = ObjectiveConfig(name="span", noise_fraction=fraction, mean_span=mean_span, seed=seed)
    tokens_BT, counts = stream(3, length, seed), lengths(objective, length)
    examples = make_examples(tokens_BT, objective)
    assert examples.source_BS is not None
    assert examples.source_BS.shape == (3, counts.source)
    assert examples.targets_BT.shape == (3, counts.target)
    assert (examples.inputs_BT[:, 1:] == examples.targets_BT[:, :-1]).all()
    assert (examples.inputs_BT[:, 0] == objective.start_id).all()
    assert (examples.targets_BT[:, -1] == objective.end_id).all()
    rows = zip(examples.source_BS.tolist(), examples.targets_BT.tolist(), tokens_BT[:, :-1].tolist(), strict=True)
    for source, target, original in rows:
        assert put_back(source, target, objective) == original
        sentinels = [token for token in source if token >= objective.first_sentinel]
        assert sentinels == list(range(objective.first_sentinel, objective.first_sentinel + counts.spans))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 90), st.floats(0.05, 0.9), st.integers(0, 9))
def test_infilling_keeps_the_other_tokens_in_order_and_predicts_all(length: int, fraction: float, seed: int) -> None:
    objective = ObjectiveConfig(name="infilling", noise_fraction=fraction, seed=seed)
    tokens_BT, counts = stream(3, length, seed), lengths(objective, length)
    examples = make_examples(tokens_BT, objective)
    assert examples.source_BS is not None
    assert torch.equal(examples.targets_BT, tokens_BT[:, :-1])
    for source, original in zip(examples.source_BS.tolist(), tokens_BT[:, :-1].tolist(), strict=True):
        kept = [token for token in source if token != objective.mask_id]
        assert len(source) - len(kept) == counts.spans
        assert len(kept) == length - counts.noise
        rest = iter(original)
        assert all(token in rest for token in kept)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 90), st.floats(0.05, 0.9), st.integers(0, 9))
def test_masked_positions_alone_change_and_alone_count(length: int, fraction: float, seed: int) -> None:
    objective = ObjectiveConfig(name="masked", noise_fraction=fraction, seed=seed)
    tokens_BT = stream(3, length, seed)
    examples = make_examples(tokens_BT, objective)
    assert examples.mask_BT is not None
    assert (examples.mask_BT.sum(1) == lengths(objective, length).noise).all()
    assert torch.equal(examples.targets_BT, tokens_BT[:, :-1])
    assert torch.equal(examples.inputs_BT[~examples.mask_BT], tokens_BT[:, :-1][~examples.mask_BT])


def test_masked_tokens_are_hidden_swapped_and_kept_in_the_stated_fractions() -> None:
    objective = ObjectiveConfig(name="masked")
    tokens_BT = stream(400, 400)
    examples = make_examples(tokens_BT, objective)
    assert examples.mask_BT is not None
    shown, real = examples.inputs_BT[examples.mask_BT], examples.targets_BT[examples.mask_BT]
    num = len(shown)
    assert num == 400 * 60
    hidden, kept = (shown == objective.mask_id).sum().item() / num, (shown == real).sum().item() / num
    assert hidden == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / 256, abs=0.01)
    position_T = examples.mask_BT.float().mean(0)
    assert position_T.std().item() < 2 * (0.15 * 0.85 / 400) ** 0.5


def test_infilling_spans_are_poisson_given_their_total() -> None:
    objective = ObjectiveConfig(name="infilling", noise_fraction=0.3)
    tokens_BT = stream(500, 200)
    examples = make_examples(tokens_BT, objective)
    counts = lengths(objective, 200)
    assert (counts.noise, counts.spans) == (60, 20)
    assert examples.source_BS is not None
    source = examples.source_BS[0].tolist()
    assert source.count(objective.mask_id) == 20


@pytest.mark.parametrize(("total", "parts"), [(6, 3), (5, 1), (4, 4), (7, 2)])
def test_compositions_are_uniform(total: int, parts: int) -> None:
    keys_B1 = row_keys(stream(6000, 8), 1, 0)
    sizes_BP = composition(hashes(keys_B1, total - 1)[0], parts)
    assert (sizes_BP.sum(1) == total).all()
    assert (sizes_BP >= 1).all()
    _, counts = sizes_BP.unique(dim=0, return_counts=True)
    expected = 6000 / len(counts)
    assert ((counts - expected) ** 2 / expected).sum().item() < len(counts) + 5 * (2 * len(counts)) ** 0.5


def test_a_number_is_mixed_as_a_tensor_is() -> None:
    numbers = [0, 1, -1, 12345, (1 << 63) - 1, -(1 << 63)]
    assert mix(torch.tensor(numbers)).tolist() == [mix_number(number) for number in numbers]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_taken_out_depends_on_the_sequence_the_seed_and_the_step_alone(name: ObjectiveName) -> None:
    objective, tokens_BT = ObjectiveConfig(name=name), stream(6, 40)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    whole = make_examples(tokens_BT, objective)
    assert torch.equal(state, torch.get_rng_state())
    part = make_examples(tokens_BT[[4, 1]], objective)
    for whole_rows, part_rows in ((whole.inputs_BT, part.inputs_BT), (whole.source_BS, part.source_BS)):
        if whole_rows is not None and part_rows is not None:
            assert torch.equal(whole_rows[[4, 1]], part_rows)
    later, other = (
        make_examples(tokens_BT, objective, step=1),
        make_examples(tokens_BT, ObjectiveConfig(name=name, seed=1)),
    )
    for changed in (later, other):
        assert not all(
            torch.equal(a, b)
            for a, b in ((whole.inputs_BT, changed.inputs_BT), (whole.source_BS, changed.source_BS))
            if a is not None and b is not None
        )


def make_module(name: ObjectiveName) -> LitTransformer:
    vocab = 264 + 16 if name == "span" else 264
    model = TransformerConfig(
        family=FAMILY_OF[name], vocab_size=vocab, width=32, depth=1, num_heads=2, context=32, positions="sinusoidal"
    )
    return LitTransformer(
        model=model,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**6,
        batch_tokens=8 * 32,
        seed=1,
        objective=ObjectiveConfig(name=name),
    )


@pytest.mark.parametrize("name", ["causal", *NAMES])
def test_every_objective_trains_and_validates_its_family(name: ObjectiveName) -> None:
    module = make_module(name)
    optimizer = module.configure_optimizers()
    batch = torch.arange(8)[:, None] * 3 + torch.arange(33)[None] % 7
    first_BT, mask_BT = module.losses_and_mask(batch)
    for step in range(30):
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        module.clip_gradients_()
        optimizer.step()
    last_BT, _ = module.losses_and_mask(batch)
    assert first_BT.shape == mask_BT.shape
    assert last_BT[mask_BT].mean() < 0.7 * first_BT[mask_BT].mean()


def test_an_objective_that_cannot_work_says_why() -> None:
    with pytest.raises(UserError, match="trains the family 'encoder'"):
        LitTransformer(
            model=TransformerConfig(vocab_size=264, width=16, depth=1, num_heads=2, context=8),
            optimizer=OptimizerConfig(),
            schedule=ScheduleConfig(name="constant"),
            total_tokens=10,
            batch_tokens=8,
            seed=0,
            objective=ObjectiveConfig(name="masked"),
        )
    with pytest.raises(UserError, match="did you mean 'masked'"):
        ObjectiveConfig(name="mask")  # type: ignore[arg-type]  # refused on purpose
