"""Known laws are found again, and intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.scaling.law_cases import grid, seen

from vivavoce.base.errors import DataError
from vivavoce.evaluation.scaling.bootstrap import Refits, refit, student
from vivavoce.evaluation.scaling.fitting import Points, Problem, chinchilla_starts, fit, starts_near
from vivavoce.evaluation.scaling.law import BESIROGLU, CHINCHILLA, NAMES, Law

BUDGET = 5.76e23  # Chinchilla's and Gopher's


@pytest.mark.parametrize("law", [CHINCHILLA, BESIROGLU], ids=["chinchilla", "besiroglu"])
@pytest.mark.parametrize("published", [False, True])
def test_a_law_without_noise_is_found_exactly(law: Law, published: bool) -> None:
    found = fit(seen(law, 0, 0.0), published_grid=published)
    for name in NAMES:
        assert getattr(found.law, name) == pytest.approx(getattr(law, name), rel=2e-3)
    assert found.agreeing > 0.5


def test_gradients_are_those_of_the_values() -> None:
    points = seen(CHINCHILLA, 1, 0.05, 3, 3)
    problem = Problem(points, np.log(points.loss), 0.02)
    rng = np.random.default_rng(0)
    at = problem.place(CHINCHILLA) + rng.normal(0, 0.1, (6, 5))
    rows = np.arange(6)
    _, slopes = problem(at, rows)
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        seen_slope = (problem(at + step, rows)[0] - problem(at - step, rows)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, k], seen_slope, rtol=1e-5, atol=1e-6)


def test_the_minimum_is_scipys() -> None:
    minimize = pytest.importorskip("scipy.optimize").minimize
    points = seen(BESIROGLU, 3, 0.01, 5, 4)
    problem = Problem(points, np.log(points.loss))
    row = np.zeros(1, dtype=np.int64)

    def one(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = problem(x[None], row)
        return float(value[0]), slope[0]

    options = {"maxiter": 4000, "maxfun": 8000, "ftol": 1e-15, "gtol": 1e-9}
    starts = starts_near(points)[::9]
    best = min(
        (minimize(one, s, jac=True, method="L-BFGS-B", options=options) for s in starts), key=lambda r: r.fun
    )
    assert fit(points).objective <= best.fun * (1 + 1e-6)


def test_place_is_the_inverse_of_law() -> None:
    points = seen(CHINCHILLA, 0)
    problem = Problem(points, np.log(points.loss))
    back = problem.law(problem.place(BESIROGLU))
    for name in NAMES:
        assert float(getattr(back, name)) == pytest.approx(getattr(BESIROGLU, name), rel=1e-9)


def test_the_published_grid() -> None:
    starts = chinchilla_starts()
    assert starts.shape == (4500, 5)
    assert (starts.min(axis=0) == [0, 0, -1, 0, 0]).all() and (starts.max(axis=0) == [25, 25, 1, 2, 2]).all()


def test_chinchillas_own_example() -> None:
    """Approach 3 gives about 40 billion parameters for Gopher's budget, the re-fit 20 tokens for each."""
    n, d, loss = CHINCHILLA.best(BUDGET)
    assert 3e10 < n < 4.5e10 and 6 * n * d == pytest.approx(BUDGET)
    assert CHINCHILLA.loss(7e10, 1.4e12) == pytest.approx(1.94, abs=0.01)
    assert CHINCHILLA.loss(2.8e11, 3e11) == pytest.approx(1.99, abs=0.01)
    ns = np.geomspace(n / 10, n * 10, 2001)
    losses = CHINCHILLA.loss(ns, BUDGET / 6 / ns)
    assert ns[np.argmin(losses)] == pytest.approx(n, rel=0.003) and losses.min() == pytest.approx(
        loss, rel=1e-6
    )
    again = BESIROGLU.best(BUDGET)
    assert 14 < again[1] / again[0] < 30
    assert CHINCHILLA.b / (CHINCHILLA.a + CHINCHILLA.b) == pytest.approx(0.45, abs=0.01)
    assert BESIROGLU.b / (BESIROGLU.a + BESIROGLU.b) == pytest.approx(0.51, abs=0.01)


