"""How fast the data layer is: `python -m benchmarks.data` or `python benchmarks/data.py`; writes benchmarks/data.json.

Every number is the median of REPEATS measurements on one thread. Generation is in tokens per second, a batch in
microseconds, a cold resolve (a new process, imports included) and building in seconds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from experiments.data.cache import Cache  # noqa: E402
from experiments.data.config import DataConfig  # noqa: E402
from experiments.data.corpus import prepare  # noqa: E402
from experiments.data.identity import resolve  # noqa: E402
from experiments.data.languages.registry import LANGUAGES, build_language  # noqa: E402
from experiments.machine.devices import cpu_name  # noqa: E402

REPEATS = 5
GENERATED_TOKENS = 1 << 22
BATCHES = 2000


def seconds(act: Callable[[], Any]) -> float:
    """Median time of an act."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        act()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(folder: Path) -> dict[str, Any]:
    """All measurements."""
    found: dict[str, Any] = {}
    for name in sorted(LANGUAGES):
        language = build_language(DataConfig(corpus=name))
        language.generate(1000, stream=0)
        generate = partial(language.generate, GENERATED_TOKENS, stream=1)
        found[f"{name}_tokens_per_second"] = GENERATED_TOKENS / seconds(generate)
    places = iter(range(10**6))
    found["build_sotu_bytes_seconds"] = seconds(lambda: prepare(DataConfig(), Cache(folder / f"cold{next(places)}")))
    cache = Cache(folder)
    corpus = prepare(DataConfig(max_epochs=100), cache)
    corpus.train_batch(0, 1)

    def batches() -> None:
        for i in range(BATCHES):
            corpus.train_batch(16 * i, 16)

    found["batch_16x257_microseconds"] = seconds(batches) / BATCHES * 1e6
    found["validation_pass_seconds"] = seconds(lambda: [None for _ in corpus.val_batches(64)])
    code = (
        "from experiments.data.identity import resolve; from experiments.data.config import DataConfig\n"
        "from pathlib import Path; from experiments.data.cache import Cache\n"
        f"resolve(DataConfig(), Cache(Path({str(folder)!r})))"
    )
    found["cold_resolve_seconds"] = seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT))
    for size in (2048, 8192):
        data = DataConfig(tokenizer=f"bpe-{size}")
        start = time.perf_counter()
        resolve(data, cache)
        found[f"train_bpe_{size}_seconds_once"] = time.perf_counter() - start
        found[f"bpe_{size}_bytes_per_token"] = prepare(data, cache).bytes_per_token
    return found


def main() -> int:
    """Measure, print and write the record."""
    with tempfile.TemporaryDirectory() as place:
        results = measure(Path(place))
    record = {
        "command": "python benchmarks/data.py",
        "repeats": REPEATS,
        "machine": {"cores": os.cpu_count(), "processor": cpu_name(), "load": os.getloadavg()[0]},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "results": {name: float(f"{value:.4g}") for name, value in results.items()},
    }
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    (ROOT / "benchmarks" / "data.json").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
