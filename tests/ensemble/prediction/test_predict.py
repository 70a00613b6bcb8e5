"""Prediction from a blend folder: the same numbers as in training, whatever has become of the run."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ensemble.prediction.photographs
import ensemble.prediction.predict
from ensemble.blend.blend import Blend
from ensemble.prediction import run_models
from ensemble.prediction.predict import predict
from pasture.dataset import Dataset, read_test, read_train
from pasture.errors import InputError, JobError
from pasture.run_folder import RunFolder
from pasture.targets import Array, balance_gap
from trainables.images import d4
from trainables.network import backbone
from trainables.network.model import Batch, BiomassNet
from trainables.network.weights_file import pack

ABOUT_HALF_PRECISION = {"rtol": 2e-3, "atol": 2e-3}
"""Features are kept as float16; batches of another size round otherwise in the last bit."""


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run was trained: mixed precision on a GPU would hide small differences."""
    monkeypatch.setattr(ensemble.prediction.predict, "all_devices", lambda: [torch.device("cpu")])


@pytest.fixture(scope="session")
def train(paddocks: Path) -> Dataset:
    return read_train(paddocks)


@pytest.fixture(scope="session")
def test(paddocks: Path) -> Dataset:
    return read_test(paddocks)


@pytest.fixture(scope="session")
def predicted(blend: Blend, test: Dataset) -> Array:
    """What the blend predicts for the photographs to predict."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble.prediction.predict, "all_devices", lambda: [torch.device("cpu")])
        return predict(blend, test)


@pytest.fixture
def copied(blend: Blend, tmp_path: Path) -> Blend:
    """A blend whose folder may be damaged."""
    shutil.copytree(blend.folder, tmp_path / "copy")
    return Blend.read(tmp_path / "copy")


@pytest.mark.heavy
@pytest.mark.parametrize("trial", ["t0000", "t0001", "t0002"])
def test_a_folds_model_predicts_what_the_oof_holds(
    trial: str, finished_run: RunFolder, blend: Blend, train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ties prediction to training: pictures, augmentation, backbone, head, target codec and projection."""
    oof = finished_run.read_oof(trial)
    assert oof.image_ids == train.ids
    member = next(m for m in blend.members if m.key == f"run-{trial}")
    alone = dataclasses.replace(blend, members=(dataclasses.replace(member, weight=1.0, folds=1),))
    whole = Blend.fold_weights
    for fold in range(member.folds):
        monkeypatch.setattr(Blend, "fold_weights", lambda self, member, _, fold=fold: whole(self, member, fold))
        held_out = oof.folds == fold
        for tta in ("none", "flips", "d4") if fold == 0 else ("d4",):
            expected = oof.mean(d4.tta_elements(tta))
            predicted = predict(alone, train, tta)
            np.testing.assert_allclose(predicted[held_out], expected[held_out], **ABOUT_HALF_PRECISION)
            assert np.abs(predicted - expected)[~held_out].max() > 0.01, "every fold predicts alike: no test at all"


@pytest.mark.heavy
def test_a_blend_predicts_the_weighted_mean_of_its_members(blend: Blend, test: Dataset) -> None:
    alone = [dataclasses.replace(blend, members=(dataclasses.replace(m, weight=1.0),)) for m in blend.members]
    expected = sum(m.weight * predict(b, test) for m, b in zip(blend.members, alone, strict=True))
    np.testing.assert_allclose(predict(blend, test), expected, atol=1e-9)


def test_predictions_are_weights_of_grass(predicted: Array) -> None:
    assert predicted.shape == (6, 5)
    assert np.isfinite(predicted).all()
    assert predicted.min() >= 0
    assert predicted.max() > 1
    assert balance_gap(predicted).max() < 1e-6


