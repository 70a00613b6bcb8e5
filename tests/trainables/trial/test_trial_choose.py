"""Which epoch counts: `schedule.choose` and the scores, files and losses by date that follow from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pasture.folds import held_out_rows, training_rows
from pasture.metric import weighted_r2
from pasture.targets import WEIGHTS
from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.refit import train_on_all
from trainables.trial.trial import Trial

MakeTrial = Callable[..., Trial]
AVERAGE = {"schedule.choose": "average", "schedule.average_share": 0.5}


@pytest.mark.parametrize(
    ("choose", "window"), [("last", [1, 1, 1, 1, 1]), ("average", [1, 1, 2, 2, 3])], ids=["last", "average"]
)
def test_the_score_is_that_of_what_would_count_now(
    make_trial: MakeTrial, frozen_recipe: Recipe, dataset: VerifiedDataset, choose: str, window: list[int]
) -> None:
    trial = make_trial(frozen_recipe.with_overrides({**AVERAGE, "schedule.choose": choose}))
    for epoch in range(5):
        report = trial.step()
        mean = np.mean(trial.epochs[-window[epoch] :], axis=0)
        assert report["score"] == pytest.approx(weighted_r2(dataset.targets, mean), abs=1e-12)
        assert report["epoch_score"] == weighted_r2(dataset.targets, trial.epochs[-1])
        assert report["best_epoch"] == epoch + 1


def test_the_weights_of_the_last_epochs_are_averaged(make_trial: MakeTrial, frozen_recipe: Recipe) -> None:
    by_epoch = []
    plain = make_trial(frozen_recipe)
    for _ in range(6):
        plain.step()
        by_epoch.append(plain.executor.learners[1].weights())
    trial = make_trial(frozen_recipe.with_overrides(AVERAGE), epochs=6)
    assert np.array_equal(trial.epochs, plain.epochs), "averaging changes the training"
    table = trial.finish()
    for name, tensor in trial.executor.kept(1).items():
        mean = torch.stack([weights[name].double() for weights in by_epoch[3:]]).mean(dim=0)
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-6, atol=1e-7)
    assert trial.curve[-1]["score"] == table.metadata["score"]
    assert weighted_r2(trial.dataset.targets, table.predictions[:, 0]) == pytest.approx(table.metadata["score"])
    assert table.metadata["score"] != trial.curve[-1]["epoch_score"]
    assert (table.metadata["choose"], table.metadata["epoch"]) == ("average", 5)


def test_an_average_continues_after_a_stop(make_trial: MakeTrial, frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides({**AVERAGE, "optimizer.ema": 0.5})
    undisturbed, first, second = make_trial(recipe, epochs=6), make_trial(recipe, epochs=5), make_trial(recipe)
    second.load_state(first.state())
    second.step()
    assert np.array_equal(second.finish().predictions, undisturbed.finish().predictions)
    third = make_trial(recipe)
    third.load_state(undisturbed.state())  # taken after the end
    assert np.array_equal(third.finish().predictions, undisturbed.finish().predictions)


@pytest.mark.heavy
def test_batch_norms_of_averaged_weights_take_new_statistics(make_trial: MakeTrial, tuned_recipe: Recipe) -> None:
    recipe = tuned_recipe.with_overrides({**AVERAGE, "augment.strength": "none", "backbone.name": "resnet10t"})
    trial = make_trial(recipe, epochs=4)
    learner = trial.executor.learners[0]
    net = learner.net
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    found = [norm.running_mean.clone() for norm in norms]
    # The statistics of the first norm depend on the pictures and the first convolution only: by hand, in one batch.
    rows = training_rows(trial.folds, 0)
    net.eval()
    seen: list[torch.Tensor] = []
    hook = norms[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        net.embed(learner.inputs.element(rows, 0))
    hook.remove()
    torch.testing.assert_close(found[0], seen[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], learner.average.mean["backbone.model.conv1.1.running_mean"], rtol=1e-3)
    assert all(norm.momentum == 0.1 and not norm.training for norm in norms)
    table = trial.finish()
    held = held_out_rows(trial.folds, 0)
    assert np.array_equal(learner.predict(held, (0,))[:, 0], table.predictions[trial.folds == 0, 0])


def test_training_on_all_images_averages_too(
    dataset: VerifiedDataset, frozen_recipe: Recipe, cpu: torch.device
) -> None:
    recipe = frozen_recipe.with_overrides(AVERAGE)
    context = TrialContext(dataset, cpu)
    weights = train_on_all(recipe, context, 6, ())
    by_epoch = [train_on_all(frozen_recipe, context, epochs, ()) for epochs in (4, 5, 6)]
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, torch.stack([w[name].float() for w in by_epoch]).mean(dim=0).to(tensor))


@pytest.mark.parametrize("choose", ["last", "best", "average"])
def test_losses_by_date_add_up_to_the_score(
    dataset: VerifiedDataset, frozen_recipe: Recipe, cpu: torch.device, choose: str
) -> None:
    changes = {"schedule.choose": choose, "optimizer.head_lr": 0.2, "schedule.average_share": 0.5}
    recipe = frozen_recipe.with_overrides(changes)
    executor = SequentialFolds(recipe, TrialContext(dataset, cpu))
    trial = Trial("t", recipe, dataset, executor, rungs=(2, 4), origin="start")
    while not trial.done:
        trial.step()
    assert [r["epoch"] for r in trial.curve if "date_losses" in r] == [2, 4, 6]
    truth = dataset.targets
    center = (truth @ WEIGHTS).sum() / (WEIGHTS.sum() * len(truth))
    total = ((truth - center) ** 2 @ WEIGHTS).sum()
    for report in (trial.curve[1], trial.curve[3], trial.curve[5]):
        assert len(report["date_losses"]) == len(np.unique(dataset.dates))
        assert all(type(loss) is float for loss in report["date_losses"])
        assert 1 - sum(report["date_losses"]) / total == pytest.approx(report["score"], abs=1e-12)
    table = trial.finish()
    assert table.metadata["origin"] == "start"
    first = dataset.dates == np.unique(dataset.dates)[0]
    by_hand = ((table.predictions[first, 0] - truth[first]) ** 2 @ WEIGHTS).sum()
    assert trial.curve[5]["date_losses"][0] == pytest.approx(by_hand)
