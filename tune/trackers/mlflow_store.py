"""MLflow: an experiment for each run directory, a run for each trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from tune.records.ledger import Record, Status
from tune.trackers.names import SCORE, facts, fields

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

_STATUS: Final[dict[Status, str]] = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED"}
_ID, _TRIAL = "forage.id", "forage.trial"
_PARAMS = 100
"""Most parameters in one request."""


class MlflowTracker:
    """Writes to an MLflow store.

    Args:
        uri: of the store, such as sqlite:////data/mlflow.db or http://host:5000.
        experiment: its name.
        identity: of the run directory: tells its trials from those of another one with the same name.
    """

    def __init__(self, uri: str, experiment: str, identity: str) -> None:
        self.client, self.identity = MlflowClient(tracking_uri=uri), identity
        found = self.client.get_experiment_by_name(experiment)
        self.experiment = found.experiment_id if found else self.client.create_experiment(experiment)
        self.known = {run.data.tags[_TRIAL]: run for run in self._runs()}

    def begin(self, record: Record) -> MlflowRun:
        """A new run, or the one that an earlier session began."""
        known = self.known.get(record.name)
        if known is None:
            tags = {_ID: self.identity, _TRIAL: record.name}
            run = self.client.create_run(self.experiment, run_name=record.name, tags=tags).info.run_id
            params = [Param(field, str(value)) for field, value in fields(record).items()]
            for some in _batches(params, _PARAMS):
                self.client.log_batch(run, params=some)
            return MlflowRun(self.client, run, 0, ended=False)
        run = known.info.run_id
        ended = known.data.tags.get("forage.status") == record.status
        if not ended and known.info.status != "RUNNING":
            self.client.update_run(run, status="RUNNING")
        return MlflowRun(self.client, run, len(self.client.get_metric_history(run, SCORE)), ended)

    def _runs(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment], f"tags.`{_ID}` = '{self.identity}'", page_token=token)
            yield from page
            if not (token := page.token):
                return


class MlflowRun:
    """The run of one trial."""

    def __init__(self, client: MlflowClient, run: str, logged: int, ended: bool) -> None:
        self.client, self.run, self.logged, self.ended = client, run, logged, ended

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the metrics of an epoch in one request."""
        now = int(1000 * time.time())
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, epoch) for name, value in values.items()])

    def end(self, record: Record) -> None:
        """Set the status: FINISHED, FAILED, or KILLED for a pruned trial; the tag `forage.status` has our word."""
        tags = [RunTag(f"forage.{name}", value[:5000]) for name, value in facts(record).items()]
        self.client.log_batch(self.run, tags=tags)
        self.client.set_terminated(self.run, _STATUS[record.status])

    def pause(self) -> None:
        """Set the status of a trial that goes on later: SCHEDULED."""
        self.client.set_terminated(self.run, "SCHEDULED")


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
