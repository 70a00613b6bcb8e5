"""Gradient-boosted trees on frozen features, one model per target: LightGBM (Ke et al., NeurIPS 2017) or CatBoost
(Prokhorenkova et al., NeurIPS 2018).

Settings are fixed, for 50 to 350 photographs with thousands of features: small trees, a low learning rate, and few
features per tree. Both packages are imported only where they are used.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from pasture.errors import InputError
from pasture.targets import Array
from trainables.recipe.seeds import mix

_ROUNDS: Final = 300
_RATE: Final = 0.03
_FEATURES: Final = 200  # per tree (CatBoost: per level), of thousands of correlated ones
_ROWS_A_LEAF: Final = 10


class Boosting(nn.Module):
    """Standardised features (n, d) to encoded targets (n, k), by one booster per target.

    Attributes:
        axes: (d, c) principal axes that features are projected on first; (d, 0) for none.
        mean: (k,) weighted means of the targets, which the trees start from.

    A further uint8 buffer named after each target holds its booster in the file format of the library; it is empty if
    the target did not vary. Predictions always use boosters that were read from these buffers.
    """

    axes: Tensor
    mean: Tensor

    def __init__(self, kind: str, inputs: int, targets: list[str]) -> None:
        super().__init__()
        self.kind, self.targets = kind, targets
        self.register_buffer("axes", torch.zeros(inputs, 0, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(len(targets), dtype=torch.float64))
        for target in targets:
            self.register_buffer(target, torch.zeros(0, dtype=torch.uint8))
        self._boosters: dict[str, Any] = {}

    def fit(self, features: Array, axes: Array | None, encoded: Array, weights: Array, seed: int) -> None:
        """Fit to features (n, d), or their components along axes (d, c), and targets (n, k), weighted by row (n,)."""
        self.axes = torch.from_numpy(np.zeros((features.shape[1], 0)) if axes is None else axes)
        design = features if axes is None else features @ axes
        mean = np.average(encoded, axis=0, weights=weights)
        self.mean = torch.from_numpy(mean)
        train = {"lightgbm": _train_lightgbm, "catboost": _train_catboost}[self.kind]
        for i, target in enumerate(self.targets):
            # CatBoost refuses targets and features that do not vary.
            varies = np.ptp(encoded[:, i]) > 0 and np.ptp(design, axis=0).any()
            content = train(design, encoded[:, i] - mean[i], weights, mix(seed, i)) if varies else b""
            setattr(self, target, torch.from_numpy(np.frombuffer(content, np.uint8).copy()))
        self._boosters = {}

    def forward(self, features: Tensor) -> Tensor:
        """(n, k) encoded predictions."""
        design = (features @ self.axes if self.axes.shape[1] else features).cpu().numpy()
        predict = {"lightgbm": _predict_lightgbm, "catboost": _predict_catboost}[self.kind]
        result = self.mean.repeat(len(features), 1)
        for i, target in enumerate(self.targets):
            if (booster := self._booster(target)) is not None:
                result[:, i] += torch.from_numpy(predict(booster, design)).to(result)
        return result

    def _booster(self, target: str) -> Any:
        if target not in self._boosters:
            read = {"lightgbm": _read_lightgbm, "catboost": _read_catboost}[self.kind]
            content = getattr(self, target).cpu().numpy().tobytes()
            self._boosters[target] = read(content) if content else None
        return self._boosters[target]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("axes", *self.targets):  # their lengths are known only once they are fitted
            loaded, buffer = state_dict.get(prefix + name), getattr(self, name)
            if loaded is not None and loaded.shape[:-1] == buffer.shape[:-1]:
                setattr(self, name, buffer.new_empty(loaded.shape))
        self._boosters = {}
        super()._load_from_state_dict(state_dict, prefix, *rest)


def boosting_library(kind: str) -> Any:
    """The module `lightgbm` or `catboost`.

    Raises:
        InputError: the package, or a library that it needs, is not installed.
    """
    try:
        return importlib.import_module(kind)
    except ImportError:
        problem, remedy = f"the package {kind}", "pip install catboost lightgbm"
    except OSError as error:  # LightGBM on a machine without OpenMP
        problem, remedy = f"a library of the system ({error})", "install it (libgomp1 on Debian)"
    raise InputError(f"head.kind={kind} needs {problem}, which is not here; {remedy}") from None


def _train_lightgbm(features: Array, target: Array, weights: Array, seed: int) -> bytes:
    lightgbm = boosting_library("lightgbm")
    settings = {
        "objective": "regression",
        "boost_from_average": False,
        "learning_rate": _RATE,
        "num_leaves": 6,
        "max_depth": 3,
        "min_data_in_leaf": _rows_a_leaf(features),
        "lambda_l2": 5.0,
        "feature_fraction": _share(features),
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": 63,
        "seed": seed % 2**31,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,  # with a few hundred rows, synchronising threads takes longer than the work
        "verbosity": -1,
    }
    data = lightgbm.Dataset(features, target, weight=weights, params=settings)
    text: str = lightgbm.train(settings, data, _ROUNDS).model_to_string()
    return text.encode()


def _read_lightgbm(content: bytes) -> Any:
    return boosting_library("lightgbm").Booster(model_str=content.decode())


def _predict_lightgbm(booster: Any, features: Array) -> Array:
    return np.asarray(booster.predict(features, num_threads=1))


def _train_catboost(features: Array, target: Array, weights: Array, seed: int) -> bytes:
    model = boosting_library("catboost").CatBoostRegressor(
        iterations=_ROUNDS,
        learning_rate=_RATE,
        depth=3,
        l2_leaf_reg=5.0,
        rsm=_share(features),
        bootstrap_type="Bernoulli",
        subsample=0.8,
        boosting_type="Plain",
        border_count=63,
        random_seed=seed % 2**31,
        thread_count=torch.get_num_threads(),
        allow_writing_files=False,
        verbose=False,
    )
    model.fit(features, target, sample_weight=weights)
    notes = model.get_metadata()
    for name in ("train_finish_time", "model_guid", "training", "output_options"):  # which differ between equal fits
        del notes[name]
    with tempfile.TemporaryDirectory() as folder:  # CatBoost writes to files only, and its JSON rounds the leaves
        path = Path(folder) / "model.cbm"
        model.save_model(str(path))
        return path.read_bytes()


def _read_catboost(content: bytes) -> Any:
    return boosting_library("catboost").CatBoostRegressor().load_model(blob=content)


def _predict_catboost(booster: Any, features: Array) -> Array:
    return np.asarray(booster.predict(features, thread_count=torch.get_num_threads()))


def _rows_a_leaf(features: Array) -> int:
    return max(1, min(_ROWS_A_LEAF, len(features) // 5))


def _share(features: Array) -> float:
    """Share of the features that a tree may use; the time of a fit is proportional to their number."""
    return min(1.0, _FEATURES / int(features.shape[1]))
