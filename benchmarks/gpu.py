"""What only a GPU can show, in under 10 minutes on one: `make gpu`.

Mixed precision against float32, running out of memory, an error that ends only its process, two trials on one GPU,
folds over several GPUs, a fine-tuning epoch and the building of a feature bank against the device's own speed,
compilation, prediction, and the peak memory against what `forage recipes fit` calculates. Networks have random weights,
so that no hub is needed. On a machine without a GPU, stand-ins on the CPU show that the checks run; it says so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks import fine_tuning, prediction
from benchmarks.gpu_child import Training, seconds_of, synchronize
from benchmarks.table import Options, Row, main, photographs
from benchmarks.timing import Pairs, pairs
from pasture.dataset import read_train
from pasture.verification import verify
from trainables.compute.memory import with_smaller_batches
from trainables.compute.precision import autocast, best_device
from trainables.compute.ranks import open_store
from trainables.features.context import TrialContext
from trainables.features.feature_bank import feature_bank
from trainables.images.image_cache import cached_views
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe
from trainables.trial.memory_needs import training_needs

RECIPE = Recipe.parse(
    {
        "view": {"kind": "whole", "size": 224},
        "backbone": {"name": "vit_small_patch16_224", "weights": "none", "tuning": "full"},
        "schedule": {"batch_size": 64},
    }
)
TINY = {"view.size": 32, "backbone.name": "test_vit", "schedule.batch_size": 4}

Check = Callable[[Recipe, torch.device, Options], Iterator[Row]]


def measure(options: Options) -> Iterator[Row]:
    """The rows of all checks; a check that fails gives a row that says so."""
    device = best_device()
    small = options.quick or device.type == "cpu"
    recipe = RECIPE.with_overrides(TINY) if small else RECIPE
    options = Options(options.data, small)
    if device.type == "cpu":
        _note("no CUDA device here: stand-ins on the CPU run at tiny size; their figures mean nothing")
    for check in CHECKS:
        start = time.perf_counter()
        try:
            for row in check(recipe, device, options):
                yield _stand_in(row) if device.type == "cpu" else row
        except Exception as error:  # the other checks are of use without it
            reason = " ".join(str(error).split())[:80]
            yield Row(f"{check.__name__}: failed", f"{type(error).__name__}: {reason}", "0", 0.0, "gpu", at_least=1)
        _note(f"{check.__name__}: {time.perf_counter() - start:.0f} s")


def mixed_precision(recipe: Recipe, device: torch.device, _: Options) -> Iterator[Row]:
    """Predictions in grams and speed of a training step, against float32."""
    full = Training(recipe.with_overrides({"optimizer.precision": "float32"}), device, recipe.schedule.batch_size)
    for dtype in (torch.bfloat16, torch.float16):
        if device.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported():
            _note("bfloat16: skipped, this GPU does not support it")
            continue
        mixed = full.net.eval()
        with torch.inference_mode():
            exact = full.net.grams(full.pictures)
            with torch.autocast(device.type, dtype=dtype):
                rounded = mixed.grams(full.pictures)
        off = float((rounded.float() - exact).abs().max() / exact.abs().max())
        name = str(dtype).removeprefix("torch.")
        yield Row(
            f"predictions in {name}, largest difference as a share of the largest prediction",
            f"{off:.2e}",
            "1 (float32)",
            max(off, 1e-9),
            "gpu",
            at_most=0.02,
        )
    full.net.train()
    auto = Training(recipe.with_overrides({"optimizer.precision": "auto"}), device, recipe.schedule.batch_size)
    told = pairs(lambda: seconds_of(auto, 5), lambda: seconds_of(full, 5), 3)
    yield Row("training step, precision auto", *_speeds(told, 6), told.ratio, "gpu")


def out_of_memory(recipe: Recipe, device: torch.device, _: Options) -> Iterator[Row]:
    """A batch that does not fit is halved until it does."""
    batch = recipe.schedule.batch_size
    training = Training(recipe, device, batch)
    if device.type == "cuda":
        training.step(1)
        needs = training_needs(recipe)
        assert needs is not None
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, 1.3 * needs.bytes(batch // 4) / total), device)

    def attempt(size: int) -> bool:
        if device.type == "cpu" and size > batch // 4:
            raise torch.OutOfMemoryError("a stand-in")
        training.step(size)
        synchronize(device)
        return True

    try:
        size = with_smaller_batches(batch, attempt)[1]
    finally:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    if not all(torch.isfinite(parameter).all() for parameter in training.net.parameters()):
        raise AssertionError("parameters are not finite after running out of memory")
    yield Row(
        "batch after running out of memory",
        f"{size} photographs",
        f"{batch} asked for",
        size / batch,
        "gpu",
        at_most=0.5,
    )


def sticky_error(recipe: Recipe, device: torch.device, _: Options) -> Iterator[Row]:
    """After an illegal access the process ends, recognised; this process's GPU goes on."""
    ended = _child("lose", device).wait(timeout=120)
    Training(recipe, device, 1).step()
    synchronize(device)
    recognised = float(ended == 3)
    yield Row("CUDA error that ends only its process", f"exit {ended}", "exit 3", recognised, "gpu", at_least=1)


def two_trials(recipe: Recipe, device: torch.device, options: Options) -> Iterator[Row]:
    """Two trainings side by side on one device, against one after the other."""
    words = (recipe.to_yaml(), str(recipe.schedule.batch_size), "2" if options.quick else "40")
    alone = _printed(_child("train", device, *words))
    both = [_child("train", device, *words) for _ in range(2)]
    longest = max(_printed(child) for child in both)
    yield Row(
        "two trials on one GPU",
        f"{longest:.2f} s side by side",
        f"{2 * alone:.2f} s in turn",
        2 * alone / longest,
        "gpu",
    )


