"""`forage recipes fit`: what of a recipe fits into the memory of a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from forage.terminal.messages import print_json, show, show_table
from forage.terminal.options import JsonOption, SetOption
from forage.terminal.words import parse_settings
from pasture.errors import InputError
from trainables.recipe.recipe import Recipe

if TYPE_CHECKING:
    from trainables.trial.memory_fit import Way

_GB: Final = 2**30


def fit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe or a YAML file.")],
    gpu_memory: Annotated[float, typer.Option(metavar="GB", help="Memory of one GPU, in GB.")] = 24.0,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which batch, precision and gradient checkpointing fit into a GPU.

    Calculated, without a GPU and without weights: a step of the training is run on tensors without content while the
    bytes of all live tensors are counted. A tenth of the memory is left to CUDA.
    """
    from search_spaces.catalogue import load_recipe

    if not 0 < gpu_memory < 10_000:
        raise InputError(f"--gpu-memory {gpu_memory:g}: expected the GB of one GPU, such as 24")
    recipe = load_recipe(name).with_overrides(parse_settings(set_ or []), "--set")
    content = fits(recipe, gpu_memory)
    if as_json:
        print_json({"recipe": name, **content})
        return
    show_table(_table(content))
    for line in content["remarks"]:
        show(line)


def fits(recipe: Recipe, gpu_memory: float) -> dict[str, Any]:
    """What training and feature extraction need, and the settings with which the recipe fits.

    Args:
        recipe: what to train.
        gpu_memory: of one GPU, in GB.

    Returns:
        `settings`, one for each way to train: what it needs in GB and the largest number of photographs at a time;
        `extraction`, the same for the features of a frozen backbone; `fits`, whether a whole batch fits as the recipe
        is, or in parts where it has `optimizer.fit_memory`; `set`, the fields to change if it does not (None if nothing
        fits); `remarks`, the same in words.
    """
    from trainables.trial.memory_fit import best_way, ways
    from trainables.trial.memory_needs import extraction_needs

    found_ways = ways(recipe, gpu_memory * _GB)
    settings = [
        {
            "precision": way.recipe.optimizer.precision,
            "gradient_checkpointing": way.recipe.backbone.gradient_checkpointing,
            "fixed_gb": way.needs.fixed / _GB,
            "photograph_gb": way.needs.photograph / _GB,
            "trained": way.needs.trained,
            "parameters": way.needs.parameters,
            "largest_batch": way.batch,
        }
        for way in found_ways
    ]
    found = extraction_needs(recipe)
    extraction = None
    if found:
        extraction = {
            "fixed_gb": found.fixed / _GB,
            "photograph_gb": found.photograph / _GB,
            "parameters": found.parameters,
            "largest_batch": found.largest_batch(gpu_memory * _GB),
        }
    if (found_ways and not best_way(found_ways)) or (extraction and not extraction["largest_batch"]):
        chosen = None
    else:
        chosen = _changes(recipe, best_way(found_ways))
    content = {"gpu_memory": gpu_memory, "batch_size": recipe.schedule.batch_size, "settings": settings}
    remarks = _remarks(recipe, gpu_memory, extraction, chosen)
    fit = chosen is not None and (not chosen or recipe.optimizer.fit_memory)
    return {**content, "extraction": extraction, "fits": fit, "set": chosen, "remarks": remarks}


def _changes(recipe: Recipe, best: Way | None) -> list[str]:
    """The fields to set so that the recipe fits and a step sees as many photographs."""
    if best is None:  # no network is trained
        return []
    batch, changes = recipe.schedule.batch_size, []
    if best.recipe != recipe:
        changes.append(f"backbone.gradient_checkpointing={str(best.recipe.backbone.gradient_checkpointing).lower()}")
    if best.batch < batch:
        parts = -(-batch // best.batch)  # batches that make up one of the recipe's
        steps = recipe.optimizer.grad_accum_steps * parts
        changes += [f"schedule.batch_size={-(-batch // parts)}", f"optimizer.grad_accum_steps={steps}"]
    return changes


def _remarks(
    recipe: Recipe, gpu_memory: float, extraction: dict[str, Any] | None, chosen: list[str] | None
) -> list[str]:
    batch = recipe.schedule.batch_size
    if chosen is None:
        return [f"not even one photograph fits into {gpu_memory:g} GB: choose a smaller view.size or backbone, or lora"]
    lines = []
    if extraction:
        lines.append(f"features of the frozen backbone: {extraction['largest_batch']} photographs at a time")
    if not recipe.neural:
        lines.append(f"head.kind={recipe.head.kind} is fitted on the CPU")
    elif chosen:
        intro = "optimizer.fit_memory does the same as: " if recipe.optimizer.fit_memory else "to fit: "
        lines.append(intro + " ".join(f"--set {change}" for change in chosen))
    else:
        lines.append(f"fits: batches of {batch} photographs in {gpu_memory:g} GB")
    return lines


def _table(content: dict[str, Any]) -> Table:
    table = Table("", "precision", "checkpointing", "fixed GB", "GB a photograph", "largest batch")
    for setting in content["settings"]:
        checkpointing = "on" if setting["gradient_checkpointing"] else "off"
        table.add_row("training", setting["precision"], checkpointing, *_numbers(setting))
    if content["extraction"]:
        table.add_row("features", "", "", *_numbers(content["extraction"]))
    return table


def _numbers(needs: dict[str, Any]) -> list[str]:
    return [f"{needs['fixed_gb']:.2f}", f"{needs['photograph_gb']:.3f}", str(needs["largest_batch"])]