def test_an_outlier_moves_little() -> None:
    points = seen(CHINCHILLA, 5, 0.002)
    loss = points.loss.copy()
    loss[7] *= 1.3  # a run that broke
    there, clean = fit(Points(points.n, points.d, loss)).law, fit(points).law
    assert abs(there.a - clean.a) < 0.03 and abs(there.E - clean.E) < 0.05


@pytest.mark.parametrize(
    "points",
    [
        Points(*(np.array([1.0, 2, 3, 4, 5]) for _ in range(3))),
        Points(np.full(9, 1e6), np.geomspace(1e6, 1e8, 9), np.linspace(4, 3, 9)),
        Points(*grid(5, 2), CHINCHILLA.loss(*grid(5, 2))),  # two budgets fit any floor
        Points(*grid(2, 5), CHINCHILLA.loss(*grid(2, 5))),
    ],
)
def test_too_little_is_refused(points: Points) -> None:
    with pytest.raises(DataError, match="wanted 6 points or more"):
        fit(points)


def held(law: Law, seeds: range, refits: int, **more: int) -> dict[str, float]:
    """How often intervals hold the truth."""
    hits: dict[str, list[bool]] = {}
    for seed in seeds:
        points = seen(law, seed, **more)
        found = fit(points)
        spread = refit(points, found, Refits(refits))
        for name in NAMES:
            low, high = spread.interval(getattr(spread.laws, name))
            hits.setdefault(name, []).append(low <= getattr(law, name) <= high)
        for name, values, truth in zip(
            ("N*", "D*", "L*"), spread.laws.best(BUDGET), law.best(BUDGET), strict=True
        ):
            low, high = spread.interval(values)
            hits.setdefault(name, []).append(low <= float(truth) <= high)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def test_intervals_hold_the_truth_quickly() -> None:
    found = held(CHINCHILLA, range(8), 200, sizes=5, budgets=5)
    assert min(found.values()) >= 6 / 8, found


@pytest.mark.slow
@pytest.mark.parametrize("law", [CHINCHILLA, BESIROGLU], ids=["chinchilla", "besiroglu"])
@pytest.mark.parametrize("sizes", [(7, 6), (5, 5)])
def test_intervals_hold_the_truth_in_85_of_100_seeds(law: Law, sizes: tuple[int, int]) -> None:
    found = held(law, range(1000, 1100), 200, sizes=sizes[0], budgets=sizes[1])  # widths were set on others
    assert min(found.values()) >= 0.85, found


def test_intervals_are_wider_with_more_noise_and_the_same_with_the_same_seed() -> None:
    quiet, loud = seen(CHINCHILLA, 0, 0.002), seen(CHINCHILLA, 0, 0.02)
    widths = []
    for points in (quiet, loud):
        spread = refit(points, fit(points), Refits(200))
        widths.append(np.ptp(spread.interval(spread.laws.b)))
    assert widths[1] > 4 * widths[0]
    again = refit(quiet, fit(quiet), Refits(200))
    np.testing.assert_array_equal(again.laws.b, refit(quiet, fit(quiet), Refits(200)).laws.b)


def test_case_draws_count_what_fails() -> None:
    n, d = grid(3, 3)
    points = Points(n, d, CHINCHILLA.loss(n, d) * np.exp(np.random.default_rng(0).normal(0, 0.003, 9)))
    spread = refit(points, fit(points), Refits(200, "case"))
    assert spread.failed > 0 and len(spread.laws.a) == 200 - spread.failed


def test_students_quantiles() -> None:
    for free, wanted in ((5, 2.015), (15, 1.753), (37, 1.687)):
        assert student(1.6449, free) == pytest.approx(wanted, abs=0.002)
