"""Every law: derivatives against central differences, parameters there and back, recovery without noise."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.laws.base import Law
from analysis.laws.registry import LAWS, get_law
from analysis.solver.objectives import Objective, ObjectiveName
from analysis.solver.problem import Residuals, make_problem
from analysis.solver.search import solve

TRUTHS = {
    "power": (1.7, 30.0, 0.2),
    "shifted": (1.7, 4000.0, 0.2, 1e17),
    "m3": (190.0, 0.1, 1e-18),
    "m4": (1.9, 9.0, 60.0, 1.4, 0.12),
    "bounded": (1.2, 4.5, 3e18, 0.4),
    "bounded-size": (1.2, 4.5, 3e9, 0.3, 3e18, 0.4),
    "bnsl": (1.7, 30.0, 0.1, 0.15, 3e18, 0.6),
    "hoffmann": (1.8, 480.0, 2000.0, 0.35, 0.37),
    "hoffmann-break": (1.8, 480.0, 2000.0, 0.35, 0.37, 0.06, 2e18),
    "kaplan": (0.076, 0.103, 6.4e13, 1.8e13),
    "skaling": (1.6, 3000.0, 20000.0, 0.45, 0.5, 0.7),
    "farseer": (-0.1, -0.5, 0.05, -0.6, 5.0, 0.08, -0.1, 1.2, 0.08),
    "gemstones": (1.5, 8.0, 1.2, 600.0, 9000.0, 0.4, 0.6, 0.35, 0.45),
    "gemstones-shape": (1.5, 8.0, 1.2, 9000.0, 0.4, 0.6, 0.45),
    "muennighoff": (1.8, 480.0, 2000.0, 0.35, 0.37, 15.4, 5.3),
    "overfitting": (1.8, 480.0, 2000.0, 1e-3, 0.35, 0.37, 0.4, 0.6, 0.8),
    "saturating": (1.5, 9.0, 60.0, 300.0, 0.05, 0.35, 0.37, 0.4, 0.6),
    "moe-routed": (12.0, 0.082, 0.09, 0.0031, 0.9, 300.0),
    "moe-joint": (1.3637, 35.91, 35.98, 0.1889, 0.1775, 0.2285, 0.0098, 0.5529, 0.0259),
    "moe-sparsity": (0.94, 16612.5, 5455.67, 0.4598, 17.26, 0.5962, 0.3954, -0.1666, 0.1603, 0.1595),
    "moe-active": (2.2, 30.0, 0.05, 0.2, -0.01),
    "leverage": (1.23, -0.03305, -0.0508, 0.00315),
    "mixing": (2.1, 1.1, -1.2, 0.4),
    "mixing-power": (1.9, 1.4, 0.8, 0.5, 0.3, 0.6, 0.9),
    "mixing-joint": (1.2, 1.4, 0.8, 0.5, 300.0, 900.0, 0.3, 0.6, 0.9, 0.33, 0.36),
    "precision": (1.9, 4299.0, 18060.0, 0.4965, 0.45, 2.6745),
    "distillation": (2.549, 20.0, 1.315, 0.0901, 2243.0, 24181.0, 0.321, 0.637, 0.764),
    "downstream-direct": (0.75, 1500.0, 0.18),
    "downstream-direct-size": (0.75, 90.0, 120.0, 0.3, 0.28),
    "gadre": (1.5, 141.0, 190.0, 0.121),
    "vocabulary": (1.2, 300.0, 5.0, 1500.0, 0.3, 0.4, 0.35),
    "zhang": (0.9, 400.0, 0.15, 0.2),
    "hernandez": (0.076, 0.103, 6.4e13, 1.8e13, 1.9e4, 0.18, 0.38),
    "parallel": (1.3, 2e8, 0.35, 0.2),
    "rate-batch": (1.7, 400.0, 2000.0, 0.35, 0.37, 0.02, 0.01, 1.79, -0.713, 0.307, 0.58, 0.571, 0.3),
    "lr-batch": (1.79, -0.713, 0.307),
    "optimum-power": (0.292, 0.3271),
    "critical-batch": (2e8, 0.21),
    "batch-tradeoff": (2500.0, 3e5),
    "downstream-exponential": (0.85, 2.08, 0.756),
    "downstream-sigmoid": (0.15, 0.6, 3.5, 2.6),
}
"""Parameters near published ones, in the order of each law."""
ENGINE_LAWS = [name for name in TRUTHS if name in LAWS]


def inputs(law: Law, n: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """Runs spread over the law's inputs."""
    rng = np.random.default_rng(seed)
    params, ratio = np.exp(rng.uniform(np.log(1e7), np.log(1e10), n)), np.exp(rng.uniform(np.log(2), np.log(200), n))
    columns = {
        "params": params,
        "tokens": params * ratio,
        "width": np.exp(rng.uniform(np.log(256), np.log(4096), n)),
        "depth": np.exp(rng.uniform(np.log(4), np.log(80), n)),
        "x": 6 * params**2 * ratio,
        "unique_tokens": params * ratio / np.exp(rng.uniform(-1.0, np.log(50), n)),
        "vocab": np.exp(rng.uniform(np.log(4e3), np.log(1e5), n)),
        "finetune_tokens": np.exp(rng.uniform(np.log(1e5), np.log(1e9), n)),
        "pretrained": np.arange(n) % 2,
        "parallel_size": 2.0 ** rng.integers(0, 4, n),
        "loss": rng.uniform(1.8, 4.5, n),
        "batch": np.exp(rng.uniform(np.log(1e4), np.log(1e7), n)),
        "lr": np.exp(rng.uniform(np.log(1e-4), np.log(1e-2), n)),
        "experts": 2.0 ** rng.integers(0, 7, n),
        "active_fraction": 2.0 ** -rng.uniform(0, 5, n),
        "active_params": np.exp(rng.uniform(np.log(1e7), np.log(1e9), n)),
        "sparsity": 2.0 ** rng.uniform(0, 4, n),
        "flops": np.exp(rng.uniform(np.log(1e18), np.log(1e22), n)),
        "granularity": 2.0 ** rng.uniform(0, 4, n),
        **{f"share_{j + 1}": column for j, column in enumerate(rng.dirichlet((1.0, 1.0, 1.0), n).T)},
        "bits": rng.integers(2, 17, n).astype(float),
        "teacher_loss": rng.uniform(1.9, 3.0, n),
        "student_loss": rng.uniform(2.1, 3.6, n),
    }
    return {name: columns[name] for name in law.inputs}


