"""`forage features`: the feature banks of this machine, and embeddings made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from forage.terminal.bars import bars
from forage.terminal.messages import print_json, say, show, show_table
from forage.terminal.options import CacheLimitOption, DataArgument, JsonOption, RecipeOption, SetOption
from forage.terminal.words import parse_settings
from pasture.errors import InputError

if TYPE_CHECKING:
    from trainables.images.array_cache import Entry

features = typer.Typer(
    help="Features of frozen backbones: build, list, import.", no_args_is_help=True, rich_markup_mode="markdown"
)


@features.command(epilog="Example: `forage features build data/csiro --recipe feature_ridge`")
def build(
    data: DataArgument,
    recipe: RecipeOption,
    cache_limit: CacheLimitOption = None,
    settings: SetOption = None,
) -> None:
    """Compute the input of a recipe's trials before a sweep: features, or decoded pictures if the backbone is trained.

    Optional: a sweep computes what is missing. The results are kept in $FORAGE_CACHE (else ~/.cache/forage).
    """
    from pasture.dataset import read_train
    from pasture.verification import verify
    from search_spaces.catalogue import load_recipe

    chosen = load_recipe(recipe).with_overrides(parse_settings(settings or []), "--set")
    dataset = verify(read_train(data))
    from trainables.compute.precision import best_device
    from trainables.features.context import TrialContext
    from trainables.features.inputs import make_inputs
    from trainables.images.array_cache import cache_root
    from trainables.trial.preflight import check_recipe

    check_recipe(chosen, dataset.ids)
    with bars() as watch:
        make_inputs(chosen, TrialContext(dataset, best_device(), watch=watch))
    what = "features" if chosen.banked else "decoded pictures (the backbone is trained)"
    say(f"{what} of {len(dataset)} photographs are in {cache_root()}")


@features.command("list", epilog="Example: `forage features list`")
def list_banks(as_json: JsonOption = False) -> None:
    """List features, decoded pictures and imported banks on this machine, the last used first."""
    from trainables.features import embeddings
    from trainables.images.array_cache import cache_limit, cache_root, entries

    banks = {name: embeddings.read(name).features for name in embeddings.names()}
    rows = [_row(entry) for entry in entries()]
    if as_json:
        print_json({"imported": {name: list(bank.shape) for name, bank in banks.items()}, "kept": rows})
        return
    table = Table("what", "of", "views", "shape", "MB", "last used")
    for name, bank in banks.items():
        table.add_row("imported", f"bank:{name}", "", _shape(bank.shape), f"{bank.nbytes / 1e6:.1f}", "")
    for row in rows:
        table.add_row(
            row["kind"], row["of"], row["view"], _shape(row["shape"]), f"{row['bytes'] / 1e6:.1f}", row["used"]
        )
    show_table(table)
    total = sum(row["bytes"] for row in rows)
    show(f"{cache_root()}: {total / 1e9:.3g} GB of at most {cache_limit() / 1e9:.3g} GB, imported banks aside")


@features.command("import", epilog="Example: `forage features import dinov3.npy --ids ids.txt --name dinov3`")
def import_bank(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .npy of (images, features), (images, views, features) or (images, 8, views, features), with --ids; "
            "or a .parquet with a column image_id and numeric columns.",
        ),
    ],
    name: Annotated[str, typer.Option(help="Name: recipes say `backbone.name=bank:NAME`.")],
    ids: Annotated[Path | None, typer.Option(help="Text file with the image id of each row of a .npy.")] = None,
) -> None:
    """Import embeddings from another tool. Any frozen recipe can use them; no picture is read then.

    Give labelled and test photographs in one file, because a blend predicts from the bank too. Embeddings without the
    eight elements of D4 are used for all of them, so that test-time augmentation changes nothing.
    """
    from trainables.features import embeddings

    rows, values = _read_embeddings(file, ids)
    embeddings.write(name, rows, values)
    shape = embeddings.read(name).features.shape
    say(f"bank:{name}: {shape[0]} photographs, {shape[1]} element(s) of D4, {shape[2]} view(s), {shape[3]} features")


def _read_embeddings(file: Path, ids: Path | None) -> tuple[list[str], np.ndarray]:
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if file.suffix == ".parquet":
        import pandas as pd

        try:
            table = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: not a readable Parquet file ({error})") from None
        if "image_id" not in table.columns:
            raise InputError(f"{file}: no column image_id; found {', '.join(map(str, table.columns[:8]))}")
        values = table.drop(columns="image_id")
        if words := [str(c) for c, kind in values.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]:
            raise InputError(f"{file}: column {words[0]} is not numeric; expected image_id and one column a feature")
        return [str(i) for i in table["image_id"]], values.to_numpy()
    if file.suffix != ".npy":
        raise InputError(f"{file}: expected a .npy or a .parquet file")
    if ids is None or not ids.is_file():
        raise InputError(f"{file}: a .npy has no names for its rows; give --ids FILE with one image id a line")
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file}: not a readable .npy file ({error})") from None
    return ids.read_text().split(), np.asarray(array)


def _row(entry: Entry) -> dict[str, Any]:
    view = entry.key["view"]
    array = np.load(entry.path, mmap_mode="r", allow_pickle=False)
    return {
        "kind": entry.kind if entry.key.get("draw", "d4") == "d4" else f"{entry.kind} ({entry.key['draw']} copies)",
        "of": entry.key.get("backbone", "pictures"),
        "view": f"{view['kind']} {view['size']}" + (f" x {view['tiles']}²" if view["tiles"] > 1 else ""),
        "shape": list(array.shape),
        "bytes": entry.path.stat().st_size,
        "used": f"{entry.used:%Y-%m-%d %H:%M}",
        "dataset": entry.key["dataset"],
    }


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape))
