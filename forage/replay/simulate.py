"""A sweep on a simulated clock: what decides is real, trials are replayed from a table."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from forage.replay.table import Split, Trained
from tune.records.ledger import Record


@dataclass(frozen=True)
class Ended:
    """A trial of a simulated sweep.

    Attributes:
        entry: number of its recipe in the table.
        record: as a real sweep would have written it.
        time: simulated seconds from the start of the sweep to its end.
        seconds: computed by it.
    """

    entry: int
    record: Record
    time: float
    seconds: float


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


class Strategy(Protocol):
    """What decides in a sweep: proposes trials and says whether they continue."""

    def propose(self) -> tuple[Record, int] | None:
        """A new trial and the number of its recipe in the table; None when there are no more."""

    def report(self, record: Record, report: dict[str, Any], finished: bool) -> bool:
        """Take a report; whether the trial is over. Sets the status of its record then."""


def simulate(
    strategy: Strategy, split: Split, workers: int = 1, *, seconds: float = math.inf, driver: bool = False
) -> Simulated:
    """Run a sweep.

    Args:
        strategy: decides.
        split: what recipes do.
        workers: number of trials at a time.
        seconds: no trial is proposed once trials have computed for so long, all together.
        driver: whether the time that decisions take counts on the simulated clock: one driver decides for all workers,
            one decision after another.
    """
    events: list[tuple[float, int, Record, int]] = []
    ended: list[Ended] = []
    ahead: list[tuple[Record, int, float]] = []
    epochs: dict[str, int] = {}
    now = computed = 0.0
    idle, count, more = workers, 0, True
    decide = _Driver(driver)

    def top_up() -> None:
        """Propose one trial ahead, as Ray Tune does: it waits for a worker while the others run."""
        nonlocal more
        while more and not ahead and computed < seconds:
            proposed, begin = decide(strategy.propose, now)
            if proposed is None:
                more = False
            else:
                ahead.append((*proposed, begin))

    while True:
        top_up()
        while idle and ahead and computed < seconds:
            record, entry, proposed_at = ahead.pop()
            idle, count, epochs[record.name] = idle - 1, count + 1, 0
            begin = max(now, proposed_at)
            heapq.heappush(events, (begin + _trained(split, entry).seconds[0], count, record, entry))
            top_up()
        if not events:
            return Simulated(ended, max((trial.time for trial in ended), default=0.0), decide.spent)
        now, order, record, entry = heapq.heappop(events)
        trained = _trained(split, entry)
        epoch = epochs[record.name] = epochs[record.name] + 1
        finished = epoch == len(trained.scores)
        computed += float(trained.seconds[epoch - 1])
        over, answered = decide(lambda: strategy.report(record, _report(trained, epoch), finished), now)  # noqa: B023
        if over:
            idle += 1
            ended.append(Ended(entry, record, answered, float(trained.seconds[:epoch].sum())))
        else:
            heapq.heappush(events, (answered + trained.seconds[epoch], order, record, entry))


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
