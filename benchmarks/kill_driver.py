"""kill -9 of the driver, and of all of Ray with it, at random moments of one sweep; then the same sweep undisturbed.

    python -m benchmarks.kill_driver --kills 20 --trials 40

Trials run one at a time, so that both sweeps have the same proposals, and all that must not depend on the kills can be
compared: recipes, outcomes, curves and OOF, bit for bit. Exit status 1 where anything differs, an ended trial has run
again, or a trial was trained again for longer than one epoch beyond the price of a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from programs.program import Program
from tune.cluster.ray_trial import CHECKPOINT_SECONDS

SPACE: dict[str, Any] = {
    "base": {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "test_resnet", "weights": "none", "tuning": "full"},
        "head": {"hidden": [16]},
        "augment": {"strength": "light"},
        "validation": {"folds": 3},
        "schedule": {"epochs": 18, "batch_size": 8},
    },
    "search": {
        "optimizer.head_lr": {"log_uniform": [1e-4, 1e-2]},
        "head.dropout": {"uniform": [0.1, 0.5]},
        "target.transform": {"choice": ["none", "log1p"]},
    },
}
ENDED = ("COMPLETE", "PRUNED", "FAILED")
TIMED = ("seconds", "images_per_second")


def driver(words: list[str]) -> Program:
    """A `forage` that says nothing."""
    program = [sys.executable, "-c", "from forage.cli import main; main()", *words]
    return Program(program, {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ledger(run: Path) -> dict[str, dict[str, Any]]:
    """Records of a run as they lie on disk."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((run / "trials").glob("t*.json"))}


def ended(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of trials that are over."""
    return {name: record for name, record in records.items() if record["status"] in ENDED}


def epochs(run: Path) -> int:
    """All that the driver has heard of."""
    return sum(len(record["curve"]) for record in ledger(run).values())


def facts(run: Path) -> dict[str, Any]:
    """All that must not depend on the kills."""
    return {
        name: (
            [record[key] for key in ("number", "params", "recipe", "status", "error")],
            [{k: v for k, v in report.items() if k not in TIMED} for report in record["curve"]],
        )
        for name, record in ledger(run).items()
    }


def oof(run: Path) -> dict[str, bytes]:
    """Predictions of the complete trials."""
    folder = RunFolder(run)
    return {name: folder.read_oof(Path(name).stem).predictions.tobytes() for name in folder.oof.names()}


def doom(victim: Program, run: Path, seconds: float, under_way: bool) -> bool:
    """Kill a driver after some seconds, counted from the first epoch of its session if it is to be under way.

    Returns:
        Whether it was still alive.
    """
    before = epochs(run)
    while under_way and victim.popen.poll() is None and epochs(run) <= before:
        time.sleep(0.05)
    try:
        victim.popen.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        victim.kill()
        return True
    return False


def disturbed(start: list[str], run: Path, kills: int, seed: int) -> tuple[int, int, float]:
    """Run a sweep to its end with kills on the way.

    Returns:
        Kills that met the driver alive, ended trials that changed afterwards, and the most seconds of training that
        one kill made a trial do again.
    """
    moments = random.Random(seed)
    done, changed, again = 0, 0, 0.0
    words, before = start, dict[str, dict[str, Any]]()
    while True:
        session = driver(words)
        if done < kills:
            under_way = moments.random() < 0.75  # a quarter of the kills may come before any trial has begun
            if doom(session, run, moments.uniform(0, 6), under_way):
                done += 1
                print(f"kill {done}: {len(ended(ledger(run)))} trials have ended", flush=True)
        status = session.popen.wait()
        if status > 0:
            sys.exit(f"the sweep failed with status {status}")
        after = ledger(run)
        changed += sum(after.get(name) != record for name, record in ended(before).items())
        for name in set(before) - set(ended(before)):
            pairs = zip(before[name]["curve"], after[name]["curve"], strict=False)
            again = max(again, sum(old["seconds"] for old, new in pairs if old != new))
        before = after
        if status == 0:
            return done, changed, again
        words = ["resume", str(run)] if (run / "sweep.yaml").exists() else start


def main() -> None:
    """Print what the kills have changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fk-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        os.environ |= {"FORAGE_CACHE": f"{folder}/cache", "TMPDIR": scratch, "RAY_TMPDIR": scratch}
        make_data(folder / "data", images=24, width=200, height=100)
        (folder / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
        options = ["--space", f"{folder}/space.yaml", "--trials", str(args.trials)]
        serial = ["--cpus-per-trial", str(os.cpu_count()), "--runs", scratch]
        start = ["sweep", f"{folder}/data", *options, *serial, "--name"]
        done, changed, again = disturbed([*start, "killed"], folder / "killed", args.kills, args.seed)
        disturbed([*start, "calm"], folder / "calm", 0, args.seed)
        mine, theirs = facts(folder / "killed"), facts(folder / "calm")
        longest = max(report["seconds"] for r in ledger(folder / "killed").values() for report in r["curve"])
        same = mine == theirs and oof(folder / "killed") == oof(folder / "calm")
    print(f"{done} kills; {len(mine)} trials, {sum(t[0][3] in ENDED for t in mine.values())} of them ended")
    print(f"ended trials that ran again: {changed}")
    print(f"most training that one kill made a trial do again: {again:.2f} s; the longest epoch took {longest:.2f} s")
    print(f"proposals, outcomes, curves and OOF equal to those of an undisturbed sweep, bit for bit: {same}")
    sys.exit(not same or changed > 0 or done < args.kills or again > CHECKPOINT_SECONDS + longest)


if __name__ == "__main__":
    main()
