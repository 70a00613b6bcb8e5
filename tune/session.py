"""One session of a sweep: run on Ray the trials that the ledger says are left.

Launching and resuming both end here: a session knows the plan and the ledger, nothing else of what came before.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray.tune

from pasture.errors import JobError, StorageError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import versions
from tune.bookkeeper import Bookkeeper
from tune.cluster.placement import Placement
from tune.cluster.ray_health import watch_ray
from tune.cluster.trial_job import TrialJob
from tune.cluster.trial_timeout import TrialTimeout
from tune.pruning.promotion import Promotion
from tune.pruning.pruners import Pruner, make_pruner
from tune.pruning.scheduler import PruningScheduler
from tune.records.ledger import Ledger, Record
from tune.records.lock import Hold
from tune.records.plan import Plan
from tune.records.preparation import no_preparations_left
from tune.records.progress import Progress
from tune.records.retention import Retention
from tune.records.stop import Stop, StopReason
from tune.search.blend_gain import BlendGain
from tune.search.capacity_limiter import CapacityLimiter
from tune.search.confirmation import confirmed_scores, is_over, propose_confirmations
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.warm_start import read_earlier_trials
from tune.trackers.live import LiveTrackers

Watch = Callable[[Record], None]


@dataclass(frozen=True)
class Outcome:
    """How a session of a sweep ended.

    Attributes:
        stopped_by: what stopped it before all trials had ended; None if all have.
    """

    run: RunFolder
    ledger: Ledger
    stopped_by: StopReason | None = None


@dataclass(frozen=True)
class Cluster:
    """The Ray that a session runs on.

    Attributes:
        placement: what each trial asks Ray for.
        node: the driver's node, which serves the data to the others; None where all of Ray is on this machine.
        trainable: the class that runs a trial.
        on_loss: called from another thread when Ray has died; None to raise a JobError in the thread of the session.
    """

    placement: Placement
    node: str | None
    trainable: type[ray.tune.Trainable]
    on_loss: Callable[[JobError], None] | None = None


def ignore(_: Record) -> None:
    """No-op callback."""


class Session:
    """Runs the trials of a sweep that are left, stage by stage.

    Args:
        run: the run directory.
        plan: what was asked for.
        ledger: the trials so far.
        hold: the lock on the run directory.
        cluster: where trials run.
        watch: called after every event of a trial.
    """

    def __init__(
        self,
        run: RunFolder,
        plan: Plan,
        ledger: Ledger,
        hold: Hold,
        cluster: Cluster,
        watch: Watch = ignore,
    ) -> None:
        self.run, self.plan, self.ledger, self.hold, self.cluster = run, plan, ledger, hold, cluster
        self.watch = watch
        self.space = Space.parse(plan.space)
        retention = Retention(run, ledger, plan.keep)
        self.promotion = Promotion(ledger, retention, plan.trials, plan.promote, self.space.epochs)

    def work(self) -> Outcome:
        """Run until all trials have ended or something stops the sweep.

        Raises:
            JobError: Ray has died, or another driver has taken over the run directory.
            StorageError: the driver or a worker cannot read or write.
        """
        plan, ledger = self.plan, self.ledger
        with (
            Progress(ledger, plan.trials + plan.confirm, self.space.epochs, self.run.name) as progress,
            LiveTrackers(plan.track, self.run, ledger, progress.say) as trackers,
            Stop(plan.hours, plan.until_score, self.hold, str(self.run)) as stop,
            watch_ray(self.run, self.cluster.on_loss or stop.interrupt),
            _resumable(self.run),
            no_preparations_left(self.run),
        ):
            while stop.reason is None:
                promoted = [record.name for record in self.promotion.due()]
                left = ledger.left(plan.trials) + len(promoted) or len(propose_confirmations(ledger, plan.confirm))
                if not left:
                    break
                if promoted:
                    progress.say(f"the first stage is over; these trials continue to the end: {', '.join(promoted)}")
                watchers = (progress.watch, stop.watch, trackers.watch, self.watch)
                self._run_stage(left, promoted, stop, watchers, progress.tick)
            if self.hold.lost:
                raise JobError(f"{self.run}: another forage has taken over this run directory; this one has stopped")
            if stop.failure:
                raise stop.failure
            ledger.write_table()
            if stop.reason is None:
                self.run.features.clear()
                for line in confirmed_scores(ledger):
                    progress.say(line)
        return Outcome(self.run, ledger, None if is_over(ledger, plan) else stop.reason)

    def _run_stage(
        self, left: int, promoted: Sequence[str], stop: Stop, watchers: Sequence[Watch], tick: Callable[[], None]
    ) -> None:
        """Run `left` trials with a new scheduler and a new searcher, both made from the ledger alone."""
        plan, ledger, promotion = self.plan, self.ledger, self.promotion

        def watch(record: Record) -> None:
            for notify in watchers:
                notify(record)

        searcher = OptunaSearcher(
            self.space,
            ledger,
            self._configure,
            trials=plan.trials,
            search=plan.search,
            seed=plan.seed,
            starts=self.space.starts() if plan.start or plan.warm_start else (),
            earlier=read_earlier_trials(self.run),
            values=BlendGain(self.run) if plan.objective == "blend" else None,
            promoted=promoted,
            per_second=plan.objective == "score-per-second",
        )
        # A Ray on this machine alone cannot grow.
        limiter = CapacityLimiter(
            searcher, self.cluster.placement.resources, ahead=0 if self.cluster.node is None else 1
        )
        scheduler = PruningScheduler(ledger, self._pruner(), promotion.cut, limiter.choose)
        callbacks = [Bookkeeper(ledger, scheduler, searcher, stop, promotion, watch, tick)]
        if plan.trial_timeout:
            callbacks.append(TrialTimeout(ledger, plan.trial_timeout))
        with tempfile.TemporaryDirectory(prefix="forage-ray-", ignore_cleanup_errors=True) as scratch:
            # Not Tuner: it pickles everything it is given for its own way of resuming, which forage does not use.
            ray.tune.run(
                self.cluster.trainable,
                name=self.run.name,
                num_samples=left,
                search_alg=limiter,
                scheduler=scheduler,
                stop=stop,
                callbacks=callbacks,
                max_failures=plan.max_failures,
                reuse_actors=True,
                raise_on_failed_trial=False,
                trial_dirname_creator=lambda trial: str(trial.config["trial"]),
                storage_path=scratch,
                verbose=0,
                progress_reporter=_SilentReporter(),
            )
        if stop.failure is None and not self.hold.lost:
            ledger.flush()

    def _pruner(self) -> Pruner:
        plan = self.plan
        return make_pruner(
            plan.pruner, self.space.epochs, grace=plan.grace, reduction=plan.reduction, promote=plan.promote
        )

    def _configure(self, record: Record) -> dict[str, Any]:
        """The configuration of a trial."""
        job = TrialJob(
            run=str(self.run.folder),
            data=self.plan.data,
            fingerprint=self.plan.fingerprint,
            forage=versions()["forage"],
            trial=record.name,
            recipe=json.dumps(record.recipe),
            reported=len(record.curve),
            node=self.cluster.node,
            cut=self.promotion.cut,
            rungs=self._pruner().rungs,
            origin=record.origin,
            outer=self.plan.outer,
            **self.cluster.placement.request(Recipe.parse(record.recipe))._asdict(),
        )
        return job.to_config()


class _SilentReporter(ray.tune.ProgressReporter):  # type: ignore[misc]
    """In place of Ray Tune's own, which in a notebook clears the output of the cell and with it forage's table."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Never."""
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Report nothing."""


@contextmanager
def _resumable(run: RunFolder) -> Iterator[None]:
    """Add to a storage error how to continue."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}; then go on with: forage resume {run}") from None
