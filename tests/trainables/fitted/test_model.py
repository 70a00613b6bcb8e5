"""Models that are no networks: what all kinds promise."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save, save_file

from pasture.errors import InputError, JobError
from pasture.metric import weighted_r2
from pasture.projection import project
from pasture.targets import CLOVER, DEAD, GDM, GREEN, TOTAL, Array, from_components
from trainables.fitted.model import FittedModel, check_fitted, principal_axes, standardisation
from trainables.recipe.recipe import Recipe

KINDS = ("ridge", "pls", "lightgbm", "catboost")
FEATURES = 30
CASES = [(kind, components, target) for kind in KINDS for components, target in ((0, "five"), (6, "primary"))]


def _recipe(kind: str, components: int = 0, target: str = "five", transform: str = "log1p") -> Recipe:
    return Recipe.parse(
        {"head": {"kind": kind, "components": components}, "target": {"kind": target, "transform": transform}}
    )


def _problem(rows: int, seed: int) -> tuple[Array, Array]:
    """Three hidden numbers that most features echo and that the weights of the components follow from."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(rows, 3))
    echo = np.random.default_rng(0).normal(size=(3, FEATURES))
    features = hidden @ echo + generator.normal(size=(rows, FEATURES)) * np.linspace(0.3, 2, FEATURES)
    features[:, -1] = 0.1  # never varies, and its mean is not exactly itself
    components = 30 + hidden @ np.array([[12, 0, 2], [0, 9, -2], [3, 3, 6]]).T
    return features, from_components(np.clip(components + generator.normal(size=(rows, 3)), 0, None))


TRAIN, TEST = _problem(90, seed=1), _problem(60, seed=2)


def _fit(recipe: Recipe, weights: Array | None = None, seed: int = 0, grams: Array = TRAIN[1]) -> FittedModel:
    model = FittedModel(recipe, FEATURES)
    model.fit(TRAIN[0], grams, np.ones(len(grams)) if weights is None else weights, seed)
    return model


@cache
def _fitted(recipe: Recipe) -> FittedModel:
    """The model of a recipe with even weights and seed 0, for tests that only look at it."""
    return _fit(recipe)


def _grams(model: FittedModel, features: Array = TEST[0]) -> Array:
    return model.grams(torch.from_numpy(features).float()).numpy()


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "components", "target"), CASES)
def test_learns_what_can_be_learnt_and_nothing_from_shuffled_labels(kind: str, components: int, target: str) -> None:
    recipe = _recipe(kind, components, target)
    means = np.broadcast_to(TRAIN[1].mean(axis=0), TEST[1].shape)
    baseline = weighted_r2(TEST[1], means)
    assert weighted_r2(TEST[1], project(_grams(_fitted(recipe)))) > baseline + 0.5 * (1 - baseline)
    shuffled = TRAIN[1][np.random.default_rng(0).permutation(len(TRAIN[1]))]
    assert weighted_r2(TEST[1], project(_grams(_fit(recipe, grams=shuffled)))) < baseline + 0.03


@pytest.mark.heavy
@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p", "log1p_z"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_transform_predicts_grams(kind: str, transform: str) -> None:
    predicted = _grams(_fitted(_recipe(kind, transform=transform)))
    np.testing.assert_allclose(predicted.mean(axis=0), TEST[1].mean(axis=0), rtol=0.15)


def test_the_transform_counts_for_boosting_but_not_for_ridge() -> None:
    def same(kind: str) -> bool:
        plain = _recipe(kind, transform="none")
        return np.array_equal(_grams(_fitted(_recipe(kind))), _grams(_fitted(plain)))

    assert same("ridge")
    assert not same("lightgbm")


@pytest.mark.parametrize("kind", KINDS)
def test_primary_derives_dead_and_clover(kind: str) -> None:
    predicted = _grams(_fitted(_recipe(kind, target="primary"))).T
    np.testing.assert_allclose(predicted[DEAD], predicted[TOTAL] - predicted[GDM])
    np.testing.assert_allclose(predicted[CLOVER], predicted[GDM] - predicted[GREEN])
    five = _grams(_fitted(_recipe(kind))).T
    assert np.abs(five[DEAD] - (five[TOTAL] - five[GDM])).max() > 0.01