@pytest.mark.heavy
def test_tta_averages_its_elements(blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = {tta: predict(blend, test, tta) for tta in ("none", "flips", "d4")}
    each = {}
    for element in d4.ALL:
        with monkeypatch.context() as patch:
            patch.setattr(d4, "tta_elements", lambda _, element=element: (element,))
            each[element] = predict(blend, test)
    for tta, predicted in averaged.items():
        expected = np.mean([each[element] for element in d4.tta_elements(tta)], axis=0)
        np.testing.assert_allclose(predicted, expected, atol=1e-9, err_msg=tta)


@pytest.mark.heavy
def test_tta_is_the_blends_own_unless_told_otherwise(predicted: Array, blend: Blend, test: Dataset) -> None:
    plain = predict(blend, test, "none")
    assert np.array_equal(predicted, predict(blend, test, "d4"))
    assert np.array_equal(predict(dataclasses.replace(blend, tta="none"), test), plain)
    assert not np.allclose(predicted, plain)


@pytest.mark.heavy
@pytest.mark.parametrize("chunk", [1, 5, 6])
def test_chunks_change_nothing(
    chunk: int, predicted: Array, blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble.prediction.photographs, "chunk_size", lambda _: chunk)
    np.testing.assert_allclose(predict(blend, test), predicted, **ABOUT_HALF_PRECISION)


@pytest.mark.heavy
def test_a_photograph_is_decoded_once_and_few_are_in_memory(
    blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len({member.recipe.view for member in blend.members}) > 1
    monkeypatch.setattr(ensemble.prediction.photographs, "chunk_size", lambda _: 2)
    decoded: list[Path] = []
    read_pixels = ensemble.prediction.photographs.read_pixels
    monkeypatch.setattr(
        ensemble.prediction.photographs, "read_pixels", lambda path: (decoded.append(path), read_pixels(path))[1]
    )
    told: list[tuple[str, int, int]] = []

    def watch(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        assert len(decoded) <= done + 2 * 2, "decoding runs further ahead than the next chunk"

    predict(blend, test, watch=watch)
    assert sorted(decoded) == sorted(test.paths)
    done = [photographs for what, photographs, total in told if (what, total) == ("predicting", len(test))]
    assert len(done) == len(told) > 3
    assert done == sorted(done)
    assert {2, 4, 6} <= set(done)


@pytest.mark.heavy
def test_rows_follow_the_dataset(blend: Blend, test: Dataset) -> None:
    backwards = dataclasses.replace(test, images=test.images[::-1])
    np.testing.assert_allclose(predict(blend, backwards)[::-1], predict(blend, test), **ABOUT_HALF_PRECISION)


@pytest.mark.heavy
def test_a_frozen_backbone_runs_once_an_element_and_chunk(
    blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[str] = Counter()
    forward = backbone.Backbone.forward

    def counted(self: backbone.Backbone, pictures: torch.Tensor) -> torch.Tensor:
        runs[self.model.pretrained_cfg["architecture"]] += 1
        return forward(self, pictures)

    monkeypatch.setattr(backbone.Backbone, "forward", counted)
    monkeypatch.setattr(ensemble.prediction.photographs, "chunk_size", lambda _: 4)
    predict(blend, test, "d4")
    chunks, elements, folds = 2, 8, 3
    # Two members of three folds each share lite0; every fold of the tuned member has weights of its own.
    assert runs == {"tf_efficientnet_lite0": chunks * elements, "test_efficientnet": chunks * elements * folds}


@pytest.mark.heavy
def test_nothing_outside_the_folder_is_needed(
    finished_run: RunFolder, make_blend, test: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(shutil.copytree(finished_run.folder.path, tmp_path / "run"))
    built = make_blend(run, tmp_path / "built", (0.5, 0.2, 0.3))
    expected = predict(built, test)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "built").rename(tmp_path / "moved")

    def gone(*_: object) -> None:
        raise AssertionError("pretrained weights were asked for")

    for source in ("_from_hub", "_weights_file", "_read_weights"):
        monkeypatch.setattr(backbone, source, gone)
    monkeypatch.setattr("socket.socket.connect", gone)
    assert np.array_equal(predict(Blend.read(tmp_path / "moved"), test), expected)


def test_another_backbone_under_the_name_is_refused(copied: Blend, test: Dataset) -> None:
    frozen, tuned = (copied.folder / "backbones" / f"{copied.members[i].backbone}.safetensors" for i in (0, 1))
    tensors = load_file(frozen)
    first = next(iter(tensors))
    frozen.write_bytes(pack({**tensors, first: tensors[first] + 1}, {}))
    with pytest.raises(InputError, match=r"not the weights of tf_efficientnet_lite0 that run-t0000"):
        predict(copied, test)
    shutil.copy(tuned, frozen)
    with pytest.raises(InputError, match=r"not the weights of tf_efficientnet_lite0 that run-t0000"):
        predict(copied, test)


def test_weights_of_another_recipe_are_refused(copied: Blend, test: Dataset) -> None:
    members = copied.folder / "members"
    shutil.copy(members / "run-t0001" / "fold0.safetensors", members / "run-t0000" / "fold0.safetensors")
    with pytest.raises(JobError, match="do not fit the recipe"):
        predict(copied, test)


def test_predictions_that_are_no_numbers_are_refused(copied: Blend, test: Dataset) -> None:
    path = copied.folder / "members" / "run-t0000" / "fold1.safetensors"
    path.write_bytes(pack({name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(path).items()}, {}))
    with pytest.raises(JobError, match="run-t0000, fold 1: a prediction is not finite"):
        predict(copied, test)


def test_a_damaged_picture_is_named(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    data = shutil.copytree(paddocks, tmp_path / "data")
    picture = read_test(data).paths[3]
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(InputError, match=picture.name):
        predict(blend, read_test(data))


def _fail_above(limit: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Networks with a backbone inside run out of memory above `limit` photographs; the sizes that were tried."""
    tried: list[int] = []
    grams = BiomassNet.grams

    def fussy(self: BiomassNet, batch: Batch) -> torch.Tensor:
        if self.backbone is not None:
            tried.append(len(batch.views))
            if tried[-1] > limit:
                raise error
        return grams(self, batch)

    monkeypatch.setattr(BiomassNet, "grams", fussy)
    return tried


@pytest.mark.heavy
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_batches_shrink_where_memory_does_not_suffice(
    error: Exception, blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(blend, test)
    tried = _fail_above(2, error, monkeypatch)
    np.testing.assert_allclose(predict(blend, test), expected, **ABOUT_HALF_PRECISION)
    assert tried[:2] == [6, 3]
    assert 1 in tried


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "the memory does not suffice for a single photograph"),
        (
            torch.AcceleratorError("CUDA error: an illegal access\nfor debugging"),
            "the device failed .CUDA error: an illegal access.;",
        ),
    ],
)
def test_a_device_that_fails_ends_in_one_line(
    error: Exception, complaint: str, blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_above(0, error, monkeypatch)
    with pytest.raises(JobError, match=f"run-t0002, fold 0: {complaint}") as caught:
        predict(blend, test)
    assert "\n" not in str(caught.value)


def test_one_model_is_held_at_a_time(blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a model is built no other is alive, and of the backbones only the pretrained one that it starts from."""
    alive: dict[str, list[weakref.ref[object]]] = {"trained_net": [], "create_backbone": []}

    def count(name: str) -> int:
        return sum(ref() is not None for ref in alive[name])

    def watched(name: str, make: Callable[..., object]) -> Callable[..., object]:
        def made(*arguments: object) -> object:
            assert count("trained_net") == 0
            assert count("create_backbone") <= (name == "trained_net")
            module = make(*arguments)
            alive[name].append(weakref.ref(module))
            return module

        return made

    for name in alive:
        monkeypatch.setattr(run_models, name, watched(name, getattr(run_models, name)))
    predict(blend, test)
    assert {name: len(refs) for name, refs in alive.items()} == {"trained_net": 9, "create_backbone": 2}
