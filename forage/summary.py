"""The state of a run in numbers and words, and how a session of a sweep ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from forage.messages import print_json, say, show
from tune.records.ledger import Ledger
from tune.records.plan import Plan

if TYPE_CHECKING:
    from tune.session import Outcome

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def conclude(outcome: Outcome, as_json: bool) -> None:
    """Print how a session of a sweep ended, write the run's report and exit with the status of the outcome."""
    from forage.pages.report import attempt, write_run_report

    plan = Plan.read(outcome.run)
    summary = summarise(outcome.ledger, plan.trials)
    if as_json:
        print_json({**summary, "run": str(outcome.run)})
    else:
        show(summary_line(str(outcome.run), summary))
    attempt(lambda: write_run_report(outcome.run), say)
    resume = f"resume with: forage resume {outcome.run}"
    if outcome.stopped_by == "signal":
        say(f"stopped; {resume}")
        raise typer.Exit(INTERRUPTED)
    if outcome.stopped_by == "hours":
        say(f"stopped after {plan.hours:g} h (--hours); {resume}")
    if outcome.stopped_by == "score":
        say(f"stopped at a score of {plan.until_score:g} (--until-score); {resume} --until-score ...")
    if summary["complete"] == summary["waiting"] == 0 and summary["failed"]:
        first = outcome.ledger.with_status("FAILED")[0]
        say(f"forage: no trial was complete; the first error: {first.error}")
        say(f"see: forage status {outcome.run} --trial {first.name}")
        raise typer.Exit(1)


def summarise(ledger: Ledger, trials: int) -> dict[str, Any]:
    """The numbers that `forage status --json` prints."""
    best = ledger.best()
    return {
        "trials": trials,
        "complete": len(ledger.with_status("COMPLETE")),
        "pruned": len(ledger.with_status("PRUNED")),
        "failed": len(ledger.with_status("FAILED")),
        "running": len(ledger.with_status("RUNNING")),
        "waiting": len(ledger.with_status("WAITING")),
        "best_score": best.score if best else None,
        "best_trial": best.name if best else None,
    }


def summary_line(run: str, summary: dict[str, Any]) -> str:
    """The same numbers as a sentence."""
    known = summary["best_trial"] is not None
    best = f"best {summary['best_score']:.4f} by {summary['best_trial']}" if known else "no complete trial yet"
    waiting = f", {summary['waiting']} waiting after the first stage" if summary["waiting"] else ""
    return (
        f"{run}: {summary['trials']} trials, {summary['complete']} complete, {summary['pruned']} pruned, "
        f"{summary['failed']} failed, {summary['running']} running or unfinished{waiting}; {best}"
    )
