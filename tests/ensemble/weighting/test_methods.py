"""Every method on one protocol: what its weights are, what the limits do to them, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from sklearn.linear_model import Ridge

from ensemble.estimate.scores import evaluate
from ensemble.members.pool import Pool
from ensemble.weighting.auto import choose, procedure, scaled, scaling_pays
from ensemble.weighting.library import Library, combine, shared
from ensemble.weighting.methods import METHODS, WIDEST, fit_method
from ensemble.weighting.options import MethodName, Options, check_options
from ensemble.weighting.procedure import whole
from ensemble.weighting.ridge_path import penalty, ridge
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.targets import WEIGHTS, Array, balance_gap, from_components

MakePool = Callable[..., Pool]


def drawn(make_pool: MakePool, seed: int, members: int, dates: int = 15, spread: float = 9.0) -> Pool:
    """Members in balance that know the paddocks' expected weights, with an error of their own, of a size of their own.

    What makes a paddock's weights differ from the expected ones no member knows: no scaling of the members pays.
    """
    rng = np.random.default_rng(seed)
    day = np.arange(dates).repeat(4)
    expected = rng.gamma(8.0, 1 / 8, (dates, 1))[day] * rng.gamma(8.0, 1 / 8, (len(day), 3)) * [25.0, 10.0, 6.0]
    truth = expected * rng.gamma(30.0, 1 / 30, expected.shape)
    own = rng.normal(0, 1, (members, len(day), 3)) * rng.uniform(1, spread, (members, 1, 1))
    return make_pool(from_components(truth), day, from_components((expected + own).clip(0)))


@pytest.fixture
def library(make_pool: MakePool) -> Library:
    return Library.of(drawn(make_pool, seed=0, members=12))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_a_weight_for_every_member_and_target(name: MethodName, library: Library) -> None:
    weights = fit_method(name, library, Options())
    assert weights.shape == (12, 5)
    assert np.isfinite(weights).all()
    if name != "ridge":
        assert (weights >= 0).all()
        assert_allclose(weights.sum(axis=0), 1)
    assert shared(weights) == (name not in ("per-target", "ridge"))
    blended = combine(weights, library.predictions)
    assert balance_gap(blended).max() < 1e-9
    assert name == "uniform" or weighted_r2(library.truth, blended) > library.gram.members_r2().max()


def test_convex_methods_stand_in_order_on_the_images_fitted_to(library: Library) -> None:
    fitted = {
        n: library.gram.r2(fit_method(n, library, Options())[:, 0]) for n in METHODS if n not in ("per-target", "ridge")
    }
    assert fitted["uniform"] < fitted["shrunk"] <= fitted["simplex"]
    assert fitted["simplex"] - 1e-4 < fitted["greedy"] <= fitted["simplex"] + 1e-12


def test_per_target_weights_are_those_of_a_reference_programme(library: Library) -> None:
    weights = fit_method("per-target", library, Options())
    for t in range(5):
        errors = (library.predictions[:, :, t] - library.truth[:, t]) / np.sqrt(library.gram.total)
        mean = errors.mean(axis=0)
        strength = penalty((errors - mean).T, -mean, library.day)
        reference = minimize(
            lambda a, e=errors, p=strength: float(((a @ e) ** 2).sum() + p * ((a - 1 / 12) ** 2).sum()),
            np.full(12, 1 / 12),
            method="SLSQP",
            bounds=[(0, 1)] * 12,
            constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        assert_allclose(weights[:, t], reference.x, atol=2e-3)


def test_ridge_is_a_ridge_regression_on_what_equal_weights_leave(library: Library) -> None:
    design, truth = library.predictions[:, :, 4].T, library.truth[:, 4]
    left = truth - design.mean(axis=1)
    strength = penalty(design, left, library.day)
    reference = Ridge(alpha=strength, fit_intercept=False, solver="cholesky").fit(design, left).coef_
    assert_allclose(fit_method("ridge", library, Options())[:, 4], 1 / 12 + reference, atol=1e-6)
    assert_allclose(ridge(design, left, library.day), reference, atol=1e-6)


def test_the_penalty_is_the_best_by_plain_cross_validation_over_dates() -> None:
    rng = np.random.default_rng(0)
    day = np.arange(20).repeat(3)
    design = rng.normal(0, 1, (60, 4))
    target = design @ [1.0, -1.0, 0.5, 0.0] + rng.normal(0, 2, 60)

    def error(strength: float) -> float:
        total = 0.0
        for group in range(5):
            held = day % 5 == group
            model = Ridge(alpha=strength, fit_intercept=False).fit(design[~held], target[~held])
            total += float(((target[held] - model.predict(design[held])) ** 2).sum())
        return total

    unit = float((design**2).sum()) / 4
    candidates = np.logspace(-4, 4, 17) * unit
    assert penalty(design, target, day) == pytest.approx(min(candidates, key=error))
    noise = rng.normal(0, 1, 60)
    assert penalty(design, noise, day) > 10 * penalty(design, design @ [1.0, 1, 1, 1], day)


@pytest.mark.parametrize("name", METHODS)
def test_limits_hold_for_every_method(name: MethodName, library: Library) -> None:
    weights = fit_method(name, library, Options(max_members=4, max_backbones=2))
    used = np.flatnonzero(weights.any(axis=1))
    assert 1 <= len(used) <= 4
    assert len({library.backbones[i] for i in used}) <= 2
    free = fit_method(name, library, Options())
    assert len(np.flatnonzero(free.any(axis=1))) > 4


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("uniform", "best-k")])
def test_small_weights_are_dropped_and_the_others_weighed_anew(name: MethodName, library: Library) -> None:
    weights = fit_method(name, library, Options(min_weight=0.1))
    share = np.abs(weights) @ WEIGHTS
    assert (share[share > 0] >= 0.1).all()
    assert weights.any(axis=1).sum() < fit_method(name, library, Options()).any(axis=1).sum()


@pytest.mark.heavy
def test_solving_methods_look_at_the_best_members_only(make_pool: MakePool) -> None:
    library = Library.of(drawn(make_pool, seed=1, members=WIDEST + 20))
    worst = np.argsort(-library.gram.diagonal)[:20]
    for name, method in METHODS.items():
        weights = fit_method(name, library, Options())
        assert not (method.solves and weights[worst].any())
        assert name != "uniform" or weights[worst].all()


def test_options_of_greedy_are_refused_elsewhere_by_name() -> None:
    for name in METHODS:
        check_options(name, Options(max_members=3, bags=5))
        check_options(name, Options(min_weight=0.1))
    check_options("auto", Options(bags=5))
    with pytest.raises(
        InputError, match="--warm-start belongs to greedy selection, which --method simplex does not use"
    ):
        check_options("simplex", Options(warm_start=3))


@pytest.mark.heavy
def test_auto_takes_equal_weights_where_members_are_equally_good(make_pool: MakePool) -> None:
    """In most draws: one standard error leaves room for chance (of 60, it took uniform in 50 and best-k in 3)."""
    libraries = [Library.of(drawn(make_pool, seed, members=10, spread=1.0)) for seed in range(10)]
    chosen = [choose(library, Options()).name for library in libraries]
    assert chosen.count("uniform") + chosen.count("best-k") >= 8
    assert chosen.count("uniform") >= 7
    assert_allclose(whole(procedure("auto", Options()))(libraries[chosen.index("uniform")]), 0.1)


def test_auto_weighs_members_that_differ_clearly(make_pool: MakePool) -> None:
    library = Library.of(drawn(make_pool, seed=0, members=20, spread=40.0))
    choice = choose(library, Options())
    assert choice.name != "uniform"
    assert choice.behind["uniform"] > choice.error["uniform"] > 0
    assert choice.behind[choice.name] <= choice.error[choice.name]
    simpler = list(METHODS)[: list(METHODS).index(choice.name)]
    assert all(choice.behind[name] > choice.error[name] for name in simpler)
    assert_allclose(whole(procedure("auto", Options()))(library), fit_method(choice.name, library, Options()))


@pytest.mark.heavy
def test_the_choice_of_method_is_made_without_the_dates_it_is_scored_on(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every time that auto chooses for the nested score, the held-out dates are out of its sight."""
    pool = drawn(make_pool, seed=0, members=4, dates=10)
    seen: list[int] = []

    def spy(library: Library, options: Options) -> object:
        seen.append(len(library.days))
        return choose(library, options)

    monkeypatch.setattr("ensemble.weighting.auto.choose", spy)
    evaluate(Library.of(pool), procedure("auto", Options()), repeats=2)
    assert seen == [10, *[8] * 10]


