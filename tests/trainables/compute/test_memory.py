"""Halving what is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pasture.errors import JobError
from pasture.verification import VerifiedDataset
from trainables.compute.memory import with_smaller_batches
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths
from trainables.trial.trial import Trial

ROWS = np.arange(0, 24, 2)


def _room_for(images: int) -> Callable[[int], int]:
    def work(size: int) -> int:
        if size > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size

    return work


@pytest.mark.heavy
@pytest.mark.parametrize(("room", "fits"), [(64, 64), (63, 32), (5, 4), (1, 1)])
def test_the_size_is_halved_until_it_fits(room: int, fits: int) -> None:
    assert with_smaller_batches(64, _room_for(room)) == (fits, fits)


@pytest.mark.heavy
def test_not_even_one_is_a_job_error_that_says_what_to_do() -> None:
    with pytest.raises(JobError, match=r"view\.size.*gradient_checkpointing.*--gpus-per-trial"):
        with_smaller_batches(64, _room_for(0))


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for three images."""
    embed = BiomassNet.embed

    def checked(self: BiomassNet, batch: Batch) -> Tensor:
        if len(batch.views) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(self, batch)

    monkeypatch.setattr(BiomassNet, "embed", checked)


@pytest.mark.heavy
def test_a_learner_goes_on_with_the_same_gradients(
    dataset: VerifiedDataset, cpu: torch.device, frozen_recipe: Recipe, request: pytest.FixtureRequest
) -> None:
    recipe = frozen_recipe.with_overrides({"head.dropout": 0.0, "schedule.batch_size": 12, "loss.lds.enabled": True})

    def trained() -> FoldLearner:
        inputs = make_inputs(recipe, TrialContext(dataset, cpu))
        learner = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, ROWS, cpu)
        for epoch in range(2):
            learner.train_epoch(epoch, [])
        return learner

    whole = trained()
    expected = whole.predict(ROWS, d4.ALL)
    request.getfixturevalue("small_device")
    halved = trained()
    assert (whole.micro_batch, halved.micro_batch) == (12, 3)
    for name, tensor in whole.weights().items():
        torch.testing.assert_close(halved.weights()[name], tensor, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(halved.predict(ROWS, d4.ALL), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.heavy
def test_a_reduced_batch_is_not_tried_again_at_full_size(
    dataset: VerifiedDataset, cpu: torch.device, frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, refused = BiomassNet.embed, []

    def checked(self: BiomassNet, batch: Batch) -> Tensor:
        if len(batch.views) > 3:
            refused.append(len(batch.views))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(self, batch)

    monkeypatch.setattr(BiomassNet, "embed", checked)
    recipe = frozen_recipe.with_overrides({"schedule.batch_size": 12})
    inputs = make_inputs(recipe, TrialContext(dataset, cpu))
    learner = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, ROWS, cpu)
    learner.train_epoch(0, [])
    learner.predict(ROWS, d4.FLIPS)
    assert refused, "the first batches are too large, or the test shows nothing"
    again = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, ROWS, cpu)
    again.load_state(learner.state())
    refused.clear()
    for each in (learner, again):
        each.train_epoch(1, [])
        each.predict(ROWS, d4.FLIPS)
    assert refused == []


@pytest.mark.heavy
def test_the_trial_notes_it(make_trial: Callable[..., Trial], tuned_recipe: Recipe, small_device: None) -> None:
    report = make_trial(tuned_recipe.with_overrides({"schedule.batch_size": 6})).step()
    assert report["micro_batch"] == 3
