"""`forage recipes fit`: what of a recipe fits into the memory of a GPU."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from forage.terminal.messages import print_json, show, show_table
from forage.terminal.options import JsonOption, SetOption
from forage.terminal.words import parse_settings
from pasture.errors import InputError
from trainables.recipe.recipe import Recipe

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
        is; `set`, the fields to change if it does not (None if nothing fits); `remarks`, the same in words.
    """
    from trainables.trial.memory_needs import extraction_needs, training_needs

    settings = []
    for variant in _variants(recipe):
        needs = training_needs(variant)
        if needs is None:
            break
        settings.append(
            {
                "precision": variant.optimizer.precision,
                "gradient_checkpointing": variant.backbone.gradient_checkpointing,
                "fixed_gb": needs.fixed / _GB,
                "photograph_gb": needs.photograph / _GB,
                "trained": needs.trained,
                "parameters": needs.parameters,
                "largest_batch": needs.largest_batch(gpu_memory * _GB),
            }
        )
    found = extraction_needs(recipe)
    extraction = None
    if found:
        extraction = {
            "fixed_gb": found.fixed / _GB,
            "photograph_gb": found.photograph / _GB,
            "parameters": found.parameters,
            "largest_batch": found.largest_batch(gpu_memory * _GB),
        }
    chosen = _chosen(recipe, settings, extraction)
    content = {"gpu_memory": gpu_memory, "batch_size": recipe.schedule.batch_size, "settings": settings}
    remarks = _remarks(recipe, gpu_memory, extraction, chosen)
    return {**content, "extraction": extraction, "fits": chosen == [], "set": chosen, "remarks": remarks}


def _variants(recipe: Recipe) -> list[Recipe]:
    """The recipe, and where its backbone is trained, the recipe with gradient checkpointing the other way round."""
    if recipe.banked:
        return [recipe]
    other = {"backbone.gradient_checkpointing": not recipe.backbone.gradient_checkpointing}
    return [recipe, recipe.with_overrides(other)]


def _chosen(recipe: Recipe, settings: list[dict[str, Any]], extraction: dict[str, Any] | None) -> list[str] | None:
    """The fields to set so that the recipe fits and a step sees as many photographs; None if nothing fits."""
    if extraction and not extraction["largest_batch"]:
        return None
    if not settings:
        return []
    batch, steps = recipe.schedule.batch_size, recipe.optimizer.grad_accum_steps
    whole = [setting for setting in settings if setting["largest_batch"] >= batch]
    some = [setting for setting in settings if setting["largest_batch"] > 0]
    if not some:
        return None
    best = whole[0] if whole else max(some, key=lambda setting: setting["largest_batch"])
    changes = []
    if best["gradient_checkpointing"] != recipe.backbone.gradient_checkpointing:
        changes.append(f"backbone.gradient_checkpointing={str(best['gradient_checkpointing']).lower()}")
    if not whole:
        parts = -(-batch // best["largest_batch"])  # batches that make up one of the recipe's
        changes += [f"schedule.batch_size={-(-batch // parts)}", f"optimizer.grad_accum_steps={steps * parts}"]
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
        lines.append("to fit: " + " ".join(f"--set {change}" for change in chosen))
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
