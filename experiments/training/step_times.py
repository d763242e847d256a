"""How long a training step takes by one execution or another, in interleaved rounds of this process.

Every arm trains a model of its own on random tokens. On a CPU of one thread it is the process's CPU time that counts,
so that other jobs disturb little; else wall time. It must not know stores or sweeps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from lightning.fabric import Fabric

from experiments.config.run import RunConfig
from experiments.distributed.ranks import ALONE
from experiments.distributed.sharding import make_fabric, set_up
from experiments.machine.choices import ExecutionChoices
from models.lit import LitTransformer
from models.modules.attention import set_attention_backend
from models.stack import Stack

MIN_ROUNDS = 4
"""Interleaved rounds below which nothing is said."""
MAX_ROUNDS = 40
"""Rounds beyond which more would not help."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to execute the steps of a run."""

    name: str
    """Value of the field that is compared; the default's arm is named default."""
    config: RunConfig
    """What is trained."""
    choices: ExecutionChoices = field(default_factory=ExecutionChoices)
    """How."""
    threads: int = 1
    """Threads of this process during its steps."""
    members: int = 1
    """Runs that are trained together; a step counts for each of them."""


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Seconds of a step of one run, by arm and round."""

    seconds: Mapping[str, Sequence[float]]
    """Arm -> one number a round."""
    first_seconds: Mapping[str, float]
    """Arm -> wall time of its first two steps."""

    @property
    def num_rounds(self) -> int:
        """Rounds that all arms took."""
        return min(map(len, self.seconds.values()))

    def median(self, arm: str) -> float:
        """Median over rounds, seconds."""
        return statistics.median(self.seconds[arm])

    def ratios(self, arm: str, base: str) -> tuple[float, float, float]:
        """Times that an arm is faster than another: median, lower and upper quartile over rounds."""
        pairs = [b / a for a, b in zip(self.seconds[arm], self.seconds[base], strict=True)]
        low, middle, high = statistics.quantiles(pairs, n=4, method="inclusive")
        return middle, low, high


def time_steps(
    arms: Sequence[Arm], device: str, *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> StepTimes | None:
    """Time the steps of all arms in turn.

    Parameters
    ----------
    arms : sequence of Arm
        Two or more.
    device : str
        cpu or cuda.
    seconds : float
        Wall time after which no further round begins; the first steps of all arms count.
    clock : callable
        What it is measured by.

    Returns
    -------
    StepTimes or None
        None where fewer than MIN_ROUNDS rounds were possible in that time.
    """
    end, before = clock() + seconds, torch.get_num_threads()
    spent: dict[str, list[float]] = {arm.name: [] for arm in arms}
    first: dict[str, float] = {}
    by_cpu_time = device == "cpu" and all(arm.threads == 1 for arm in arms)
    try:
        steps: dict[str, Callable[[], None]] = {}
        for arm in arms:
            torch.set_num_threads(arm.threads)
            began = time.perf_counter()
            steps[arm.name] = _stepper(arm, make_fabric(ALONE, device, arm.config.precision))
            for _ in range(2):
                steps[arm.name]()
            first[arm.name] = time.perf_counter() - began
            if clock() > end:
                return None
        for number in range(MAX_ROUNDS):
            for arm in arms if number % 2 else arms[::-1]:
                torch.set_num_threads(arm.threads)
                spent[arm.name].append(_timed(steps[arm.name], device, by_cpu_time=by_cpu_time) / arm.members)
            if clock() > end:
                break
    finally:
        torch.set_num_threads(before)
    times = StepTimes(seconds=spent, first_seconds=first)
    return times if times.num_rounds >= MIN_ROUNDS else None


def _timed(step: Callable[[], None], device: str, *, by_cpu_time: bool) -> float:
    """Seconds of one step."""
    now = time.process_time if by_cpu_time else time.perf_counter
    began = now()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return now() - began


def _stepper(arm: Arm, fabric: Fabric) -> Callable[[], None]:
    """A function that takes one step of every member of an arm, as the training loop does."""
    config, micro = arm.config, arm.choices.micro_batch or arm.config.batch_sequences
    lits, optimizers = [], []
    for member in range(arm.members):
        lit = LitTransformer(
            model=config.model,
            optimizer=config.optimizer,
            schedule=config.schedule,
            objective=config.objective,
            total_tokens=config.tokens,
            batch_tokens=config.batch_tokens,
            seed=member,
        )
        if arm.choices.attention is not None:
            set_attention_backend(lit, arm.choices.attention)
        if arm.choices.compile:
            lit.compile_losses()
        _, optimizer = set_up(ALONE, fabric, lit)
        lits.append(lit.train())
        optimizers.append(optimizer)
    drawn = torch.Generator().manual_seed(0)
    shape = (config.batch_sequences, config.data.context + 1)
    batches = [torch.randint(0, config.model.vocab_size, shape, generator=drawn).to(fabric.device) for _ in lits]
    stack = Stack([lit.model for lit in lits], config.objective) if arm.members > 1 else None

    def step() -> None:
        if stack is not None:
            with fabric.autocast():
                losses = stack.losses(batches, [0] * len(lits))
            fabric.backward(losses.sum())
            stack.hand_out_gradients()
        else:
            for piece in batches[0].split(micro):
                with fabric.autocast():
                    loss = lits[0].training_step(piece, 0) * (len(piece) / len(batches[0]))
                fabric.backward(loss)
        for lit, optimizer in zip(lits, optimizers, strict=True):
            lit.set_learning_rate(optimizer, 0)
            lit.clip_gradients_()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def with_precision(config: RunConfig) -> RunConfig:
    """The same run in the other precision."""
    return replace(config, precision="fp32" if config.precision == "bf16" else "bf16")
