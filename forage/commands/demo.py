"""The whole job on synthetic paddocks: data, sweep, blend, predictions, submission, and what they are worth."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from ensemble.prediction.submission import write_submission
from forage.pages.report import attempt, write_blend_report, write_run_report
from forage.terminal.messages import show_table
from forage.terminal.tables import blend_table
from pasture.data_table import read_sample_submission
from pasture.dataset import Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder
from pasture.sample_ids import split_sample_ids
from pasture.synthetic import make_data
from pasture.targets import TARGETS, Array
from search_spaces.catalogue import load_space
from tune.records.plan import Limits
from tune.sweep import launch

IMAGES, TRIALS, SEED = 60, 12, 0

_MARK = ".forage-demo"


def run(out: Path, say: Callable[[str], None]) -> None:
    """Run the demo in a folder; an earlier demo there is replaced.

    Raises:
        InputError: the folder holds something that is not a demo, or is a file.
    """
    if (nearest := next(p for p in (out, *out.absolute().parents) if p.exists())).is_file():
        raise InputError(f"{out}: {nearest} is a file; choose another --out")
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise InputError(f"{out}: the folder is not empty and holds no demo; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    data, blend_folder, submission = out / "data", out / "blend", out / "submission.csv"

    say(f"drawing {IMAGES} labelled paddocks and {IMAGES // 4} to predict")
    make_data(data, images=IMAGES, seed=SEED)
    train, test = read_train(data), read_test(data)

    say(f"a sweep of {TRIALS} trials over three pretrained backbones, on all folds in lock-step")
    folder = RunFolder(out / "run")
    launch(folder, data, load_space("demo"), Limits(trials=TRIALS), seed=SEED)
    blend = build([folder], blend_folder, "d4")
    show_table(blend_table(blend))
    predictions = predict(blend, test)
    write_submission(submission, read_sample_submission(data, test.ids), test.ids, predictions)

    truth = _hidden_truth(data, test)
    means = np.broadcast_to(train.targets.mean(axis=0), truth.shape)
    say(
        f"on the hidden truth of {len(test)} test photographs, taken on other dates: the blend scores "
        f"{weighted_r2(truth, predictions):.4f}, the training means score {weighted_r2(truth, means):.4f}"
    )
    attempt(lambda: write_run_report(folder), say)
    attempt(lambda: write_blend_report(blend), say)
    for what, where in (("submission", submission), ("blend", blend_folder), ("run", folder)):
        say(f"{what}: {where}")


def _hidden_truth(data: Path, test: Dataset) -> Array:
    """(n, 5) in grams, in the order of `test.ids`."""
    table = pd.read_csv(data / "hidden_truth.csv")
    table = table.join(split_sample_ids(table["sample_id"]))
    wide = table.pivot(index="image_id", columns="target_name", values="target")
    return wide.loc[test.ids, list(TARGETS)].to_numpy(dtype=np.float64)