@pytest.mark.heavy
def test_noise_shows_no_skill_whatever_is_chosen(make_pool: MakePool) -> None:
    """Members that know nothing: neither choosing a method nor scaling makes any of them look good."""
    gains = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        day = np.arange(12).repeat(4)
        truth = from_components(rng.gamma(2.0, 10.0, (48, 3)))
        noise = truth.mean(axis=0) + rng.normal(0, 1, (8, 12, 5))[:, day] * truth.std(axis=0)
        library = Library.of(make_pool(truth, day, noise))
        estimate = evaluate(library, procedure("auto", Options(), scale=True), repeats=1)
        assert estimate.nested is not None
        gains.append(estimate.nested - estimate.baseline)
    assert np.mean(gains) < 3 * np.std(gains, ddof=1) / np.sqrt(len(gains))


def test_scaling_undoes_a_bias_and_leaves_the_rest_alone(make_pool: MakePool) -> None:
    library = Library.of(drawn(make_pool, seed=0, members=6, dates=20, spread=2.0))
    assert not scaling_pays(whole(procedure("uniform", Options())), library)
    too_much = Library.of(make_pool(library.truth, library.day, library.predictions * 1.5))
    plain = whole(procedure("uniform", Options()))
    assert scaling_pays(plain, too_much)
    weights = whole(procedure("uniform", Options(), scale=True))(too_much)
    assert_allclose(weights, scaled(plain(too_much), too_much))
    assert_allclose(weights.sum(axis=0), 1 / 1.5, rtol=0.1)


def test_one_date_gives_nothing_to_choose_by(make_pool: MakePool) -> None:
    library = Library.of(drawn(make_pool, seed=0, members=5, dates=1))
    assert choose(library, Options()).name == "uniform"
    assert not scaling_pays(whole(procedure("uniform", Options())), library)


def test_split_keeps_dates_apart_and_members_in_place(library: Library) -> None:
    rest, held = library.split(np.array([3, 7]))
    assert set(held.day) == {3, 7}
    assert set(rest.day) == set(library.day) - {3, 7}
    assert len(rest.truth) + len(held.truth) == len(library.truth)
    inner, _ = rest.split(np.array([5]))
    rows = ~np.isin(library.day, [3, 5, 7])
    assert_allclose(inner.predictions, library.predictions[:, rows])
    assert_allclose(inner.truth, library.truth[rows])


def test_equal_columns_keep_the_balance_without_projection() -> None:
    predictions: Array = np.array([[[1.0, 2, 3, 4, 6]], [[3.0, 2, 1, 4, 7]]])
    blended = combine(np.full((2, 5), 0.5), predictions)
    assert_allclose(blended, [[2, 2, 2, 4, 6.5]])
