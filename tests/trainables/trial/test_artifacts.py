"""What a trial leaves in its run directory, in which order, and what is taken for finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from pasture.errors import JobError
from pasture.files import Folder
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import load_checkpoint, read_finished, write_checkpoint, write_finished
from trainables.trial.trial import Trial

MakeTrial = Callable[..., Trial]
WRITTEN = [
    *(f"weights/trial/fold{fold}.safetensors" for fold in range(3)),
    "epochs/trial.npz",
    "oof/trial.parquet",
]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run directory that does not exist yet."""
    return RunFolder(tmp_path / "run")


@pytest.fixture
def trial(make_trial: MakeTrial, frozen_recipe: Recipe) -> Trial:
    """A trial with all its epochs, the best of which is not the last."""
    restless = {"optimizer.head_lr": 0.05, "seed": 3, "schedule.choose": "best"}
    trial = make_trial(frozen_recipe.with_overrides(restless), epochs=6)
    assert trial.best_epoch < 5
    return trial


def _files(run: RunFolder) -> dict[str, bytes]:
    root = Path(run.folder.path)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_everything_is_written_and_the_checkpoint_is_gone(run: RunFolder, trial: Trial) -> None:
    write_checkpoint(run, trial)
    assert set(_files(run)) == {"checkpoints/trial.pt"}
    write_finished(run, trial)
    assert set(_files(run)) == set(WRITTEN)
    epochs = run.read_epochs("trial")
    assert epochs is not None
    np.testing.assert_allclose(epochs, trial.epochs, rtol=1e-6)
    table = run.read_oof("trial")
    np.testing.assert_allclose(table.predictions[:, 0], trial.epochs[trial.best_epoch], rtol=1e-6)


def test_weights_are_those_of_the_best_epoch_with_their_tags(run: RunFolder, trial: Trial) -> None:
    write_finished(run, trial)
    for fold in trial.fold_numbers:
        kept = trial.executor.kept(fold)
        path = Path(run.weights("trial").file(f"fold{fold}.safetensors"))
        saved = load(path.read_bytes())
        assert saved.keys() == kept.keys()
        assert all(torch.equal(tensor, kept[name]) for name, tensor in saved.items())
        assert not any(name.startswith("backbone.") for name in saved)
        with safe_open(path, "pt") as file:
            tags = {"recipe_hash": trial.recipe.hash, "fingerprint": trial.dataset.fingerprint, "fold": str(fold)}
            assert {key: file.metadata()[key] for key in tags} == tags


@pytest.mark.parametrize("where", [0.001, 0.3, 0.999], ids=["head", "middle", "end"])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(
    run: RunFolder, make_trial: MakeTrial, frozen_recipe: Recipe, where: float
) -> None:
    trial = make_trial(frozen_recipe, epochs=2)
    write_checkpoint(run, trial)
    content = bytearray(run.checkpoints.read("trial.pt"))
    content[int(where * len(content))] ^= 0x10
    run.checkpoints.write("trial.pt", bytes(content))
    with pytest.raises(JobError, match="checkpoint of trial is damaged"):
        load_checkpoint(run, make_trial(frozen_recipe))


def test_twice_is_as_good_as_once(run: RunFolder, trial: Trial) -> None:
    write_finished(run, trial)
    once = _files(run)
    write_finished(run, trial)
    twice = _files(run)
    assert once.keys() == twice.keys()
    for name, content in once.items():
        if name.endswith(".safetensors"):  # their header holds its tags in any order
            one, two = load(content), load(twice[name])
            assert one.keys() == two.keys()
            assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())
        else:
            assert content == twice[name]


def test_the_oof_comes_last_and_the_checkpoint_goes_after_it(
    run: RunFolder, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeds: list[str] = []
    write, delete = Folder.write, Folder.delete
    monkeypatch.setattr(Folder, "write", lambda s, n, c: (deeds.append(n), write(s, n, c))[1])
    monkeypatch.setattr(Folder, "delete", lambda s, n: (deeds.append(f"delete {n}"), delete(s, n))[1])
    write_finished(run, trial)
    assert deeds == [Path(name).name for name in WRITTEN] + ["delete trial.pt"]


@pytest.mark.parametrize("dies_at", range(len(WRITTEN)))
def test_a_death_in_the_middle_leaves_an_unfinished_trial_that_can_continue(
    run: RunFolder, trial: Trial, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    write_checkpoint(run, trial)
    write, left = Folder.write, [dies_at]

    def mortal(folder: Folder, name: str, content: bytes) -> None:
        if left[0] == 0:
            raise JobError("no space left")
        left[0] -= 1
        write(folder, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", mortal)
        with pytest.raises(JobError):
            write_finished(run, trial)
    assert read_finished(run, "trial", trial.recipe, trial.dataset.fingerprint) is None
    assert run.checkpoints.exists("trial.pt")
    write_finished(run, trial)
    assert set(_files(run)) == set(WRITTEN)
    assert read_finished(run, "trial", trial.recipe, trial.dataset.fingerprint) is not None


def test_a_finished_trial_is_known_by_recipe_and_data(run: RunFolder, trial: Trial) -> None:
    assert read_finished(run, "trial", trial.recipe, trial.dataset.fingerprint) is None
    write_finished(run, trial)
    table = read_finished(run, "trial", trial.recipe, trial.dataset.fingerprint)
    assert table is not None
    assert table.metadata["curve"] == trial.curve
    assert read_finished(run, "other", trial.recipe, trial.dataset.fingerprint) is None
    assert read_finished(run, "trial", trial.recipe.with_overrides({"seed": 9}), trial.dataset.fingerprint) is None
    assert read_finished(run, "trial", trial.recipe, "other pictures") is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_oof_is_not_finished(run: RunFolder, trial: Trial, damage: str) -> None:
    write_finished(run, trial)
    path = Path(run.oof.file("trial.parquet"))
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 4] ^= 0xFF
    path.write_bytes({"truncated": content[:-20], "flipped": content, "empty": b""}[damage])
    assert read_finished(run, "trial", trial.recipe, trial.dataset.fingerprint) is None


def test_a_checkpoint_is_taken_up(run: RunFolder, make_trial: MakeTrial, frozen_recipe: Recipe) -> None:
    trial = make_trial(frozen_recipe, epochs=2)
    fresh = make_trial(frozen_recipe)
    load_checkpoint(run, fresh)
    assert fresh.curve == [], "there is none yet, which is no error"
    write_checkpoint(run, trial)
    load_checkpoint(run, fresh)
    assert fresh.curve == trial.curve
    with pytest.raises(JobError, match="belongs to another"):
        load_checkpoint(run, make_trial(frozen_recipe.with_overrides({"seed": 5})))
    path = Path(run.checkpoints.file("trial.pt"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(JobError, match="damaged"):
        load_checkpoint(run, make_trial(frozen_recipe))
