"""The state of a run in numbers and words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tune.records.ledger import Ledger

if TYPE_CHECKING:
    from pasture.run_folder import RunFolder


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


def effort(run: RunFolder, ledger: Ledger) -> dict[str, Any]:
    """Seconds for which trials have computed, and bytes on the disk."""
    sizes = run.folder.sizes()
    return {
        "seconds": sum(report["seconds"] for record in ledger.records.values() for report in record.curve),
        "bytes": sum(sizes.values()),
        "weights_bytes": sum(size for path, size in sizes.items() if path.startswith("weights/")),
    }


def imported(run: RunFolder) -> dict[str, Any]:
    """The numbers that `forage status --json` prints of imported members."""
    from ensemble.members.external import external_members

    members = [member.metadata for member in external_members(run)]
    best = max(members, key=lambda member: member["score"])
    return {"imported": len(members), "best_score": best["score"], "best_trial": best["trial"]}


def summary_line(run: str, summary: dict[str, Any]) -> str:
    """The same numbers as a sentence."""
    known = summary["best_trial"] is not None
    best = f"best {summary['best_score']:.4f} by {summary['best_trial']}" if known else "no complete trial yet"
    waiting = f", {summary['waiting']} waiting after the first stage" if summary["waiting"] else ""
    return (
        f"{run}: {summary['trials']} trials, {summary['complete']} complete, {summary['pruned']} pruned, "
        f"{summary['failed']} failed, {summary['running']} running or unfinished{waiting}; {best}"
    )
