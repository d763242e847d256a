"""Where torch.compile pays back: `python -m benchmarks.compile`.

The module that workers train takes steps eagerly and compiled, in interleaved rounds in one process. The seconds of
compilation over what a step then saves are the steps after which compiling has paid for itself; a run of fewer steps is
better off without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.models import SHAPES, ours
from experiments.machine.devices import cpu_name
from experiments.machine.hardware import tune_allocator, versions
from models.lit import LitTransformer


def stepper(shape: dict[str, int], *, compiled: bool) -> Callable[[], None]:
    """A function that takes one training step."""
    torch.manual_seed(0)
    module, loss_of = ours(shape)
    assert isinstance(module, LitTransformer)
    if compiled:
        module.compile_losses()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    tokens_BT = torch.randint(0, shape["vocab"], (shape["batch"], shape["context"] + 1))

    def step() -> None:
        loss_of(tokens_BT).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(shape: dict[str, int], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Median CPU seconds of a step each way, and after how many steps compiling has paid."""
    torch.compiler.reset()
    eager, fast = stepper(shape, compiled=False), stepper(shape, compiled=True)
    eager()
    began = time.process_time()
    eager()
    repeats = max(1, round(seconds / (time.process_time() - began)))
    began = time.perf_counter()
    fast()
    fast()
    compilation = time.perf_counter() - began
    spent: dict[str, list[float]] = {"eager": [], "compiled": []}
    for number in range(rounds):
        pair = [("eager", eager), ("compiled", fast)]
        for name, step in pair if number % 2 else reversed(pair):
            began = time.process_time()
            for _ in range(repeats):
                step()
            spent[name].append((time.process_time() - began) / repeats)
    ratios = sorted(a / b for a, b in zip(spent["eager"], spent["compiled"], strict=True))
    ratio, medians = statistics.median(ratios), {name: statistics.median(values) for name, values in spent.items()}
    saved = medians["eager"] - medians["compiled"]
    return {
        "shape": shape,
        "milliseconds_of_a_step": {name: round(1e3 * value, 3) for name, value in medians.items()},
        "compiled_is_times_faster": round(ratio, 3),
        "lowest_and_highest_round": [round(ratios[0], 3), round(ratios[-1], 3)],
        "seconds_of_compilation": round(compilation, 1),
        "steps_until_it_pays": round(compilation / saved) if saved > 0 else None,
    }


def main() -> None:
    """Measure every shape and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU seconds of a round")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    record: dict[str, Any] = {
        "command": "python -m benchmarks.compile",
        "what": "float32 training steps on one thread; CPU seconds, medians over interleaved rounds",
        "machine": {"processor": cpu_name(), "capability": torch.backends.cpu.get_cpu_capability()},
        "versions": versions(),
        "shapes": {},
    }
    for name in args.shapes:
        record["shapes"][name] = found = measure(SHAPES[name], rounds=args.rounds, seconds=args.seconds)
        record["load_average"] = os.getloadavg()
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps({key: value for key, value in found.items() if key != "shape"}), flush=True)


if __name__ == "__main__":
    main()
