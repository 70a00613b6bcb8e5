"""What a trial leaves in its run directory. Writing is idempotent and atomic: twice is as good as once."""

from __future__ import annotations

import numpy as np

from pasture.checksum import add_checksum, remove_checksum
from pasture.errors import ForageError, StorageError
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from trainables.network.weights_file import pack
from trainables.recipe.recipe import Recipe
from trainables.trial.trial import Trial


def write_checkpoint(run: RunFolder, trial: Trial) -> None:
    """Save a trial under way."""
    run.checkpoints.write(f"{trial.name}.pt", add_checksum(trial.state()))


def load_checkpoint(run: RunFolder, trial: Trial) -> None:
    """Continue from a checkpoint if there is one.

    Raises:
        StorageError: there is one, but it is damaged: to begin anew in silence is not ours to choose.
        JobError: it belongs to something else.
    """
    name = f"{trial.name}.pt"
    if run.checkpoints.exists(name):
        try:
            content = remove_checksum(run.checkpoints.read(name))
        except ValueError as error:
            path = run.checkpoints / name
            raise StorageError(
                f"checkpoint of {trial.name} is damaged ({error}); delete {path} and the trial begins anew"
            ) from None
        trial.load_state(content)


def write_finished(run: RunFolder, trial: Trial) -> None:
    """Write weights, the OOF of every epoch, the predictions for outer dates and, last, the OOF table: where it exists,
    the trial is finished."""
    table = trial.finish()
    if (outer := trial.outer_table()) is not None:
        outer.write(run.outer, f"{trial.name}.parquet")
    tags = {"recipe_hash": trial.recipe.hash, "fingerprint": trial.dataset.fingerprint}
    for fold in trial.fold_numbers:
        content = pack(trial.executor.best(fold), tags | {"fold": str(fold)})
        run.weights(trial.name).write(f"fold{fold}.safetensors", content)
    run.write_epochs(trial.name, np.array(trial.epochs))
    table.write(run.oof, f"{trial.name}.parquet")
    run.checkpoints.delete(f"{trial.name}.pt")


def read_finished(run: RunFolder, name: str, recipe: Recipe, fingerprint: str) -> OofTable | None:
    """The OOF table of a trial that has finished with this very recipe and data; None if it has not, or not wholly."""
    if not run.oof.exists(f"{name}.parquet"):
        return None
    try:
        table = run.read_oof(name)
    except ForageError:
        return None  # damaged: the trial runs again and replaces it
    same = (table.metadata.get("recipe_hash"), table.metadata.get("fingerprint")) == (recipe.hash, fingerprint)
    return table if same else None
