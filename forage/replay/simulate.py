"""A sweep on a simulated clock: what decides is real, trials are replayed from a table."""

from __future__ import annotations

import heapq
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from forage.replay.table import Split, Trained
from tune.records.ledger import Record

Verdict = Literal["continue", "pause", "end"]
"""What becomes of a trial after a report. A paused trial gives its worker back and continues where it stopped."""


@dataclass(frozen=True)
class Ended:
    """A trial of a simulated sweep.

    Attributes:
        entry: number of its recipe in the table.
        record: as a real sweep would have written it.
        time: simulated seconds from the start of the sweep to its end.
        seconds: computed by it.
        computed: seconds that all trials together had computed when it ended, paused ones included.
    """

    entry: int
    record: Record
    time: float
    seconds: float
    computed: float


@dataclass(frozen=True)
class Simulated:
    """A simulated sweep.

    Attributes:
        trials: in the order in which they ended.
        makespan: simulated seconds until the last one.
        driver_seconds: CPU time that the driver's decisions took.
    """

    trials: list[Ended]
    makespan: float
    driver_seconds: float

    @property
    def seconds(self) -> float:
        """Computed by all trials."""
        return sum(trial.seconds for trial in self.trials)


class Strategy(ABC):
    """What decides in a sweep: proposes trials and says whether they continue.

    Attributes:
        ahead: how many proposed trials wait for a worker; with 0, a trial is proposed when a worker is free.
    """

    ahead: int = 0

    @abstractmethod
    def propose(self) -> tuple[Record, int] | None:
        """A new trial and the number of its recipe in the table; None when there are no more."""

    @abstractmethod
    def report(self, record: Record, report: dict[str, Any], finished: bool) -> Verdict:
        """Take a report. Sets the status of the record where the trial ends, and of paused trials that end with it."""

    def choose(self) -> Record | None:
        """The proposed or paused trial that a free worker takes; None, the default, for the first proposed one."""
        return None


def simulate(
    strategy: Strategy, split: Split, workers: int = 1, *, seconds: float = math.inf, driver: bool = False
) -> Simulated:
    """Run a sweep.

    To pause and to continue a trial takes no time. A trial that is still paused at the end is in no result.

    Args:
        strategy: decides.
        split: what recipes do.
        workers: number of trials at a time.
        seconds: no trial begins or continues once trials have computed for so long, all together.
        driver: whether the time that decisions take counts on the simulated clock: one driver decides for all workers,
            one decision after another.
    """
    return _Simulation(strategy, split, workers, seconds, _Driver(driver)).run()


class _Simulation:
    """The state of a simulated sweep. Trials go by their names.

    Attributes:
        events: the next report of every running trial: when, the order in which trials began, which, its recipe.
        ahead: the proposed trials that wait for a worker, their recipes, and when they were proposed.
        paused: trials that may continue, with their order and recipe.
        epochs: finished epochs by trial.
    """

    def __init__(self, strategy: Strategy, split: Split, workers: int, seconds: float, decide: _Driver) -> None:
        self.strategy, self.split, self.idle, self.seconds, self.decide = strategy, split, workers, seconds, decide
        self.events: list[tuple[float, int, Record, int]] = []
        self.ahead: dict[str, tuple[Record, int, float]] = {}
        self.paused: dict[str, tuple[int, Record, int]] = {}
        self.epochs: dict[str, int] = {}
        self.ended: list[Ended] = []
        self.now = self.computed = 0.0
        self.more = True

    def run(self) -> Simulated:
        """Run to the end."""
        while True:
            self._propose_ahead()
            while self.idle and self.computed < self.seconds and self._occupy():
                self._propose_ahead()
            if not self.events:
                makespan = max((trial.time for trial in self.ended), default=0.0)
                return Simulated(self.ended, makespan, self.decide.spent)
            self._next_report()

    def _propose_ahead(self) -> None:
        """Propose as many trials ahead as the strategy does, and at least one for an idle worker."""
        wanted = max(self.strategy.ahead, 1 if self.idle else 0)
        while self.more and len(self.ahead) < wanted and self.computed < self.seconds:
            proposed, begin = self.decide(self.strategy.propose, self.now)
            if proposed is None:
                self.more = False
            else:
                self.ahead[proposed[0].name] = (*proposed, begin)

    def _occupy(self) -> bool:
        """Give a trial to an idle worker; whether there was one."""
        chosen = self.strategy.choose()
        if chosen is not None and chosen.name in self.paused:
            self._train(*self.paused.pop(chosen.name), self.now)
        elif self.ahead:
            record, entry, proposed_at = self.ahead.pop(chosen.name if chosen else next(iter(self.ahead)))
            self.epochs[record.name] = 0
            self._train(len(self.epochs), record, entry, max(self.now, proposed_at))
        else:
            return False
        self.idle -= 1
        return True

    def _train(self, order: int, record: Record, entry: int, begin: float) -> None:
        seconds = _trained(self.split, entry).seconds[self.epochs[record.name]]
        heapq.heappush(self.events, (begin + seconds, order, record, entry))

    def _next_report(self) -> None:
        self.now, order, record, entry = heapq.heappop(self.events)
        trained = _trained(self.split, entry)
        epoch = self.epochs[record.name] = self.epochs[record.name] + 1
        finished = epoch == len(trained.scores)
        self.computed += float(trained.seconds[epoch - 1])
        verdict, answered = self.decide(
            lambda: self.strategy.report(record, _report(trained, epoch), finished), self.now
        )
        if verdict == "continue":
            self._train(order, record, entry, answered)
        else:
            self.idle += 1
            self.paused[record.name] = (order, record, entry)
        for name, (_, other, number) in [*self.paused.items()]:
            if other.status in ("COMPLETE", "PRUNED"):
                del self.paused[name]
                spent = float(_trained(self.split, number).seconds[: self.epochs[name]].sum())
                self.ended.append(Ended(number, other, answered, spent, self.computed))


class _Driver:
    """Times decisions, by the CPU time that they take: other work on the machine does not count.

    Args:
        counted: whether that time passes on the simulated clock.

    Attributes:
        spent: seconds of all decisions.
    """

    def __init__(self, counted: bool) -> None:
        self.counted, self.spent, self.free = counted, 0.0, 0.0

    def __call__(self, act: Callable[[], Any], at: float) -> tuple[Any, float]:
        """Decide something at a simulated time; what it is and when it is known."""
        start = time.process_time()
        result = act()
        taken = time.process_time() - start
        self.spent += taken
        if not self.counted:
            return result, at
        self.free = max(self.free, at) + taken
        return result, self.free


def _trained(split: Split, entry: int) -> Trained:
    trained = split.trained[entry]
    assert trained is not None
    return trained


def _report(trained: Trained, epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "score": float(trained.scores[epoch - 1]),
        "date_losses": trained.date_losses[epoch - 1].tolist(),
        "seconds": float(trained.seconds[epoch - 1]),
    }
