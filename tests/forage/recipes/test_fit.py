"""`forage recipes fit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainables.recipe.recipe import Recipe
from trainables.trial import memory_fit, memory_needs
from trainables.trial.memory_needs import Needs

RECIPE = """
view: {kind: whole, size: 64}
backbone: {name: test_vit, weights: none, tuning: full}
head: {hidden: [8]}
schedule: {batch_size: 64}
"""


GB = 2**30


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that needs 2 GB, and .1 GB a photograph; with gradient checkpointing .05 GB."""

    def training(recipe: Recipe) -> Needs | None:
        photograph = GB // 20 if recipe.backbone.gradient_checkpointing else GB // 10
        return Needs(GB, 2 * GB, photograph, 1000, 1000) if recipe.neural else None

    monkeypatch.setattr(memory_fit, "training_needs", training)
    monkeypatch.setattr(memory_needs, "extraction_needs", lambda _: Needs(GB, GB, GB // 10, 0, 1000))
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_that_fits(shell: Any, recipe: Path) -> None:
    said = shell("recipes", "fit", recipe)
    assert (said.status, said.err) == (0, "")
    assert "fits: batches of 64 photographs in 24 GB" in said.out
    content = json.loads(shell("recipes", "fit", recipe, "--json").out)
    assert (content["fits"], content["set"]) == (True, [])
    off, on = content["settings"]
    assert (off["gradient_checkpointing"], on["gradient_checkpointing"]) == (False, True)
    assert (off["largest_batch"], on["largest_batch"]) == (196, 392)  # (.9 * 24 - 2) / .1


@pytest.mark.parametrize(
    ("memory", "changes"),
    [
        (9, ["backbone.gradient_checkpointing=true"]),  # 61 without, 122 with it
        (4, ["backbone.gradient_checkpointing=true", "schedule.batch_size=32", "optimizer.grad_accum_steps=2"]),  # 32
        (3, ["backbone.gradient_checkpointing=true", "schedule.batch_size=13", "optimizer.grad_accum_steps=5"]),  # 14
    ],
)
def test_what_to_set_where_it_does_not_fit(shell: Any, recipe: Path, memory: float, changes: list[str]) -> None:
    said = shell("recipes", "fit", recipe, "--gpu-memory", memory)
    assert "to fit: " + " ".join(f"--set {change}" for change in changes) + "\n" in said.out
    assert json.loads(shell("recipes", "fit", recipe, "--json", "--gpu-memory", memory).out)["set"] == changes


def test_a_recipe_that_fits_itself(shell: Any, recipe: Path) -> None:
    said = shell("recipes", "fit", recipe, "--gpu-memory", 4, "--set", "optimizer.fit_memory=true")
    assert "optimizer.fit_memory does the same as: --set backbone.gradient_checkpointing=true" in said.out


def test_nothing_fits(shell: Any, recipe: Path) -> None:
    assert "not even one photograph fits into 1 GB" in shell("recipes", "fit", recipe, "--gpu-memory", 1).out


def test_frozen_and_fitted_recipes(shell: Any, recipe: Path) -> None:
    frozen = shell("recipes", "fit", recipe, "--set", "backbone.tuning=frozen").out
    assert "features of the frozen backbone: 206 photographs at a time" in frozen
    ridge = shell("recipes", "fit", recipe, "--set", "backbone.tuning=frozen", "--set", "head.kind=ridge").out
    assert "head.kind=ridge is fitted on the CPU" in ridge


@pytest.mark.parametrize("memory", [0, -1, "nan"])
def test_wrong_memory(shell: Any, recipe: Path, memory: object) -> None:
    said = shell("recipes", "fit", recipe, "--gpu-memory", memory)
    assert said.status == 2
    assert "expected the GB of one GPU" in said.err
