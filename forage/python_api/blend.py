"""A blend from Python: its scores, its members, and predicting with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ensemble.blend import blend as blend_folder
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
    ) -> pd.DataFrame:
        """Predict the test photographs of a data folder.

        Args:
            data: a data folder, whose test.csv names the photographs, or photographs that were read.
            tta: test-time augmentation; the blend's own by default.
            given: for each imported member, the file of its predictions for these photographs.

        Returns:
            Grams: index image_id, columns the five targets, non-negative and in mass balance.

        Raises:
            InputError: a picture or a weight file cannot be read, or the predictions of an imported member are missing.
            JobError: a prediction is not finite, or the memory does not suffice for one photograph.
        """
        from ensemble.members.prediction_file import read_given
        from ensemble.prediction.predict import predict
        from forage.terminal.bars import bars
        from pasture.dataset import Dataset, read_test

        test = data if isinstance(data, Dataset) else read_test(Path(data))
        known = read_given({member: Path(file) for member, file in (given or {}).items()}, test.ids)
        with bars() as watch:
            return _table(test.ids, predict(self.content, test, tta, known, watch))

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