def difference(f: Callable[[np.ndarray], np.ndarray], at: np.ndarray, j: int, step: float) -> np.ndarray:
    """Central difference of `f` by element j."""
    up, down = at.copy(), at.copy()
    up[j] += step
    down[j] -= step
    return (f(up) - f(down)) / (2 * step)


@pytest.mark.parametrize("name", ENGINE_LAWS)
def test_public_derivatives_agree_with_central_differences(name: str) -> None:
    law, theta = LAWS[name], np.array(TRUTHS[name])
    x = inputs(law)
    columns = law.jacobian([np.array([t]) for t in theta], x)
    for j, column in enumerate(columns):
        numeric = difference(lambda t: law(t, x), theta, j, 1e-6 * abs(theta[j]))
        assert np.abs(column - numeric).max() < 1e-6 * np.abs(numeric).max()


@pytest.mark.parametrize("name", ENGINE_LAWS)
def test_working_derivatives_and_curvature_agree_with_central_differences(name: str) -> None:
    law, theta = LAWS[name], np.array([TRUTHS[name]])
    data = inputs(law)
    problem = make_problem(law, {**data, law.target: law(theta[0], data)}, objective=Objective())
    phi = law.to_working(theta, problem.log_refs)
    value, jacobian = law.working_jacobian(phi, problem.z)
    np.testing.assert_allclose(value, law.working_value(phi, problem.z), rtol=1e-12)
    np.testing.assert_allclose(value[0], law(theta[0], data), rtol=1e-10)
    weights = np.random.default_rng(1).normal(size=value.shape)
    curvature = law.working_curvature(phi, problem.z, weights, jacobian)[0]
    for j in range(phi.size):
        numeric = difference(lambda p: law.working_value(p[None], problem.z)[0], phi[0], j, 1e-6)
        assert np.abs(jacobian[0, j] - numeric).max() < 1e-6 * np.abs(numeric).max()
        slopes = difference(lambda p: law.working_jacobian(p[None], problem.z)[1][0] @ weights[0], phi[0], j, 1e-5)
        assert np.abs(curvature[j] - slopes).max() < 1e-5 * max(np.abs(curvature).max(), 1.0)


@pytest.mark.parametrize("name", ENGINE_LAWS)
def test_parameters_go_to_working_ones_and_back(name: str) -> None:
    law, theta = LAWS[name], np.array([TRUTHS[name]])
    at = [3.0] if law.inputs == ("loss",) else [1e9, 3e10, 700.0, 20.0, 5.0][: len(law.inputs)]
    refs = np.log(at) * [n in law.centred_inputs() for n in law.inputs]
    np.testing.assert_allclose(law.to_public(law.to_working(theta, refs), refs), theta, rtol=1e-9)


