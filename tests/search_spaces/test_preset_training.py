"""A short training of every published system, and of combinations of their parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from pasture.dataset import Dataset, read_train
from pasture.folds import held_out_rows
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from pasture.targets import TOTAL, balance_gap
from pasture.verification import VerifiedDataset, verify
from search_spaces.catalogue import recipe_names
from tests.search_spaces.small_presets import small
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe
from trainables.training.nets import widths
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.preflight import check_recipe
from trainables.trial.trained_net import trained_net
from trainables.trial.trial import Trial

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("small_backbones")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VerifiedDataset:
    """20 photographs of 128 x 64 pixels."""
    out = tmp_path_factory.mktemp("paddocks") / "data"
    make_data(out, images=20, seed=1, width=128, height=64)
    return verify(read_train(out))


MakeTrial = Callable[[Recipe], Trial]


@pytest.fixture(scope="module")
def make_trial(dataset: VerifiedDataset) -> MakeTrial:
    """A trial that has not begun."""
    context = TrialContext(dataset, torch.device("cpu"))
    return lambda recipe: Trial("t0000", recipe, dataset, SequentialFolds(recipe, context))


@pytest.mark.parametrize("name", recipe_names())
def test_a_short_life(name: str, make_trial: MakeTrial, dataset: VerifiedDataset, tmp_path: Path) -> None:
    recipe = small(name)
    check_recipe(recipe, [])
    trial = make_trial(recipe)
    trial.step()
    checkpoint = trial.state()
    while not trial.done:
        trial.step()

    if recipe.neural:  # the others have one epoch
        restored = make_trial(recipe)
        restored.load_state(checkpoint)
        restored.step()
        for fold, learner in trial.executor.learners.items():
            weights = restored.executor.learners[fold].weights()
            assert all(torch.equal(tensor, weights[part]) for part, tensor in learner.weights().items())
        assert np.array_equal(trial.epochs[-1], restored.epochs[-1])

    run = RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    write_finished(run, trial)
    oof = run.read_oof("t0000")
    assert len(oof.image_ids) == (4 if recipe.validation.splitter == "holdout" else 20)
    assert oof.predictions.shape[1:] == (8, 5)
    assert np.isfinite(oof.predictions).all()
    assert (oof.predictions >= 0).all()
    assert balance_gap(oof.predictions).max() < 1e-4  # kept as float32

    rows = held_out_rows(trial.folds, 0)
    inputs = make_inputs(recipe, TrialContext(dataset, torch.device("cpu")))
    pretrained = create_backbone(recipe.backbone, recipe.view.size).model.state_dict()
    weights = load(run.weights("t0000").read("fold0.safetensors"))
    net = trained_net(recipe, widths(recipe), weights, pretrained)
    with torch.inference_mode():
        predicted = torch.stack([net.grams(inputs.element(rows, e)) for e in d4.ALL], dim=1)
    learned = trial.executor.learners[0].predict(rows, d4.ALL)
    assert project(predicted.double().numpy()) == pytest.approx(learned, rel=1e-4, abs=1e-3)

    blend = build([run], tmp_path / "blend", recipe.inference.tta)
    assert [member.recipe for member in blend.members] == [recipe]
    assert len(predict(blend, dataset)) == 20


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("crop_attention_distilled", {"fusion": {"within": "film", "kind": "mean"}}),
        ("two_stream", {"loss": {"lds.enabled": True}}),
        ("dinov3_lora", {"view.tiles": 2, "fusion.within": "attention"}),
        ("dinov3_lora", {"fusion.kind": "late"}),
        ("dinov3_lora", {"backbone.lora": {"target_modules": ["qkv", "proj", "mlp"], "blocks": 2}}),
        ("two_stream", {"target": {"kind": "five", "transform": "log1p_z"}, "head.output": "linear"}),
        ("multi_tile_siglip", {"fusion.kind": "late", "loss.auxiliary": 0.1, "loss.proportions": 0.5}),
        ("lightning_halves", {"fusion.kind": "attention", "schedule": {"kind": "restarts"}, "target.kind": "four"}),
        ("feature_ridge", {"view": {"kind": "corners"}, "backbone.out_indices": (1, 3)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_a_new_combination_needs_no_new_code(name: str, changes: dict[str, Any], make_trial: MakeTrial) -> None:
    recipe = small(name, **changes, **{"validation.splitter": "group"})
    check_recipe(recipe, [])
    trial = make_trial(recipe)
    before = [learner.weights() for learner in trial.executor.learners.values()]
    while not trial.done:
        trial.step()
    oof = trial.finish()
    assert np.isfinite(oof.predictions).all()
    assert balance_gap(oof.predictions).max() < 1e-6
    for start, learner in zip(before, trial.executor.learners.values(), strict=True):
        weights = learner.weights()
        moved = [n for n in start if not torch.equal(start[n], weights[n])]
        assert any(part.startswith(("head.", "model.")) for part in moved)
        if recipe.fusion.within != "mean":
            assert any(part.startswith("fuse.within") for part in moved)


@pytest.fixture(scope="module")
def plain_pictures(dataset: VerifiedDataset, tmp_path_factory: pytest.TempPathFactory) -> VerifiedDataset:
    """The same rows, each photograph of one colour."""
    root = tmp_path_factory.mktemp("plain") / "data"
    shutil.copytree(dataset.root, root)
    plain = read_train(root)
    for number, path in enumerate(plain.paths):
        Image.new("RGB", (128, 64), (60 + 5 * number, 200 - 5 * number, 40)).save(path)
    return plain


@pytest.mark.parametrize("name", ["crop_attention_distilled", "frozen_mlp", "multi_tile_siglip", "swin_mlp"])
def test_turning_a_picture_of_one_colour_changes_nothing(name: str, plain_pictures: Dataset) -> None:
    # Tuned and banked, tiles and corners, with a second backbone and without.
    recipe = small(name)
    verified = verify(plain_pictures)
    executor = SequentialFolds(recipe, TrialContext(verified, torch.device("cpu")))
    trial = Trial("t0000", recipe, verified, executor)
    while not trial.done:
        trial.step()
    predicted = trial.finish().predictions
    assert np.ptp(predicted[:, 0, TOTAL]) > 1e-3  # it does look at the picture
    assert predicted == pytest.approx(np.repeat(predicted[:, :1], 8, axis=1), rel=1e-4, abs=1e-3)
