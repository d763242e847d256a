"""Fine-tuning of one pre-trained body on one classification task: the loop, its metrics, and what is saved.

A run is a function of its config: it is short, keeps no checkpoint, and begins anew after a kill, to the same digits.
It must not know stores of sweeps or command lines. Shapes: B batch, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.config.finetuning import FLOPS_OVER_FORWARD, FinetuneRun
from experiments.data.tasks import Example, Task
from experiments.data.tokenizers.tokenizer import EOD, PAD, Tokenizer
from experiments.errors import UserError
from models.config.accounting import forward_flops
from models.config.transformer import TransformerConfig
from models.modules.finetuning import FinetuneConfig, Method, prepare
from models.modules.heads import Pooling, SequenceClassifier
from models.modules.transformer import Transformer

WARMUP_FRACTION = 0.06
"""Part of the steps in which the rate rises."""
DRAWS = 1000
"""Bootstrap draws over test examples."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Examples as tokens."""

    tokens: tuple[tuple[int, ...], ...]
    """Ids of each example, the separator first."""
    labels: tuple[int, ...]
    """Its class."""
    truncated: int
    """Examples that were longer than the context."""


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A run after its last step."""

    model: SequenceClassifier
    """In eval mode."""
    outcome: dict[str, Any]
    """Loss in nats per example with its standard error, accuracy, macro-F1 and MCC with intervals, counts, seconds."""
    trainable: int
    """Parameters that learned."""


def encode(examples: Sequence[Example], labels: Sequence[str], tokenizer: Tokenizer, longest: int) -> Encoded:
    """Examples to ids, cut at `longest`.

    Parameters
    ----------
    examples : sequence of Example
        With labels.
    labels : sequence of str
        The classes in order.
    tokenizer : Tokenizer
        That of the body.
    longest : int
        Ids that are kept of each example.
    """
    ids = tokenizer.encode([example.text.encode() for example in examples])
    return Encoded(
        tokens=tuple((EOD, *(int(i) for i in one[: longest - 1])) for one in ids),
        labels=tuple(labels.index(str(example.label)) for example in examples),
        truncated=sum(len(one) > longest - 1 for one in ids),
    )


def build(
    run: FinetuneRun, config: TransformerConfig, weights: Mapping[str, Tensor], num_classes: int
) -> SequenceClassifier:
    """The body with its method and a new head, before the first step.

    Parameters
    ----------
    run : FinetuneRun
        Says the method and the seeds.
    config : TransformerConfig
        The body.
    weights : mapping of str to Tensor
        Its pre-trained weights; not read from scratch.
    num_classes : int
        Classes of the task.

    Returns
    -------
    SequenceClassifier
        Whose parameters learn where the method says so.
    """
    body = Transformer(config, seed=run.seed)
    if run.method != "scratch":
        body.load_state_dict(dict(weights))
    kind: Method = "full" if run.method == "scratch" else run.method
    prepare(
        body,
        FinetuneConfig(
            method=kind, rank=run.rank, alpha=2.0 * run.rank, bottleneck=run.rank, num_prompt=run.rank, seed=run.seed
        ),
    )
    if body.head is not None:
        body.head.requires_grad_(False)  # the output table of pre-training has no part in the task
    pooling: Pooling = "mean" if config.family == "encoder" else "last"
    return SequenceClassifier(body, num_classes, pooling=pooling, seed=run.seed)


def learned(model: nn.Module) -> dict[str, Tensor]:
    """What a run trained, by name: all that is saved of it."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def finetune(
    run: FinetuneRun, config: TransformerConfig, weights: Mapping[str, Tensor], task: Task, tokenizer: Tokenizer
) -> Finetuned:
    """Train one run and measure it on the test split.

    Parameters
    ----------
    run : FinetuneRun
        What to train.
    config : TransformerConfig
        The body.
    weights : mapping of str to Tensor
        Its pre-trained weights.
    task : Task
        A classification.
    tokenizer : Tokenizer
        That of the body.

    Returns
    -------
    Finetuned
        The model in eval mode and what it measured.

    Raises
    ------
    UserError
        When the task has fewer training examples than the run asks for.
    """
    available = task.splits["train"]
    if run.examples > len(available):
        raise UserError(f"{run.examples} examples are more than the {len(available)} that {run.task} has for training")
    began = time.perf_counter()
    order = np.random.default_rng([run.seed, 1]).permutation(len(available))[: run.examples]
    longest = config.context - (run.rank if run.method == "prompt" else 0)
    train = encode([available[i] for i in order], task.labels, tokenizer, longest)
    test = encode(task.splits["test"], task.labels, tokenizer, longest)
    torch.manual_seed(run.seed)  # dropout
    model = build(run, config, weights, len(task.labels))
    parameters = [p for p in model.parameters() if p.requires_grad]
    tokens = _train(run, model, parameters, train)
    model.eval()
    losses, predicted = evaluate(model, test)
    parts = forward_flops(config, target_tokens=config.context)
    per_token = sum(value for name, value in parts.items() if name != "head") / config.context
    trained = time.perf_counter() - began
    outcome = measures(losses, predicted, np.array(test.labels), len(task.labels)) | {
        "val_sums": losses.tolist(),
        "val_counts": [1] * len(losses),
        "truncated_train": train.truncated,
        "truncated_test": test.truncated,
        "train_tokens": tokens,
        "flops": FLOPS_OVER_FORWARD[run.method] * per_token * tokens,
        "train_seconds": trained,
    }
    return Finetuned(model=model, outcome=outcome, trainable=sum(p.numel() for p in parameters))


