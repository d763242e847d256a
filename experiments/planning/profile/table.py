"""What `isoflop profile` measured of a shape on a device, as a file of the store.

One file for each shape, device and version of torch. It must not know what a sweep makes of it. Torch-free.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from experiments.config.codec import get_path, plain, remove_path
from experiments.config.kinds import AnyRun
from experiments.config.run import ADDED_LATER, RunConfig
from experiments.digests import digest_of, has_changed, with_digest
from experiments.errors import UserError
from experiments.files import write_atomic
from experiments.machine.devices import DeviceKind, Precision, device_name
from experiments.records import RecordError, read_text
from experiments.store.store import RunStore
from models.config.objective import ObjectiveConfig
from models.config.transformer import TransformerConfig

PROFILE_SCHEMA = 1
"""Version of the layout of these files."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster a step is by one choice than by the default, over interleaved rounds."""

    median: float
    """Of the rounds; above 1 is faster."""
    lo: float
    """Lower quartile of the rounds."""
    hi: float
    """Upper quartile."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of one shape."""

    shape: str
    """In words."""
    kind: DeviceKind
    """cpu or cuda."""
    device: str
    """Name of the processor or GPU."""
    torch: str
    """Version."""
    step_seconds: float
    """Median time of a step by the defaults."""
    num_rounds: int
    """Interleaved rounds of the part with the fewest."""
    ratios: Mapping[str, Mapping[str, Ratio]] = field(default_factory=dict)
    """Field of the execution -> value -> how many times faster."""
    compile_seconds: float | None = None
    """What the first two compiled steps took; None: compiling was not measured."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Field -> why it was not measured."""


def shape_key(config: AnyRun) -> str | None:
    """Hash what decides which execution of a run is fastest.

    Parameters
    ----------
    config : AnyRun
        A run.

    Returns
    -------
    str or None
        12 hex digits of model, objective, context, batch and precision; None for a fine-tuning run.
    """
    if not isinstance(config, RunConfig):
        return None
    return _key(config.model, config.objective, config.batch_tokens, config.data.context, config.precision)


@lru_cache(maxsize=4096)
def _key(
    model: TransformerConfig, objective: ObjectiveConfig, batch_tokens: int, context: int, precision: Precision
) -> str:
    """Hash the parts; those that were added later and stand at the default they came with are left out."""
    raw = plain({"model": model, "objective": objective})
    for path, default in ADDED_LATER.items():
        if path.partition(".")[0] in raw and get_path(raw, path) == plain(default):
            remove_path(raw, path)
    return digest_of(raw | {"batch_tokens": batch_tokens, "context": context, "precision": precision})[:12]


def shape_in_words(config: RunConfig) -> str:
    """`width 64 x 2 layers, batches of 8 x 128, fp32`."""
    model = config.model
    batch = f"batches of {config.batch_sequences} x {config.data.context}"
    return f"width {model.width} x {model.depth} layers, {batch}, {config.precision}"


def profile_path(store: RunStore, key: str, kind: DeviceKind) -> Path:
    """Say where the measurement of a shape lies, on this machine's device and with this torch.

    Parameters
    ----------
    store : RunStore
        The store.
    key : str
        Of `shape_key`.
    kind : str
        cpu or cuda.
    """
    name = digest_of([key, kind, device_name(kind), importlib.metadata.version("torch")])[:12]
    return store.root / "profile" / f"{name}.json"


def write_measurement(store: RunStore, config: RunConfig, measured: Measurement) -> Path:
    """Keep a measurement, in place of an earlier one.

    Parameters
    ----------
    store : RunStore
        The store; its folder is made.
    config : RunConfig
        A run of the shape.
    measured : Measurement
        What was measured.

    Returns
    -------
    Path
        The file.
    """
    store.prepare()
    path = profile_path(store, str(shape_key(config)), measured.kind)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps(with_digest({"schema": PROFILE_SCHEMA, **asdict(measured)}), indent=1) + "\n")
    return path


def read_measurement(store: RunStore, key: str, kind: DeviceKind) -> Measurement | None:
    """Read what was measured of a shape on this machine's device with this torch.

    Parameters
    ----------
    store : RunStore
        The store.
    key : str
        Of `shape_key`.
    kind : str
        cpu or cuda.

    Returns
    -------
    Measurement or None
        None where nothing was.

    Raises
    ------
    UserError
        When the file is not the one that was written.
    """
    path = profile_path(store, key, kind)
    return read_measurement_file(path) if path.exists() else None


def read_measurement_file(path: Path) -> Measurement:
    """Read a measurement of any shape and machine.

    Parameters
    ----------
    path : Path
        Of `write_measurement`.

    Raises
    ------
    UserError
        When the file is not the one that was written.
    """
    try:
        raw = json.loads(read_text(path))
        if not isinstance(raw, dict) or has_changed(raw) or raw.pop("schema") != PROFILE_SCHEMA:
            raise ValueError("it is not what was written, or of another version")
        ratios = {
            name: {value: Ratio(**one) for value, one in values.items()} for name, values in raw.pop("ratios").items()
        }
        return Measurement(**raw, ratios=ratios)
    except (RecordError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be believed ({error}); remove it and `isoflop profile` again") from error