BY_HUBER_ALONE = tuple(
    name
    for name in LAWS
    if name.startswith(("overfitting", "moe-", "leverage", "mixing", "precision", "distillation", "downstream-direct"))
)
"""Laws whose recovery by other objectives takes long and says nothing that others do not."""


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        (name, objective)
        for name in ENGINE_LAWS
        for objective in ("huber", "squared", "lad")
        if name != "farseer" and (objective == "huber" or name not in BY_HUBER_ALONE)
    ],
)
def test_noiseless_losses_are_recovered(name: str, objective: ObjectiveName) -> None:
    law = LAWS[name]
    data = inputs(law, seed=2)
    truth = law(TRUTHS[name], data)
    spec = Objective(name=objective, delta=1e-3 if objective == "huber" else 0.0)
    problem = make_problem(law, {**data, law.target: truth}, objective=spec)
    point = solve(problem)
    np.testing.assert_allclose(law.working_value(point.phi[None], problem.z)[0], truth, rtol=1e-8)
    if point.condition < 1e6:
        np.testing.assert_allclose(law.to_public(point.phi[None], problem.log_refs)[0], TRUTHS[name], rtol=1e-4)


UNITS = {"params": 1e-6, "tokens": 1e-9, "unique_tokens": 1e-9, "finetune_tokens": 1e-3, "x": 1e-18, "vocab": 1e-3}
"""New units of the inputs that may be given in other units."""


@pytest.mark.parametrize("name", [name for name in ENGINE_LAWS if name != "farseer"])
def test_a_fit_does_not_depend_on_the_units_of_the_inputs(name: str) -> None:
    law = LAWS[name]
    data = inputs(law, seed=4)
    noise = np.exp(0.003 * np.random.default_rng(5).standard_normal(60))
    scaled = {key: column * UNITS.get(key, 1.0) for key, column in data.items()}
    points, predicted = [], []
    for columns in (data, scaled):
        problem = make_problem(law, {**columns, law.target: law(TRUTHS[name], data) * noise}, objective=Objective())
        points.append(solve(problem))
        predicted.append(law.working_value(points[-1].phi[None], problem.z)[0])
    assert points[0].value == pytest.approx(points[1].value, rel=1e-8)
    np.testing.assert_allclose(predicted[0], predicted[1], rtol=1e-6)
    if points[0].condition < 1e6:
        np.testing.assert_allclose(points[0].phi, points[1].phi, rtol=1e-3, atol=1e-3)


def test_farseer_recovers_noiseless_losses() -> None:
    law = LAWS["farseer"]
    data = inputs(law, seed=2)
    truth = law(TRUTHS["farseer"], data)
    problem = make_problem(law, {**data, law.target: truth}, objective=Objective())
    point = solve(problem)
    np.testing.assert_allclose(law.working_value(point.phi[None], problem.z)[0], truth, rtol=1e-8)


@pytest.mark.parametrize("residuals", ["log", "raw"])
def test_noiseless_losses_are_recovered_without_a_floor(residuals: Residuals) -> None:
    law = LAWS["power"]
    x = np.geomspace(1e18, 1e22, 12)
    problem = make_problem(law, {"x": x, "loss": 5 * x**-0.05}, objective=Objective(), residuals=residuals)
    point = solve(problem)
    np.testing.assert_allclose(law.working_value(point.phi[None], problem.z)[0], problem.y, rtol=1e-8)


def test_every_law_says_what_it_is() -> None:
    for name, law in LAWS.items():
        assert law.name == name
        assert law.source
        assert law.domain
        assert law.units
        assert set(re.findall(r"[A-Za-z_0-9]+", law.formula)) >= set(law.param_names)
        assert all(p.meaning for p in law.parameters)
    with pytest.raises(ValueError, match="no law is called 'chinchila'"):
        get_law("chinchila")


def test_a_law_is_frozen_and_callable_by_name_or_position() -> None:
    law = LAWS["hoffmann"]
    with pytest.raises(AttributeError):
        law.name = "other"  # type: ignore[misc]
    named = dict(zip(law.param_names, TRUTHS["hoffmann"], strict=True))
    at = {"params": [1e9], "tokens": [2e10]}
    np.testing.assert_allclose(law(named, at), law(TRUTHS["hoffmann"], at))


def test_the_law_of_the_guide_is_thirty_lines_and_works() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "add-a-law.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 45
    space: dict[str, object] = {"__name__": "log_data"}
    import sys
    import types

    module = types.ModuleType("log_data")
    sys.modules["log_data"] = module
    try:
        exec(compile(code, "log_data.py", "exec"), module.__dict__)
    finally:
        del sys.modules["log_data"]
    space.update(module.__dict__)
    law = space["LOG_DATA"]
    assert isinstance(law, Law)
    data = inputs(law)
    truth = law((1.1, 400.0, 20.0, 0.4), data)
    problem = make_problem(law, {**data, law.target: truth}, objective=Objective())
    point = solve(problem)
    np.testing.assert_allclose(law.to_public(point.phi[None], problem.log_refs)[0], (1.1, 400.0, 20.0, 0.4), rtol=1e-5)
