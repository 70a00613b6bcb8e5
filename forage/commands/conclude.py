"""How a session of a sweep ended, for the terminal."""

from __future__ import annotations

from collections.abc import Callable

import typer

from forage.python_api.run import Interrupted, Run
from forage.results.summary import summarise, summary_line
from forage.terminal.messages import INTERRUPTED, print_json, say, show
from tune.records.ledger import Ledger


def conclude(sweep: Callable[[], Run], as_json: bool) -> None:
    """Run a session of a sweep, print how it ended, write the run's report and exit with the status of the outcome."""
    from forage.pages.report import attempt

    try:
        run, interrupted = sweep(), False
    except Interrupted as stop:
        run, interrupted = stop.run, True
    plan, ledger = run.plan, Ledger(run.folder)
    summary = summarise(ledger, plan.trials)
    if as_json:
        print_json({**summary, "run": run.path})
    else:
        show(summary_line(run.path, summary))
    attempt(run.write_report, say)
    resume = f"resume with: forage resume {run.path}"
    if interrupted:
        say(f"stopped; {resume}")
        raise typer.Exit(INTERRUPTED)
    if run.stopped_by == "hours":
        say(f"stopped after {plan.hours:g} h (--hours); {resume}")
    if run.stopped_by == "score":
        say(f"stopped at a score of {plan.until_score:g} (--until-score); {resume} --until-score ...")
    if summary["complete"] == summary["waiting"] == 0 and summary["failed"]:
        first = ledger.with_status("FAILED")[0]
        say(f"forage: no trial was complete; the first error: {first.error}")
        say(f"see: forage status {run.path} --trial {first.name}")
        raise typer.Exit(1)