def _train(run: FinetuneRun, model: SequenceClassifier, parameters: list[nn.Parameter], data: Encoded) -> int:
    """Take the steps of a run; the tokens that it read, padding included."""
    optimizer = torch.optim.AdamW(parameters, lr=run.learning_rate, weight_decay=0.01)
    rng = np.random.default_rng([run.seed, 2])
    warmup = max(1, round(WARMUP_FRACTION * run.num_steps))
    left: list[int] = []
    total = 0
    model.train()
    for step in range(run.num_steps):
        if not left:
            left = rng.permutation(len(data.labels)).tolist()
        chosen, left = left[: run.batch], left[run.batch :]
        tokens_BT, mask_BT = padded([data.tokens[i] for i in chosen])
        rate = min((step + 1) / warmup, (run.num_steps - step) / max(run.num_steps - warmup, 1))
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * min(rate, 1.0)
        loss = model.loss(tokens_BT, torch.tensor([data.labels[i] for i in chosen]), mask_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += tokens_BT.numel()
    return total


@torch.no_grad()
def evaluate(
    model: SequenceClassifier, data: Encoded, batch: int = 64
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Loss in nats and the likeliest class of every example, in order.

    Parameters
    ----------
    model : SequenceClassifier
        In eval mode.
    data : Encoded
        The examples.
    batch : int
        Examples at a time.
    """
    losses, predicted = np.empty(len(data.labels)), np.empty(len(data.labels), dtype=np.int64)
    order = sorted(range(len(data.labels)), key=lambda i: (len(data.tokens[i]), i))
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        logits = model(*padded([data.tokens[i] for i in chosen])).float()
        targets = torch.tensor([data.labels[i] for i in chosen])
        losses[chosen] = F.cross_entropy(logits, targets, reduction="none").double().numpy()
        predicted[chosen] = logits.argmax(1).numpy()
    return losses, predicted


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(tokens, mask) of rows of ids, both (B, T); the mask is True where a token is real."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *([PAD] * (longest - len(row)))] for row in rows])
    return tokens, torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])


def measures(
    losses: NDArray[np.float64], predicted: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int
) -> dict[str, Any]:
    """Test loss and metrics (by torchmetrics), with 95 % intervals of loss and accuracy from draws over examples.

    Parameters
    ----------
    losses : array, shape (n,)
        Nats of each example.
    predicted, labels : array, shape (n,)
        Classes.
    num_classes : int
        How many there are.
    """
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_f1_score,
        multiclass_matthews_corrcoef,
    )

    said, true = torch.from_numpy(predicted), torch.from_numpy(labels)
    n = len(losses)
    draws = np.random.default_rng(0).integers(0, n, (DRAWS, n))  # the same for all runs on a task: differences pair
    right = (predicted == labels).astype(np.float64)
    ends = {
        name: np.quantile(values[draws].mean(1), [0.025, 0.975]) for name, values in (("loss", losses), ("acc", right))
    }
    return {
        "loss": float(losses.mean()),
        "loss_se": float(losses.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        "loss_lo": float(ends["loss"][0]),
        "loss_hi": float(ends["loss"][1]),
        "accuracy": float(multiclass_accuracy(said, true, num_classes, average="micro")),
        "accuracy_lo": float(ends["acc"][0]),
        "accuracy_hi": float(ends["acc"][1]),
        "macro_f1": float(multiclass_f1_score(said, true, num_classes, average="macro")),
        "mcc": float(multiclass_matthews_corrcoef(said, true, num_classes)),
        "num_val_tokens": n,
    }
