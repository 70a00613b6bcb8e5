"""A blend from Python: its scores, its members, and what can be made with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from forage.python_api.options import PredictionFiles
from forage.python_api.run import Run, as_folder

if TYPE_CHECKING:
    import pandas as pd

    from ensemble.blend import blend as blend_folder
    from forage.bundling.bundle import Bundle
    from pasture.dataset import Dataset
    from pasture.targets import Array
    from trainables.recipe.sections import TtaName


class Blend:
    """A blend folder. Make one with `forage.build`, or read one with `forage.load_blend`.

    Attributes:
        content: the blend as `ensemble` has it.
    """

    def __init__(self, content: blend_folder.Blend) -> None:
        self.content = content

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.content.folder

    @property
    def scores(self) -> dict[str, Any]:
        """What `forage ensemble --json` prints; quote `nested`, with `interval`, as the score of the blend."""
        return self.content.scores()

    @property
    def members(self) -> pd.DataFrame:
        """One row for each member, heaviest first: trial, weight, out-of-fold score alone, backbone and fold models."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"trial": m.key, "weight": m.weight, "score": m.score, "backbone": m.what, "models": m.folds}
                for m in self.content.members
            ]
        )

    @property
    def oof(self) -> pd.DataFrame:
        """Out-of-fold predictions of the blend in grams: index image_id, columns the five targets."""
        from pasture.files import Folder
        from pasture.oof import OofTable

        table = OofTable.read(Folder.at(self.folder), "oof.parquet")
        return _table(table.image_ids, table.predictions[:, 0])

    @property
    def warnings(self) -> list[str]:
        """What makes the scores too high, or absent."""
        return self.content.warnings

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Trial and reason for every trial that could not be a member; empty for a blend that was read."""
        return self.content.evidence.refused if self.content.evidence else []

    def predict(
        self,
        data: str | Path | Dataset,
        *,
        tta: TtaName | None = None,
        given: Mapping[str, str | Path] | None = None,
        max_members: int | None = None,
        max_seconds: float | None = None,
        **files: Unpack[PredictionFiles],
    ) -> pd.DataFrame:
        """Predict the test photographs of a data folder.

        Args:
            data: a data folder, whose test.csv names the photographs, or photographs that were read.
            tta: test-time augmentation; the blend's own by default.
            given: for each imported member, the file of its predictions for these photographs.
            max_members: number of members to predict with, the heaviest first; None for all.
            max_seconds: predict with as many of the heaviest members as this time allows, by a measurement.
            **files: what to write beside the prediction; see `forage.python_api.options.PredictionFiles`.

        Returns:
            Grams: index image_id, columns the five targets, non-negative and in mass balance.

        Raises:
            InputError: a picture or a weight file cannot be read, the predictions of an imported member are missing, a
                limit that not even one member meets, or maps of a blend that has no density head.
            JobError: a prediction is not finite, the memory does not suffice for one photograph, or a file cannot be
                written.
        """
        from forage.blending.prediction import Files, Limits, predict_within
        from pasture.dataset import Dataset, read_test

        test = data if isinstance(data, Dataset) else read_test(Path(data))
        known = {member: Path(file) for member, file in (given or {}).items()}
        wanted = Files(**{name: Path(file) for name, file in files.items() if file})  # type: ignore[arg-type]
        limits = Limits(max_members, max_seconds)
        return _table(test.ids, predict_within(self.content, test, tta, known, limits, wanted))

    def refit(self, data: str | Path, out: str | Path) -> Blend:
        """Train each member again on all photographs, as `forage refit` does: one model instead of one for each fold.

        Args:
            data: data folder with labelled photographs: that of the blend, or one with more.
            out: folder of the new blend; must not exist.

        Returns:
            The new blend. Its scores are those of the fold models; `warnings` says so.

        Raises:
            InputError: bad data, `out` exists, or a member was imported and cannot be trained.
            JobError: a loss is not finite, or the folder cannot be written.
        """
        from ensemble.blend.refit import refit
        from forage.terminal.messages import say

        return Blend(refit(self.content, Path(data), Path(out), say))

    def refit_members(
        self, runs: Sequence[Run | str | Path], data: str | Path | None = None, *, all_members: bool = False
    ) -> Blend:
        """Train members of this blend again, in its own folder, as `forage ensemble` does after building.

        Args:
            runs: that it was built from.
            data: their data folder, if it has moved since the sweep.
            all_members: train all members; else those on frozen backbones, if the photographs are there.

        Returns:
            The blend as it is then.

        Raises:
            InputError: with `all_members` or `data`, if the data cannot be used.
            JobError: a loss is not finite, or the folder cannot be written. The blend of fold models stays.
        """
        from forage.blending.refit_members import refit_members

        folders = [as_folder(run) for run in runs]
        return Blend(refit_members(self.content, folders, Path(data) if data else None, all_members))

    def pseudo_label(
        self, data: str | Path, out: str | Path, *, weight: float = 0.5, cross_fit: bool = False, rounds: int = 1
    ) -> int:
        """Write a data folder whose test photographs have this blend's predictions as targets, as `forage pseudo` does.

        Args:
            data: data folder with labelled and test photographs.
            out: data folder to write; must not exist.
            weight: of a pseudo-label, in (0, 1]; that of a measured image is 1.
            cross_fit: label for each fold with models that have not seen it, so that scores stay honest.
            rounds: with `cross_fit`: how often labels are made; members are trained on them in between.

        Returns:
            Number of pseudo-labelled photographs.

        Raises:
            InputError: bad data or options, or members that cannot be teachers.
            JobError: a training or a prediction fails.
        """
        from forage.blending.cross_fit import write_cross_fitted
        from forage.blending.pseudo import one_teacher, write_pseudo
        from forage.terminal.messages import say
        from pasture.errors import InputError

        if cross_fit:
            return write_cross_fitted(self.content, Path(data), Path(out), weight, rounds, say)
        if rounds != 1:
            raise InputError("--rounds needs --cross-fit")
        return write_pseudo(one_teacher(self.content, weight), Path(data), Path(out), weight)

    def bundle(
        self,
        out: str | Path,
        *,
        without: Collection[str] = (),
        ship: Collection[str] = (),
        python: str | None = None,
    ) -> Bundle:
        """Write everything that predicting needs on a machine without a network, as `forage bundle` does.

        Args:
            out: folder to write, or a file that ends in .zip; must not exist.
            without: packages that the host has, beside `forage.bundling.packages.HOST`.
            ship: packages that the host lacks, although that list names them.
            python: version of Python on the host, such as "3.12"; None for the one that runs.

        Returns:
            What the bundle holds: `path`, `wheels`, `size` in bytes, and `notes` on what the notebook still needs.

        Raises:
            InputError: `out` exists, forage is not installed, pip is missing, or imported embeddings are not there.
            JobError: a wheel cannot be downloaded, or the bundle cannot be written.
        """
        from forage.bundling.bundle import write_bundle

        return write_bundle(self.content, Path(out), without=without, ship=ship, python=python)

    def write_report(self, data: str | Path | None = None) -> str:
        """Write report.html into the folder of a blend and return its location.

        Args:
            data: data folder, for photographs, states and species; that of the runs where None.

        Raises:
            InputError: the blend folder has no evidence.npz, or a damaged one.
            JobError: the page cannot be written.
        """
        from forage.pages.report import write_blend_report

        return write_blend_report(self.content, data=str(data or ""))

    def __repr__(self) -> str:
        return f"forage.load_blend({str(self.folder)!r})"


def write_submission(out: str | Path, predictions: pd.DataFrame, data: str | Path) -> None:
    """Write predictions in the order of a data folder's sample_submission.csv, atomically.

    Args:
        out: file to write.
        predictions: as `Blend.predict` returns them.
        data: the data folder.

    Raises:
        InputError: sample_submission.csv asks for a photograph that is not predicted.
        JobError: the file cannot be written.
    """
    from ensemble.prediction.submission import write_submission as write
    from pasture.data_table import read_sample_submission

    ids = [str(image) for image in predictions.index]
    write(Path(out), read_sample_submission(Path(data), ids), ids, predictions.to_numpy())


def _table(image_ids: list[str], predictions: Array) -> pd.DataFrame:
    """Index image_id, columns the five targets."""
    import pandas as pd

    from pasture.targets import TARGETS

    return pd.DataFrame(predictions, index=pd.Index(image_ids, name="image_id"), columns=list(TARGETS))
