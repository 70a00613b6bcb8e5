"""The files that a trial writes into its run directory. Writing is idempotent and atomic."""

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
    """Save a trial that has not finished."""
    run.checkpoints.write(f"{trial.name}.pt", add_checksum(trial.state()))


def load_checkpoint(run: RunFolder, trial: Trial) -> None:
    """Continue from a checkpoint if there is one.

    Raises:
        StorageError: the checkpoint is damaged; the user decides whether to train the trial from the start.
        JobError: the checkpoint belongs to another recipe or dataset.
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
    """Write weights, the OOF of every epoch, predictions for outer dates and, last, the OOF table: its existence means
    that the trial has finished."""
    table = trial.finish()
    if (outer := trial.outer_table()) is not None:
        outer.write(run.outer, f"{trial.name}.parquet")
    tags = {"recipe_hash": trial.recipe.hash, "fingerprint": trial.dataset.fingerprint}
    for fold in trial.fold_numbers:
        content = pack(trial.executor.kept(fold), tags | {"fold": str(fold)})
        run.weights(trial.name).write(f"fold{fold}.safetensors", content)
    run.write_epochs(trial.name, np.array(trial.epochs))
    table.write(run.oof, f"{trial.name}.parquet")
    run.checkpoints.delete(f"{trial.name}.pt")


def read_finished(run: RunFolder, name: str, recipe: Recipe, fingerprint: str) -> OofTable | None:
    """The OOF table of a trial that has finished with the same recipe and data; None if there is none."""
    if not run.oof.exists(f"{name}.parquet"):
        return None
    try:
        table = run.read_oof(name)
    except ForageError:
        return None  # damaged: the trial runs again and replaces it
    same = (table.metadata.get("recipe_hash"), table.metadata.get("fingerprint")) == (recipe.hash, fingerprint)
    return table if same else None
