"""A run directory from Python: its state, and its trials, curves and out-of-fold predictions as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from pasture.run_folder import RunFolder
    from tune.records.plan import Plan
    from tune.records.stop import StopReason


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM has stopped a sweep, which can be resumed.

    Attributes:
        run: the run directory of the sweep.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(f"the sweep has stopped; resume it with forage.resume({run.path!r})")
        self.run = run


class Run:
    """A run directory: the trials of a sweep, or members imported from other tools.

    Everything is read from the directory when it is asked for, so that a `Run` can also watch a sweep that another
    process is running. Make one with `forage.load_run`.

    Attributes:
        folder: the run directory.
        stopped_by: what ended the session that returned this run before all trials had ended: `hours` or `score`;
            None if nothing did.
    """

    def __init__(self, folder: RunFolder, stopped_by: StopReason | None = None) -> None:
        self.folder = folder
        self.stopped_by = stopped_by

    @property
    def path(self) -> str:
        """Location of the run directory: a path or a URI."""
        return str(self.folder)

    @property
    def plan(self) -> Plan:
        """What the sweep was asked for.

        Raises:
            InputError: imported members have no plan, or sweep.yaml is damaged.
        """
        from tune.records.plan import Plan

        return Plan.read(self.folder)

    def status(self) -> dict[str, Any]:
        """What `forage status --json` prints: numbers of trials by outcome, the best trial, time and disk space.

        `at_work` says whether a process runs the sweep now; None where this user may not open its lock.
        """
        from forage.results.summary import effort, imported, summarise
        from tune.records.ledger import Ledger
        from tune.records.lock import driver_at_work

        if self.folder.external:
            return imported(self.folder)
        ledger = Ledger(self.folder)
        at_work = {"at_work": driver_at_work(self.folder)}
        return summarise(ledger, self.plan.trials) | effort(self.folder, ledger) | at_work

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each trial: trial, status, origin, score, epochs, seconds, error and the fields of its recipe.

        Imported members have trial, score and missing: the number of images that their file lacks.
        """
        import pandas as pd

        from tune.records.ledger import Ledger

        if not self.folder.external:
            return Ledger(self.folder).table()
        from ensemble.members.external import external_members

        facts = ("trial", "score", "missing")
        return pd.DataFrame(
            [{name: member.metadata[name] for name in facts} for member in external_members(self.folder)]
        )

    @property
    def curves(self) -> pd.DataFrame:
        """One row for each trial and epoch, with all that the trial reported: score, train_loss, seconds, R2 by target.

        `epoch_score` is the out-of-fold R2 of that epoch, `score` that of the weights that the recipe would keep then.
        """
        import pandas as pd

        from tune.records.ledger import Ledger

        records = Ledger(self.folder).records.values()
        reports = [{"trial": record.name} | _scalars(report) for record in records for report in record.curve]
        return pd.DataFrame(reports, columns=None if reports else ["trial", "epoch", "score"])

    @property
    def oof(self) -> pd.DataFrame:
        """Out-of-fold predictions in grams: one row for each trial and image, with trial, image_id and fold.

        Only trials that were trained to the end and kept their weights have any. The photographs are not augmented;
        `ensemble` averages the elements of D4 as well.
        """
        import pandas as pd

        from pasture.targets import TARGETS

        tables = []
        for name in self.folder.oof.names(".parquet"):
            trial = name.removesuffix(".parquet")
            table = self.folder.read_oof(trial)
            keys = {"trial": trial, "image_id": table.image_ids, "fold": table.folds}
            tables.append(pd.DataFrame(keys | dict(zip(TARGETS, table.predictions[:, 0].T, strict=True))))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["trial", "image_id", "fold"])

    @property
    def truth(self) -> pd.DataFrame:
        """The measured weights in grams: index image_id, columns date and the five targets."""
        return self.folder.read_truth()

    def write_report(self) -> str:
        """Write report.html into the run directory and return its location."""
        from forage.pages.report import write_run_report

        return write_run_report(self.folder)

    def __repr__(self) -> str:
        return f"forage.load_run({self.path!r})"


def _scalars(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if not isinstance(value, (list, dict))}


def as_folder(run: Run | str | Path) -> RunFolder:
    """The run directory that a user means.

    Raises:
        InputError: nothing is there, or something else.
    """
    from forage.terminal.words import existing_run

    return run.folder if isinstance(run, Run) else existing_run(str(run))
