from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ensemble.estimate.remarks import remarks
from ensemble.estimate.scores import Estimate, evaluate
from ensemble.members.pool import Pool
from ensemble.weighting.auto import procedure
from ensemble.weighting.library import Library, combine
from ensemble.weighting.options import Options
from ensemble.weighting.procedure import Decided
from pasture.metric import baseline_r2, weighted_r2
from pasture.targets import WEIGHTS, Array, from_components

MakePool = Callable[..., Pool]


def paddocks(rng: np.random.Generator, dates: int, images: int) -> tuple[Array, Array]:
    """(n, 5) truth in grams and (n,) dates of n = dates x images photographs; half of the variance is the date's."""
    level = rng.gamma(8.0, 1 / 8, (dates, 1)).repeat(images, axis=0)
    components = level * rng.gamma(8.0, 1 / 8, (dates * images, 3)) * [25.0, 10.0, 6.0]
    return from_components(components), np.arange(dates).repeat(images)


class Members:
    """Models that can be shown any paddocks: each with an error of its own kind, and one that all share."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.spread = rng.uniform(4, 12, (count, 1, 1))
        self.date_spread = rng.uniform(4, 8, (count, 1, 1))

    def predict(self, rng: np.random.Generator, truth: Array, dates: Array) -> Array:
        """(m, n, 5) in grams."""
        m, (n, targets) = len(self.spread), truth.shape
        shared = rng.normal(0, 4, (n, targets))
        own = rng.normal(0, 1, (m, n, targets)) * self.spread
        of_date = rng.normal(0, 1, (m, dates.max() + 1, targets))[:, dates] * self.date_spread
        return np.asarray(truth + shared + own + of_date)


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    rng = np.random.default_rng(0)
    truth, dates = paddocks(rng, dates=8, images=4)
    return make_pool(truth, dates, Members(rng, 12).predict(rng, truth, dates))


GREEDY = procedure("greedy", Options())


def test_the_scores_stand_in_order(pool: Pool) -> None:
    estimate = evaluate(Library.of(pool), GREEDY)
    assert estimate.best_single == max(c.score for c in pool.members)
    assert estimate.uniform == pytest.approx(weighted_r2(pool.truth, pool.predictions.mean(axis=0)))
    blended = combine(estimate.weights, pool.predictions)
    assert estimate.fitted == pytest.approx(weighted_r2(pool.truth, blended))
    assert estimate.baseline == baseline_r2(pool.truth)
    assert estimate.weights.sum(axis=0) == pytest.approx(1.0)
    assert estimate.nested is not None
    assert estimate.interval is not None
    assert estimate.baseline < estimate.best_single < estimate.fitted < estimate.optimum
    assert estimate.interval[0] < estimate.nested < min(estimate.interval[1], estimate.fitted)
    assert estimate.notes == ()


@pytest.mark.heavy
def test_the_same_seed_gives_the_same_estimate(pool: Pool) -> None:
    a, b, c = (evaluate(Library.of(pool), GREEDY, seed=seed) for seed in (1, 1, 2))
    assert (a.nested, a.interval) == (b.nested, b.interval)
    assert a.nested != c.nested


def test_a_blend_never_sees_the_dates_it_is_scored_on(make_pool: MakePool) -> None:
    truth, dates = paddocks(np.random.default_rng(0), dates=8, images=4)
    error = np.broadcast_to(dates[:, None] + 1.0, truth.shape)  # a residual says which date it is of
    seen: list[set[int]] = []

    def fit(library: Library) -> Array:
        error = library.predictions[0] - library.truth
        seen.append(set((error[:, 0].round().astype(int) - 1).tolist()))
        return np.repeat([[0.25], [0.75]], 5, axis=1)

    estimate = evaluate(
        Library.of(make_pool(truth, dates, np.stack([truth + error, truth - error]))), lambda _: Decided(fit), repeats=2
    )
    everything, *nested = seen[:11]  # then those of the interval
    assert everything == set(range(8))
    for repeat in (nested[:5], nested[5:]):
        held_out = [everything - inside for inside in repeat]
        assert sorted(len(h) for h in held_out) == [1, 1, 2, 2, 2]
        assert set.union(*held_out) == everything
    assert estimate.nested == pytest.approx(estimate.fitted)  # these weights do not depend on what was seen


def test_a_single_member_is_worth_what_it_scores(pool: Pool, make_pool: MakePool) -> None:
    estimate = evaluate(Library.of(make_pool(pool.truth, pool.dates, pool.predictions[:1])))
    scores = (estimate.uniform, estimate.fitted, estimate.nested, estimate.optimum)
    assert scores == pytest.approx((estimate.best_single,) * 4)


def test_perfect_members_have_a_perfect_score(pool: Pool, make_pool: MakePool) -> None:
    estimate = evaluate(Library.of(make_pool(pool.truth, pool.dates, np.stack([pool.truth, pool.truth]))))
    assert estimate.nested == 1.0
    assert estimate.interval == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(("dates", "nested", "interval"), [(1, False, False), (2, True, False), (5, True, True)])
def test_few_dates_give_what_can_be_given_and_the_reason(
    dates: int, nested: bool, interval: bool, make_pool: MakePool
) -> None:
    rng = np.random.default_rng(0)
    truth, day = paddocks(rng, dates, images=4)
    estimate = evaluate(Library.of(make_pool(truth, day, Members(rng, 5).predict(rng, truth, day))))
    assert (estimate.nested is not None, estimate.interval is not None) == (nested, interval)
    assert any("no nested score: all images are of one date" in n for n in estimate.notes) == (not nested)
    assert any("no interval: 2 dates are too few" in n for n in estimate.notes) == (nested and not interval)


def test_the_epoch_is_chosen_without_the_dates_it_is_scored_on(make_pool: MakePool) -> None:
    """An epoch that is good on one date only: outside sight of that date another is chosen, and used without TTA."""
    rng = np.random.default_rng(0)
    truth, dates = paddocks(rng, dates=5, images=4)
    lucky, steady = truth + 5.2, truth + 5.0
    lucky[dates == 0] = truth[dates == 0]  # the better epoch over all dates
    pool = make_pool(truth, dates, lucky[None] + 0.1, np.stack([lucky, steady])[None], epoch=[0])
    assert weighted_r2(truth, lucky) > weighted_r2(truth, steady)
    expected = np.where((dates == 0)[:, None], steady, lucky + 0.1)
    estimate = evaluate(Library.of(pool))
    assert estimate.nested == pytest.approx(weighted_r2(truth, expected), abs=1e-6)
    assert estimate.notes == ()


def test_the_blend_is_compared_with_the_start_portfolio(pool: Pool) -> None:
    """Paired over dates on the same nested predictions; a blend that is the start portfolio is level with it."""
    library = dataclasses.replace(Library.of(pool), start=np.arange(12) < 4)
    estimate = evaluate(library)
    start = estimate.start
    assert start is not None
    mean = weighted_r2(pool.truth, pool.predictions[:4].mean(axis=0))
    assert (start.members, start.nested) == (4, pytest.approx(mean))
    assert estimate.nested is not None
    assert start.ahead == pytest.approx(estimate.nested - start.nested)
    assert estimate.unseen is not None
    losses = [((p - pool.truth) ** 2 @ WEIGHTS) for p in (pool.predictions[:4].mean(axis=0), estimate.unseen)]
    by_date = [
        losses[0][pool.dates == d].sum() - losses[1][:, pool.dates == d].sum(axis=1).mean() for d in set(pool.dates)
    ]
    assert start.error == pytest.approx(np.std(by_date, ddof=1) * np.sqrt(len(by_date)) / library.gram.total)
    equal = np.repeat((library.start / 4)[:, None], 5, axis=1)
    same = evaluate(library, lambda _: Decided(lambda _: equal)).start
    assert same is not None
    assert (same.ahead, same.error, same.level) == (0, 0, True)


@pytest.mark.parametrize(("start", "level"), [(slice(0, 3), False), (slice(3, 12), True)])
def test_a_search_that_is_not_shown_to_pay_is_named(start: slice, level: bool, make_pool: MakePool) -> None:
    """Three poor start recipes and nine good searched ones; then the other way round."""
    rng = np.random.default_rng(0)
    truth, dates = paddocks(rng, dates=12, images=4)
    predictions = truth + rng.normal(0, 1, (12, *truth.shape)) * np.where(np.arange(12) < 3, 25, 5)[:, None, None]
    pool = make_pool(truth, dates, predictions)
    members = [dataclasses.replace(m, origin="start") if m in pool.members[start] else m for m in pool.members]
    pool = dataclasses.replace(pool, members=members)
    estimate = evaluate(Library.of(pool), GREEDY)
    assert estimate.start is not None
    assert estimate.start.level == level
    said = [line for line in remarks(pool, estimate, "greedy", Options(), [0]) if "the search shows no gain" in line]
    assert len(said) == level
    assert not level or f"the {estimate.start.members} start recipe(s)" in said[0]


@pytest.mark.parametrize("start", [False, True])
def test_there_is_no_start_portfolio_to_compare_with_where_all_or_none_belong_to_it(start: bool, pool: Pool) -> None:
    library = Library.of(pool)
    assert evaluate(dataclasses.replace(library, start=np.full(12, start))).start is None


SEEDS = range(1000, 1020)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def score(estimate: Estimate) -> float:
    assert estimate.nested is not None
    return estimate.nested


@pytest.mark.heavy
def test_noise_shows_no_skill_though_the_fitted_score_does(make_pool: MakePool) -> None:
    """Members that know nothing: their errors, alike within a date, match the truth of some dates by chance.

    Each of 30 epochs is a new draw and the trial keeps its best: both choices, of epochs and of members, flatter.
    """
    nested, fitted = [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        truth, dates = paddocks(rng, dates=12, images=5)
        noise = rng.normal(0, 1, (25, 30, 12, 5))[:, :, dates] * truth.std(axis=0)
        epochs = truth.mean(axis=0) + noise
        epoch = [int(np.argmax([weighted_r2(truth, e) for e in member])) for member in epochs]
        chosen = np.stack([member[e] for member, e in zip(epochs, epoch, strict=True)])
        estimate = evaluate(Library.of(make_pool(truth, dates, chosen, epochs, epoch)), repeats=1, seed=seed)
        nested.append(score(estimate) - estimate.baseline)
        fitted.append(estimate.fitted - estimate.baseline)
    mean, error = mean_and_error(nested)
    assert mean < 3 * error
    mean, error = mean_and_error(fitted)
    assert mean > 10 * error