@pytest.mark.parametrize(("kind", "components", "target"), CASES)
def test_safetensors_carry_the_whole_model(kind: str, components: int, target: str) -> None:
    recipe = _recipe(kind, components, target)
    model, fresh = _fitted(recipe), FittedModel(recipe, FEATURES)
    _grams(fresh)  # what an unfitted model remembers must not outlive the loading
    fresh.load_state_dict(load(save(model.state_dict())))
    assert _same(fresh.state_dict(), model.state_dict())
    assert np.array_equal(_grams(fresh), _grams(model))


@pytest.mark.heavy
def test_another_process_predicts_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", TEST[0])
    for i, case in enumerate(CASES):
        recipe = _recipe(*case)
        (tmp_path / f"{i}.yaml").write_text(recipe.to_yaml())
        save_file(_fitted(recipe).state_dict(), tmp_path / f"{i}.safetensors")
    code = f"""
import numpy, pathlib, torch
from safetensors.torch import load_file
from trainables.fitted.model import FittedModel
from trainables.recipe.recipe import Recipe
torch.set_num_threads(1)
folder = pathlib.Path({str(tmp_path)!r})
features = torch.from_numpy(numpy.load(folder / "features.npy")).float()
for i in range({len(CASES)}):
    model = FittedModel(Recipe.from_yaml((folder / f"{{i}}.yaml").read_text()), {FEATURES})
    model.load_state_dict(load_file(folder / f"{{i}}.safetensors"))
    numpy.save(folder / f"{{i}}.npy", model.grams(features).numpy())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    for i, case in enumerate(CASES):
        assert np.array_equal(np.load(tmp_path / f"{i}.npy"), _grams(_fitted(_recipe(*case)))), case


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_backbone_do_not_load(kind: str) -> None:
    recipe = _recipe(kind)
    with pytest.raises(RuntimeError, match="size mismatch"):
        FittedModel(recipe, FEATURES + 1).load_state_dict(_fitted(recipe).state_dict())


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "components", "target"), CASES)
def test_the_same_seed_fits_the_same_model(kind: str, components: int, target: str) -> None:
    recipe = _recipe(kind, components, target)
    first = _fit(recipe, seed=3).state_dict()
    assert _same(first, _fit(recipe, seed=3).state_dict())
    assert _same(first, _fit(recipe, seed=4).state_dict()) == (kind in ("ridge", "pls"))


@pytest.mark.parametrize(("kind", "components", "target"), CASES)
def test_predicting_fits_nothing_and_an_image_does_not_see_the_others(kind: str, components: int, target: str) -> None:
    model = _fitted(_recipe(kind, components, target))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    alone = np.concatenate([_grams(model, TEST[0][i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, _grams(model)[:5], rtol=1e-12)
    assert _same(before, model.state_dict())


@pytest.mark.heavy
@pytest.mark.parametrize("components", [0, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_image_weights_count_and_only_by_their_ratios(kind: str, components: int) -> None:
    recipe = _recipe(kind, components)
    heavy = TRAIN[1][:, TOTAL] > np.median(TRAIN[1][:, TOTAL])
    weights = np.where(heavy, 8.0, 1.0)
    even, uneven = _grams(_fitted(recipe)), _grams(_fit(recipe, weights))
    assert uneven[:, TOTAL].mean() > even[:, TOTAL].mean() + 0.2
    np.testing.assert_allclose(_grams(_fit(recipe, weights * 16)), uneven, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_is_always_zero_is_predicted_as_zero(kind: str) -> None:
    grams = TRAIN[1].copy()
    grams[:, CLOVER] = 0
    model = _fit(_recipe(kind), grams=grams)
    np.testing.assert_allclose(_grams(model)[:, CLOVER], 0, atol=1e-9)
    fresh = FittedModel(_recipe(kind), FEATURES)
    fresh.load_state_dict(load(save(model.state_dict())))
    assert np.array_equal(_grams(fresh), _grams(model))


@pytest.mark.parametrize("components", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_features_that_say_nothing_leave_the_mean(kind: str, components: int) -> None:
    model = FittedModel(_recipe(kind, components, transform="none"), FEATURES)
    grams = np.full((8, 5), 20.0)
    grams[:4] = 22.0
    model.fit(np.full((8, FEATURES), 0.1), grams, np.ones(8), 0)
    np.testing.assert_allclose(_grams(model, np.full((2, FEATURES), 0.1)), 21, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_more_components_than_rows(kind: str) -> None:
    model = FittedModel(_recipe(kind, components=1024), FEATURES)
    model.fit(TRAIN[0][:12], TRAIN[1][:12], np.ones(12), 0)
    assert np.isfinite(_grams(model)).all()


@pytest.mark.parametrize("target", ["four", "ratios", "scalar"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_targets_are_refused(kind: str, target: str) -> None:
    with pytest.raises(InputError, match=rf"target.kind={target} .* head.kind={kind}; give one of five, primary"):
        FittedModel(_recipe(kind, target=target), FEATURES)


@pytest.mark.parametrize("kind", ["lightgbm", "catboost"])
def test_a_missing_package_is_named_with_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(InputError, match=rf"head.kind={kind} needs .*pip install catboost lightgbm"):
        check_fitted(_recipe(kind))
    check_fitted(_recipe("ridge"))


def test_a_missing_system_library_is_told_from_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("trainables.fitted.boosting.importlib.import_module", fail)
    with pytest.raises(InputError, match=r"head.kind=lightgbm needs .*libgomp.so.1"):
        check_fitted(_recipe("lightgbm"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_features_that_are_not_finite_are_refused(kind: str, value: float) -> None:
    features = TRAIN[0].copy()
    features[3, 4] = value
    with pytest.raises(JobError, match="not finite"):
        FittedModel(_recipe(kind), FEATURES).fit(features, TRAIN[1], np.ones(len(features)), 0)


def test_standardisation_counts_a_row_by_its_weight() -> None:
    features, weights = TRAIN[0][:10], np.array([1, 1, 3, 1, 2, 1, 1, 1, 1, 1])
    mean, scale = standardisation(features, weights)
    repeated = np.repeat(features, weights, axis=0)
    np.testing.assert_allclose(mean, repeated.mean(axis=0))
    np.testing.assert_allclose(scale[:-1], repeated.std(axis=0)[:-1])
    assert scale[-1] == 1


def test_principal_axes_are_eigenvectors_of_the_weighted_covariance() -> None:
    weights = np.random.default_rng(0).uniform(0.5, 2, len(TRAIN[0]))
    centred = TRAIN[0] - np.average(TRAIN[0], axis=0, weights=weights)
    axes = principal_axes(centred, weights, 4)
    assert axes.shape == (FEATURES, 4)
    values, vectors = np.linalg.eigh(centred.T @ (centred * weights[:, None]))
    leading = vectors[:, np.argsort(-values)[:4]]
    np.testing.assert_allclose(np.abs(axes.T @ leading), np.eye(4), atol=1e-8)


def test_a_feature_far_from_all_training_rows_is_clipped() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6))
    features[:, 0] = 0.0
    features[7, 0] = 1e-3  # hardly varies here, and is 1 in the photograph to predict
    grams = from_components(rng.gamma(2.0, 10.0, (40, 3)))
    recipe = Recipe().with_overrides({"head.kind": "ridge", "target.transform": "none"})
    model = FittedModel(recipe, 6)
    model.fit(features, grams, np.ones(40), seed=0)
    far = torch.tensor([[1.0, *features[0, 1:]]])
    assert float(model.grams(far).abs().max()) < 3 * float(grams.max())
