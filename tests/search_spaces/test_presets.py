"""Every published system: its file, its head against numbers worked out by hand, and a short training of it all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from pasture.dataset import Dataset, read_train
from pasture.folds import held_out_rows
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from pasture.targets import TOTAL, balance_gap
from pasture.verification import VerifiedDataset, verify
from search_spaces.catalogue import describe_recipe, load_recipe, recipe_names
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.fitted.learner import FittedNet
from trainables.images import d4
from trainables.images.views import view_count
from trainables.network import backbone as backbone_module
from trainables.network.backbone import create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.network.pooling import AttentionPool
from trainables.recipe.recipe import Recipe
from trainables.training.nets import Widths, widths
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.preflight import check_recipe
from trainables.trial.trained_net import trained_net
from trainables.trial.trial import Trial


class Expected(NamedTuple):
    """What a preset's network is, worked out by hand from RECIPES.md and the width of its real backbone.

    Attributes:
        width: of a token, or of the backbone's own pooled features.
        view: length of a view's vector, after out_indices and pool.
        head: parameters of the head.
        shape: (vectors, encoded targets) of a picture.
        fusion: parameters of the fusion.
        semantic: length of the second backbone's vector.
    """

    width: int
    view: int
    head: int
    shape: tuple[int, int]
    fusion: int = 0
    semantic: int = 0


# frozen_mlp: mean and spread of 112 and 320 channels are 864; 864*256+256 = 221,440, 256*5+5 = 1,285.
# An MLP head is LayerNorm 2F, F*512+512, 512*256+256 = 131,328, 256*5+5 = 1,285.
# A head for one target is I*h+h and h+1 with h = I/4; there are three.
# FiLM is 768*384+384 = 295,296 and 384*1536+1536 = 591,360; there are two.
NETWORKS = {
    "dinov2_mlp": Expected(768, 768, 1_536 + 393_728 + 131_328 + 1_285, (1, 5)),
    "dinov2_large_mlp": Expected(1024, 1024, 2_048 + 524_800 + 131_328 + 1_285, (1, 5)),
    "convnext_mlp": Expected(1536, 1536, 3_072 + 786_944 + 131_328 + 1_285, (1, 5)),
    "swin_mlp": Expected(1536, 1536, 3_072 + 786_944 + 131_328 + 1_285, (1, 5)),
    "efficientnet_mlp": Expected(1792, 1792, 3_584 + 918_016 + 131_328 + 1_285, (1, 5)),
    "frozen_mlp": Expected(1280, 864, 221_440 + 1_285, (1, 5)),
    # A cell is 112 + 320: 432*64+64 and 64*3+3
    "frozen_density": Expected(1280, 432, 27_712 + 195, (1, 5)),
    # LayerNorm 768, 384*256+256, 256*128+128, 128*5+5
    "dinov2_small_unfrozen": Expected(384, 384, 768 + 98_560 + 32_896 + 645, (1, 5)),
    "lightning_halves": Expected(1280, 1280, 6_405, (2, 5)),
    "lightning_halves_scalar": Expected(1280, 1280, 1_281, (2, 5)),
    # I = 2*768 = 1536, h = 384: 590,208 + 385
    "two_stream": Expected(768, 768, 3 * 590_593, (1, 3)),
    "two_stream_dinov2": Expected(768, 768, 3 * 590_593, (1, 3)),
    "tiled_film": Expected(768, 768, 3 * 590_593, (1, 3), fusion=2 * (295_296 + 591_360)),
    # A tile is two blocks x (CLS, mean) x 1024 = 4096; I = 8192, h = 2048: 16,779,264 + 2,049
    "multi_tile": Expected(1024, 4096, 3 * 16_781_313, (1, 3)),
    "multi_tile_two_stage": Expected(1024, 4096, 3 * 16_781_313, (1, 3)),
    # I = 8192 + 1152 = 9344, h = 2336: 21,829,920 + 2,337
    "multi_tile_siglip": Expected(1024, 4096, 3 * 21_832_257, (1, 3), semantic=1152),
    # View (CLS, attention) = 1536. LayerNorm 3,072, 1536*512+512, 512*128+128, 128*4+4; crops 1536*128+128, 128+1
    "crop_attention_distilled": Expected(768, 1536, 3_072 + 786_944 + 65_664 + 516, (1, 4), fusion=196_736 + 129),
    # LayerNorm 1,536, 768*512+512, 512*4+4 (Total and three proportions)
    # Three blocks x (CLS, mean) x 1024 = 6144: 6144*256+256 = 1,573,120; x 1280 = 7680: 1,966,336.
    "dinov3_frozen": Expected(1024, 6144, 1_573_120 + 1_285, (1, 5)),
    "dinov3_huge_plus_frozen": Expected(1280, 7680, 1_966_336 + 1_285, (1, 5)),
    # Three blocks x mean x 1152 = 3456: 884,992
    "siglip2_frozen": Expected(1152, 3456, 884_992 + 1_285, (1, 5)),
    "dinov3_lora": Expected(768, 768, 1_536 + 393_728 + 2_052, (1, 5)),
}
FITTED = {"feature_ridge": 1280, "semantic_boosting": 1152, "semantic_boosting_catboost": 1152}
"""Not neural: the length of the vector they are fitted to."""

NARROW: dict[str, dict[str, Any]] = {
    "vit_base_patch14_dinov2.lvd142m": {"embed_dim": 24, "num_heads": 2},
    "vit_large_patch14_dinov2.lvd142m": {"embed_dim": 24, "num_heads": 2},
    "vit_small_patch14_dinov2.lvd142m": {"embed_dim": 24, "num_heads": 2},
    "vit_base_patch16_dinov3": {"embed_dim": 24, "num_heads": 2},
    "vit_large_patch16_dinov3.lvd1689m": {"embed_dim": 24, "num_heads": 2},
    "vit_huge_plus_patch16_dinov3.lvd1689m": {"embed_dim": 24, "num_heads": 2},
    "vit_so400m_patch16_siglip_512.v2_webli": {"embed_dim": 24, "num_heads": 2},
    "vit_so400m_patch14_siglip_384": {"embed_dim": 24, "num_heads": 2, "depth": 2},
    "swin_large_patch4_window7_224": {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
    "convnext_large.fb_in22k_ft_in1k": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
}
"""The same architectures, narrower: every block that a preset out_indices or trains is there."""

SMALL = {"tf_efficientnetv2_m": "test_efficientnet", "efficientnet_b4.ra2_in1k": "test_efficientnet"}
"""Whose width cannot be given: a small one of the family instead."""


@pytest.fixture(scope="module", autouse=True)
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Narrow backbones, a cache of our own, one thread."""
    create, threads = timm.create_model, torch.get_num_threads()

    def narrow(name: str, **arguments: Any) -> torch.nn.Module:
        return create(name, **NARROW.get(name, {}), **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", narrow)
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        backbone_module._facts.cache_clear()
        yield
        backbone_module._facts.cache_clear()
        torch.set_num_threads(threads)


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


def small(name: str, **more: Any) -> Recipe:
    """A preset on a small backbone with random weights, for two epochs of two folds."""
    recipe = load_recipe(name)
    backbone, semantic = recipe.backbone.name, recipe.backbone.semantic.name
    changes: dict[str, Any] = {"schedule.epochs": 2, "validation.folds": 2, "augment.replicas": 1}
    if recipe.backbone.weights == "hub":  # the others have their weights in a package, and are small
        changes |= {"backbone.name": SMALL.get(backbone, backbone), "backbone.weights": "none"}
    changes["view.size"] = 42 if "patch14" in backbone else 32
    if semantic:
        changes["backbone.semantic"] = {"weights": "none", "size": 42}
    return recipe.with_overrides(changes | more)


@pytest.mark.parametrize("name", recipe_names())
def test_the_file(name: str) -> None:
    recipe = load_recipe(name)
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.hash == recipe.hash
    assert [n for n in recipe_names() if load_recipe(n).hash == recipe.hash] == [name]
    assert 20 < len(describe_recipe(name)) < 120
    assert timm.is_model(recipe.backbone.name)


def test_every_preset_is_worked_out_here() -> None:
    assert {*NETWORKS, *FITTED} == set(recipe_names())


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_shapes_by_hand(name: str) -> None:
    recipe, expected = load_recipe(name), NETWORKS[name]
    with FakeTensorMode():  # shapes without memory
        net = BiomassNet(recipe, expected.view, semantic=expected.semantic)
        cells = (4,) if recipe.dense else ()
        views = torch.zeros(3, view_count(recipe.view), *cells, expected.view)
        semantic = torch.zeros(3, expected.semantic) if expected.semantic else None
        assert sum(p.numel() for p in net.head.parameters()) == expected.head
        assert sum(p.numel() for p in net.fuse.parameters()) == expected.fusion
        net.eval()
        assert net(Batch(views, semantic)).shape == (3, *expected.shape)
        assert net.grams(Batch(views, semantic)).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "inputs", "layers"),
    [
        ("dinov2_mlp", 768, ["norm", 0.3, 512, "GELU", 0.15, 256, "GELU", 0.09, 5]),
        ("two_stream", 1536, [0.0, 384, "ReLU", 0.3, 1]),
        ("tiled_film", 1536, [0.0, 384, "ReLU", 0.3, 1]),
        ("lightning_halves", 1280, [0.0, 5]),
        # The last dropout is ours: it falls from layer to layer, where the published heads have none.
        ("dinov2_small_unfrozen", 384, ["norm", 0.0, 256, "GELU", 0.4, 128, "GELU", 0.2, 5]),
        ("crop_attention_distilled", 1536, ["norm", 0.0, 512, "GELU", 0.2, 128, "GELU", 0.1, 4]),
    ],
)
def test_the_layers_of_the_published_heads(name: str, inputs: int, layers: list[object]) -> None:
    recipe = load_recipe(name)
    head = BiomassNet(recipe, NETWORKS[name].view).head
    assert len(head.networks) == (3 if recipe.target.kind == "primary" else 1)
    assert head.softplus == (recipe.target.kind == "primary")
    for network in head.networks:
        assert next(layer.in_features for layer in network if isinstance(layer, nn.Linear)) == inputs
        found: list[object] = []
        for layer in network.children():
            if isinstance(layer, nn.Dropout):
                found.append(pytest.approx(layer.p))
            elif isinstance(layer, nn.Linear):
                found.append(layer.out_features)
            else:
                found.append("norm" if isinstance(layer, nn.LayerNorm) else type(layer).__name__)
        assert found == layers