def several_gpus(_: Recipe, device: torch.device, __: Options) -> Iterator[Row]:
    """Processes on two GPUs add up a tensor (NCCL; gloo in the stand-in)."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        _note("folds over several GPUs (NCCL): skipped, there is one GPU")
        return
    store, port = open_store("127.0.0.1")
    devices = [torch.device("cuda", rank) if device.type == "cuda" else device for rank in range(2)]
    children = [_child("rank", each, str(rank), "2", str(port)) for rank, each in enumerate(devices)]
    sums = [_printed(child) for child in children]
    del store
    yield Row("sum over two processes", f"{sums[0]:g} and {sums[1]:g}", "3 (1 + 2)", min(sums) / 3, "gpu", at_least=1)


def fine_tuned(_: Recipe, __: torch.device, options: Options) -> Iterator[Row]:
    """A fine-tuning epoch against pure forward and backward; see benchmarks/fine_tuning.py."""
    yield from (replace(row, script="gpu") for row in fine_tuning.measure(options))


def compiled(recipe: Recipe, device: torch.device, _: Options) -> Iterator[Row]:
    """A training step with a compiled backbone."""
    if device.type == "cpu":
        _note("compiled backbone: skipped, it needs a GPU to be worth its start")
        return
    plain, other = (Training(recipe, device, recipe.schedule.batch_size) for _ in range(2))
    assert other.net.backbone is not None
    other.net.backbone.compile()
    told = pairs(lambda: seconds_of(other, 10), lambda: seconds_of(plain, 10), 3)
    yield Row("training step, compiled backbone", *_speeds(told, 11), told.ratio, "gpu")


def bank(recipe: Recipe, device: torch.device, options: Options) -> Iterator[Row]:
    """Building a feature bank against the backbone alone on pictures that are on the device."""
    frozen = recipe.with_overrides({"backbone.tuning": "frozen"})
    with photographs(options, 12 if options.quick else 256, width=400, height=200) as data:
        dataset = verify(read_train(data))
        views = torch.from_numpy(np.array(cached_views(dataset, frozen.view))).flatten(0, 1)
        backbone = create_backbone(frozen.backbone, frozen.view.size).to(device).eval()
        resident = views.to(device)
        content = dataset.content
        turn = iter(range(1000))

        def build() -> None:
            fresh = type(dataset)(dataset.root, dataset.images, f"{content}{next(turn)}")
            feature_bank(frozen, TrialContext(fresh, device))

        @torch.inference_mode()
        def alone() -> None:
            for _ in range(8):  # of D4
                for part in torch.split(resident, 256):
                    with autocast(device):
                        backbone(part)
            synchronize(device)

        told = pairs(build, alone, 1 if options.quick else 3)
    count = 8 * len(views)
    yield Row(
        "feature bank, 8 elements of D4",
        f"{count / told.our_seconds:,.0f} views/s",
        f"{count / told.their_seconds:,.0f} views/s (backbone alone)",
        told.ratio,
        "gpu",
        at_least=0.85,
    )


def predicted(_: Recipe, __: torch.device, options: Options) -> Iterator[Row]:
    """Prediction throughput; see benchmarks/prediction.py."""
    yield from (replace(row, script="gpu") for row in prediction.measure(options))


def memory(recipe: Recipe, device: torch.device, _: Options) -> Iterator[Row]:
    """Peak memory of a training step against what `forage recipes fit` calculates."""
    for checkpointing in (False, True):
        asked = recipe.with_overrides({"backbone.gradient_checkpointing": checkpointing})
        needs = training_needs(asked)
        assert needs is not None
        expected = needs.bytes(asked.schedule.batch_size)
        if device.type == "cpu":
            _note("peak memory: calculated only, measuring it needs a GPU")
            yield Row("calculated memory of a batch", f"{expected / 1e6:.1f} MB", "1 MB", expected / 1e6, "gpu")
            return
        training = Training(asked, device, asked.schedule.batch_size)
        training.step()
        torch.cuda.reset_peak_memory_stats(device)
        training.step()
        peak = torch.cuda.max_memory_allocated(device)
        what = f"peak memory, checkpointing {'on' if checkpointing else 'off'}"
        yield Row(
            what,
            f"{peak / 1e9:.2f} GB measured",
            f"{expected / 1e9:.2f} GB calculated",
            peak / expected,
            "gpu",
            at_most=1.1,
        )
        del training
        torch.cuda.empty_cache()


CHECKS: Sequence[Check] = (
    mixed_precision,
    out_of_memory,
    sticky_error,
    two_trials,
    several_gpus,
    memory,
    fine_tuned,
    compiled,
    bank,
    predicted,
)


def _stand_in(row: Row) -> Row:
    """The row as one of the CPU: its speed says nothing about the goal for a GPU."""
    goal = (row.at_least, row.at_most) if row.at_least in (None, 1) else (None, None)
    return Row(f"{row.what} (stand-in)", row.forage, row.against, row.ratio, "gpu", *goal)


def _speeds(told: Pairs[float, float], steps: int) -> tuple[str, str]:
    return f"{steps / told.our_seconds:.2f} steps/s", f"{steps / told.their_seconds:.2f} steps/s"


def _child(work: str, device: torch.device, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_child", work, str(device), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _printed(child: subprocess.Popen[str]) -> float:
    out, _ = child.communicate(timeout=300)
    if child.returncode:
        raise RuntimeError(f"a process of its own ended with exit status {child.returncode}")
    return float(out.split()[-1])


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(measure, __doc__ or "")
