"""Predicting photographs with a blend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import torch

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.prediction.photographs import Chunk, chunks
from ensemble.prediction.run_models import ChunkRun, most_photographs, network_views
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables.compute.precision import all_devices
from trainables.images import d4
from trainables.images.image_cache import Watch, silent
from trainables.recipe.sections import TtaName


def predict(
    blend: Blend,
    dataset: Dataset,
    tta: TtaName | None = None,
    given: Mapping[str, Array] | None = None,
    watch: Watch = silent,
) -> Array:
    """Predict photographs.

    Args:
        blend: a blend folder.
        dataset: photographs, labelled or not.
        tta: test-time augmentation; the blend's own by default.
        given: for each external member, (n, 5) predictions in grams.
        watch: called with the progress.

    Returns:
        (n, 5) in grams, in the order of `dataset.ids`, non-negative and in mass balance.

    Raises:
        InputError: a picture or a weight file cannot be read, an imported bank lacks a photograph, or the predictions
            of an external member are missing.
        JobError: a prediction is not finite, weights do not fit their recipe, or the memory does not suffice for one
            photograph.
    """
    given = given or {}
    without_models = external_members(blend, given)
    shares = np.array([m.shares / m.folds for m in blend.members for _ in range(m.folds)])  # (models, 5)
    result = np.zeros((len(dataset), len(TARGETS)))
    for rows, grams in model_predictions(blend, dataset, tta, watch):
        result[rows] = np.einsum("kt,kect->ct", shares, grams) / grams.shape[1]
    for member in without_models:
        result += member.shares * given[member.key]
    return project(result)


def external_members(blend: Blend, given: Mapping[str, Array]) -> list[BlendMember]:
    """The members without models, after checking that the predictions of all of them are given.

    Raises:
        InputError: naming a member whose predictions are missing, or a name that is not an external member.
    """
    without_models = [member for member in blend.members if member.external]
    if unknown := sorted(set(given) - {member.key for member in without_models}):
        names = ", ".join(member.key for member in without_models) or "none"
        raise InputError(f"--given {unknown[0]}: the external members of {blend.folder} are: {names}")
    for member in without_models:
        if member.key not in given:
            raise InputError(
                f"member {member.key} was imported and has no models; give what it predicts for these photographs with "
                f"--given {member.key}=FILE"
            )
    return without_models


def model_predictions(
    blend: Blend, dataset: Dataset, tta: TtaName | None = None, watch: Watch = silent
) -> Iterator[tuple[slice, Array]]:
    """Predictions of every model of a blend, some photographs at a time.

    Several GPUs share the photographs: each runs the models on a part of its own, in a thread of its own.

    Yields:
        The rows, and (models, elements, rows, 5) in grams, each projected: the models of the first member's folds,
        then those of the second's; the elements of the TTA.
    """
    if all(member.external for member in blend.members):
        return
    elements, devices = d4.tta_elements(tta or blend.tta), all_devices()
    free: SimpleQueue[torch.device] = SimpleQueue()
    for device in devices:
        free.put(device)

    def run(chunk: Chunk) -> Array:
        device = free.get()
        try:
            return ChunkRun(blend, dataset.ids, chunk, elements, device, watch).predictions()
        finally:
            free.put(device)

    most = min(most_photographs(blend), math.ceil(len(dataset) / len(devices)))
    parts = chunks(dataset, network_views(blend), most)
    with ThreadPoolExecutor(max_workers=len(devices)) as threads:
        while some := list(itertools.islice(parts, len(devices))):  # one chunk for each device
            for chunk, result in [(chunk, threads.submit(run, chunk)) for chunk in some]:
                yield chunk.rows, result.result()
                watch("predicting", chunk.rows.stop, len(dataset))
