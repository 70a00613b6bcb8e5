"""Greedy selection of 100 steps among 200 and 2,000 members, against AutoGluon's and a vectorised numpy loop.

All three get the same members of 357 images x 5 targets. numpy's picks must be ours, one by one, and AutoGluon's blend
must not score above ours. AutoGluon minimises the root mean squared error of residuals scaled by the root of their
target's weight: the competition's R2, step by step. It runs in .venv-autogluon (`make bench` makes it); without that
folder its rows are left out.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Options, Row, main
from benchmarks.timing import Pairs, pairs
from ensemble.weighting.greedy import Gram, Selection, greedy
from ensemble.weighting.options import Options as SelectionOptions
from pasture.metric import weighted_r2
from pasture.targets import TARGETS, WEIGHTS, Array, from_components

IMAGES, STEPS = 357, 100
AUTOGLUON = Path(__file__).parents[1] / ".venv-autogluon" / "bin" / "python"


def measure(options: Options) -> Iterator[Row]:
    """Two rows a size."""
    repeats = 1 if options.quick else 5
    for members in (5, 20) if options.quick else (200, 2000):
        truth, predictions = make_members(members)
        backbones = [f"b{i % 10}" for i in range(members)]

        def ours(truth: Array = truth, predictions: Array = predictions, backbones: list[str] = backbones) -> Selection:
            return greedy(Gram(truth, predictions), backbones, SelectionOptions(steps=STEPS))

        def loop(truth: Array = truth, predictions: Array = predictions) -> list[int]:
            return numpy_loop(truth, predictions, STEPS)

        what = f"selection, {members:,} members x {IMAGES * len(TARGETS):,} rows, {STEPS} steps"
        against = pairs(ours, loop, repeats)
        if list(against.our_result.path) != against.their_result:
            raise AssertionError(f"{what}: our picks are not those of the numpy loop")
        yield _row(what, "numpy loop, same picks", against, 50)
        if AUTOGLUON.exists():
            with autogluon(truth, predictions) as select:
                told = pairs(ours, select, repeats)
            score = blend_score(truth, predictions, told.our_result.weights)
            other = blend_score(truth, predictions, told.their_result)
            if score < other - 1e-12:
                raise AssertionError(f"{what}: our score {score} is below AutoGluon's {other}")
            yield _row(what, f"AutoGluon, R2 {other:.6f}, ours {score:.6f}", told, 50)


def _row(what: str, against: str, told: Pairs[Any, Any], goal: float) -> Row:
    return Row(
        what,
        f"{told.our_seconds * 1e3:.1f} ms",
        f"{told.their_seconds * 1e3:,.0f} ms ({against})",
        told.ratio,
        "selection",
        at_least=goal,
    )


def make_members(members: int) -> tuple[Array, Array]:
    """(357, 5) truth and (members, 357, 5) predictions in grams: of ten families with errors of their own in common."""
    rng = np.random.default_rng(0)
    truth = from_components(rng.gamma(2.0, 10.0, (IMAGES, 3)))
    shape = (IMAGES, len(TARGETS))
    common, families = rng.normal(0, 6, shape), rng.normal(0, 5, (10, *shape))
    skill = rng.uniform(0.7, 1.5, members)[:, None, None]
    own = rng.normal(0, 4, (members, *shape))
    return truth, truth + skill * (common + families[rng.integers(10, size=members)] + own)


def numpy_loop(truth: Array, predictions: Array, steps: int) -> list[int]:
    """The picks of greedy selection over whole predictions, every member tried at once in every step."""
    scale = np.sqrt(WEIGHTS)
    labels, members = (truth * scale).ravel(), (predictions * scale).reshape(len(predictions), -1)
    total = np.zeros_like(labels)
    trial = np.empty_like(members)
    picks: list[int] = []
    for size in range(1, steps + 1):
        np.add(members, total, out=trial)
        trial /= size
        trial -= labels
        picks.append(int(np.argmin(np.einsum("mr,mr->m", trial, trial))))
        total += members[picks[-1]]
    return picks


def blend_score(truth: Array, predictions: Array, weights: Array) -> float:
    """R2 of the blend."""
    return weighted_r2(truth, np.tensordot(weights, predictions, axes=1))


@contextmanager
def autogluon(truth: Array, predictions: Array) -> Iterator[Callable[[], Array]]:
    """A function that lets AutoGluon select once, in a process that has read the members already."""
    scale = np.sqrt(WEIGHTS)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "members.npz")
        np.savez(file, predictions=(predictions * scale).reshape(len(predictions), -1), labels=(truth * scale).ravel())
        worker = [str(AUTOGLUON), str(Path(__file__).with_name("autogluon_worker.py")), str(file), str(STEPS)]
        with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            stdin, stdout = process.stdin, process.stdout

            def select() -> Array:
                print(file=stdin, flush=True)
                return np.array(json.loads(stdout.readline()))

            stdout.readline()
            yield select
            stdin.close()


if __name__ == "__main__":
    main(measure, __doc__ or "")
