"""Embeddings made elsewhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pasture.errors import InputError, StorageError
from pasture.files import Folder
from pasture.verification import VerifiedDataset
from trainables.features import embeddings
from trainables.features.context import TrialContext
from trainables.features.feature_bank import feature_bank
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.preflight import check_recipe
from trainables.trial.trial import Trial

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))


def _recipe(name: str = "b", kind: str = "whole") -> Recipe:
    fields = {"backbone.name": f"bank:{name}", "view.kind": kind, "validation.folds": 3, "schedule.epochs": 2}
    return Recipe().with_overrides(fields)


@pytest.mark.parametrize(
    ("shape", "kind"), [((5,), "whole"), ((1, 5), "whole"), ((2, 5), "halves"), ((8, 2, 5), "halves")]
)
def test_rows_are_joined_by_id(dataset: VerifiedDataset, cpu: torch.device, shape: tuple[int, ...], kind: str) -> None:
    values = RANDOM.normal(size=(len(dataset) + 2, *shape))
    ids = [*dataset.ids, "another", "a_test_photograph"]
    order = RANDOM.permutation(len(ids))
    embeddings.write("b", [ids[i] for i in order], values[order])
    recipe = _recipe(kind=kind)
    check_recipe(recipe, dataset.ids)
    bank = feature_bank(recipe, TrialContext(dataset, cpu))
    views = 2 if kind == "halves" else 1
    expected = values[: len(dataset)].astype(np.float16).reshape(len(dataset), -1, views, 5)
    assert bank.elements.shape == (len(dataset), 8, views, 5)
    for element in d4.ALL:
        assert np.array_equal(bank.elements[:, element], expected[:, element if len(shape) == 3 else 0])
    assert bank.replicas.shape[1] == 0


def test_a_trial_learns_from_it_and_needs_no_picture(
    dataset: VerifiedDataset, cpu: torch.device, tmp_path: Path
) -> None:
    nowhere = replace(dataset, root=tmp_path / "nowhere")
    noise = RANDOM.normal(size=(len(dataset), 5))
    scores = []
    for name, values in (("b", np.log1p(dataset.targets)), ("noise", noise)):
        embeddings.write(name, dataset.ids, values)
        recipe = _recipe(name).with_overrides({"head.kind": "ridge"})
        trial = Trial("t", recipe, nowhere, SequentialFolds(recipe, TrialContext(nowhere, cpu)))
        while not trial.done:
            trial.step()
        table = trial.finish()
        scores.append(table.metadata["score"])
        assert table.metadata["backbone_digest"] == embeddings.read(name).digest(name, dataset.ids)
    assert scores[0] > 0.5 > scores[1] + 0.2


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (["a", "b"], np.zeros((3, 4)), "2 ids for 3 rows"),
        ([], np.zeros((0, 4)), "0 ids for 0 rows"),
        (["a", "a"], np.zeros((2, 4)), "'a' appears 2 times"),
        (["a", "b"], np.array([[1.0], [np.nan]]), "embeddings of b: a value is not finite"),
        (["a"], np.array([[1e6]]), "embeddings of a: a value is not finite, or above 65504"),
        (["a"], np.zeros(1), "expected numbers"),
        (["a"], np.array([["x"]]), "expected numbers"),
        (["a"], np.zeros((1, 4, 2, 5)), "the second axis is not the 8 elements of D4"),
    ],
)
def test_bad_embeddings_are_refused(ids: Sequence[str], values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embeddings.write("b", ids, values)
    assert embeddings.names() == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    banks = Folder.at(tmp_path / "run/banks")
    banks.write(f"{name}.safetensors", b"somebody else's")
    before = sorted(tmp_path.rglob("*"))
    for act in (
        lambda: embeddings.write(name, ["a"], np.zeros((1, 4))),
        lambda: embeddings.adopt(name, banks),
        lambda: embeddings.publish(name, banks),
        lambda: embeddings.read(name),
    ):
        with pytest.raises(InputError, match="bank name"):
            act()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_does_not_fit_is_refused_before_any_trial(dataset: VerifiedDataset) -> None:
    with pytest.raises(InputError, match=r"bank:b: no such bank \(none was imported\); run `forage features import`"):
        check_recipe(_recipe(), dataset.ids)
    embeddings.write("b", dataset.ids[1:], np.zeros((len(dataset) - 1, 4)))
    with pytest.raises(InputError, match=f"no features of 1 image.*the first is {dataset.ids[0]}"):
        check_recipe(_recipe(), dataset.ids)
    embeddings.write("b", dataset.ids, np.zeros((len(dataset), 4)))
    with pytest.raises(InputError, match=r"1 view\(s\) of a photograph, view.kind=halves.*set view.kind=whole"):
        check_recipe(_recipe(kind="halves"), dataset.ids)
    embeddings.write("three", dataset.ids, np.zeros((len(dataset), 3, 4)))
    with pytest.raises(InputError, match=r"3 view\(s\) of a photograph.*set view.kind=whole_and_halves"):
        check_recipe(_recipe("three", kind="halves"), dataset.ids)
    with pytest.raises(InputError, match=r"bank:c: no such bank \(there are b, three\)"):
        check_recipe(_recipe("c"), dataset.ids)


@pytest.mark.parametrize(
    "fields",
    [
        {"backbone.tuning": "full"},
        {"backbone.pool": "mean"},
        {"backbone.out_indices": [1]},
        {"schedule.stages": [{"share": 0.5, "tuning": "frozen"}, {"share": 0.5, "tuning": "full"}]},
    ],
)
def test_there_is_no_network_to_train_or_tap(fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match="bank"):
        _recipe().with_overrides(fields)


def test_a_damaged_bank_is_named() -> None:
    embeddings.write("b", ["a"], np.zeros((1, 4)))
    path = Path(embeddings.folder().file("b.safetensors"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"b\.safetensors: damaged"):
        embeddings.read("b")


def test_another_node_takes_it_from_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    banks = Folder.at(tmp_path / "run/banks")
    embeddings.write("b", ["a"], np.ones((1, 4)))
    embeddings.publish("b", banks)
    embeddings.adopt("b", banks)
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "other node"))
    embeddings.adopt("b", banks)
    assert embeddings.read("b").features.tolist() == [[[[1.0] * 4]]]
    embeddings.write("b", ["a"], np.zeros((1, 4)))
    with pytest.raises(InputError, match="not what the run was started with"):
        embeddings.adopt("b", banks)


@pytest.mark.parametrize(
    ("backbone", "second", "needs"), [("m", "", True), ("bank:b", "", False), ("bank:b", "m", True)]
)
def test_pictures_are_needed_unless_banks_stand_for_all_backbones(backbone: str, second: str, needs: bool) -> None:
    fields = {"backbone.name": backbone, "backbone.semantic.name": second}
    assert Recipe().with_overrides(fields).needs_pictures == needs


@pytest.mark.parametrize("strength", ["light", "medium", "heavy"])
def test_a_second_backbone_may_be_imported_under_any_augmentation(
    dataset: VerifiedDataset, cpu: torch.device, frozen_recipe: Recipe, strength: str
) -> None:
    values = RANDOM.normal(size=(len(dataset), 8, 2, 5))
    embeddings.write("second", dataset.ids, values)
    fields = {"backbone.semantic.name": "bank:second", "augment.strength": strength, "augment.replicas": 3}
    recipe = frozen_recipe.with_overrides(fields)
    check_recipe(recipe, dataset.ids)
    inputs = make_inputs(recipe, TrialContext(dataset, cpu))
    rows = np.arange(len(dataset))
    generator = np.random.default_rng(0)
    seen = {
        tuple(batch.semantic[0].tolist())
        for _ in range(200)
        for batch in inputs.training([rows], generator)
        if batch.semantic is not None
    }
    elements = {"light": d4.FLIPS}.get(strength, d4.ALL)
    means = torch.from_numpy(values[0].astype(np.float16)).float().mean(dim=1)
    # Augmented copies of the first backbone are paired with the unaugmented photograph of the second.
    assert seen == {tuple(means[e].tolist()) for e in elements}


def test_the_digest_covers_the_values_of_the_images_it_is_asked_for() -> None:
    values = RANDOM.normal(size=(3, 4))
    embeddings.write("b", ["a", "b", "c"], values)
    before = embeddings.read("b").digest("b", ["a", "b"])
    reordered = np.vstack([values[2] + 1, values[1], values[0], np.zeros(4)])
    embeddings.write("b", ["c", "b", "a", "test"], reordered)
    assert embeddings.read("b").digest("b", ["b", "a"]) == before
    values[1, 2] += 0.01
    embeddings.write("b", ["a", "b", "c"], values)
    assert embeddings.read("b").digest("b", ["a", "b"]) != before


def test_a_disk_that_fails_under_a_bank_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    embeddings.write("eio", ["a"], np.ones((1, 3)))
    monkeypatch.setattr(embeddings, "safe_open", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        embeddings.read("eio")