def test_the_parts_beside_the_head_by_hand() -> None:
    # d to d/2, tanh, d/2 to 4: 768*384+384 and 384*4+4; NDVI and height from 768
    assert sum(p.numel() for p in AttentionPool(768).parameters()) == 295_296 + 1_540
    auxiliary = BiomassNet(load_recipe("dinov3_lora"), 768).auxiliary
    assert auxiliary is not None
    assert sum(p.numel() for p in auxiliary.parameters()) == 1_538


@pytest.mark.parametrize("name", FITTED)
def test_what_is_no_network_has_its_shape_too(name: str) -> None:
    recipe, width = load_recipe(name), FITTED[name]
    net = FittedNet(recipe, Widths(width))
    assert net.features(Batch(torch.zeros(3, 2, width))).shape == (3, width)
    assert not list(net.parameters())


@pytest.mark.parametrize("name", recipe_names())
def test_the_width_of_a_view_is_the_real_one(name: str) -> None:
    recipe = small(name)
    backbone = create_backbone(recipe.backbone, recipe.view.size)
    expected = NETWORKS.get(name)
    if expected and recipe.backbone.weights != "none":  # the real backbone
        assert backbone.features == expected.view
        return
    # On the narrow backbone, in multiples of its tokens: out_indices and pool are those of the preset.
    times = expected.view // expected.width if expected else 1
    assert backbone.features == times * backbone.width


@pytest.mark.heavy
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


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("crop_attention_distilled", {"fusion": {"within": "film", "kind": "mean"}}),
        ("two_stream", {"loss": {"lds.enabled": True}}),
        ("dinov3_lora", {"view.tiles": 2, "fusion.within": "attention"}),
        ("dinov3_lora", {"fusion.kind": "late"}),
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


@pytest.mark.heavy
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
