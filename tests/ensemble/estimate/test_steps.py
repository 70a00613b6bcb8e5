"""The steps by which members were chosen are those of the blend."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.estimate.steps import steps
from ensemble.weighting.library import Library, combine
from ensemble.weighting.methods import fit_method
from ensemble.weighting.options import Options
from pasture.metric import total_ss, weighted_r2
from pasture.targets import WEIGHTS


@pytest.fixture
def library() -> Library:
    """Eight members with ever larger errors, the last two of one recipe, on 40 images of 8 dates."""
    draw = np.random.default_rng(0)
    truth = draw.uniform(5, 50, (40, 5))
    predictions = truth + draw.normal(0, 1, (8, 40, 5)) * np.array([4, 5, 6, 7, 8, 30, 9, 9])[:, None, None]
    recipes = ["a", "b", "c", "d", "e", "f", "g", "g"]
    return Library.of_arrays(truth, predictions, np.arange(40) % 8, recipes=recipes)


def test_steps_of_greedy_selection_end_at_the_score_of_the_blend(library: Library) -> None:
    taken = steps("greedy", library, Options(steps=30))
    assert taken is not None
    assert not taken.held_out
    weights = fit_method("greedy", library, Options(steps=30))
    assert set(taken.members[: taken.kept]) <= set(np.flatnonzero(weights.any(axis=1)))
    fitted = weighted_r2(library.truth, combine(weights, library.predictions))
    assert taken.scores[taken.kept - 1] == pytest.approx(fitted) == pytest.approx(max(taken.scores))
    assert len(taken.members) == len(taken.scores) == 30


def test_steps_of_best_k_are_scored_on_dates_held_out(library: Library) -> None:
    taken = steps("best-k", library, Options())
    assert taken is not None
    assert taken.held_out
    weights = fit_method("best-k", library, Options())
    kept = set(np.flatnonzero(weights.any(axis=1)))
    assert {6 if i == 7 else i for i in kept} == set(taken.members[: taken.kept]), "seeds count as one member"
    means = np.concatenate([library.predictions[:6], library.predictions[6:].mean(axis=0)[None]])
    loss = 0.0  # of the mean of the three best
    for date in range(8):
        out = library.day == date
        alone = ((means[:, ~out] - library.truth[~out]) ** 2 @ WEIGHTS).sum(axis=1)
        best = means[np.argsort(alone)[:3]][:, out].mean(axis=0)
        loss += float(((best - library.truth[out]) ** 2 @ WEIGHTS).sum())
    assert taken.scores[2] == pytest.approx(1 - loss / total_ss(library.truth))


def test_methods_without_steps(library: Library) -> None:
    assert steps("uniform", library, Options()) is None
    assert steps("greedy", library, Options(bags=3)) is None
    assert steps("best-k", library.on(np.array([0])), Options()) is None
