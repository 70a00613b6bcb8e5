"""Resources that each trial requests from Ray, and a check that the cluster can provide them."""

from __future__ import annotations

from collections.abc import Mapping

import ray

from pasture.errors import InputError
from search_spaces.conditions import Conditions, hold
from search_spaces.resources import Request
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from trainables.trial.fold_executor import check_splittable
from tune.cluster.parallel_folds import bundles
from tune.records.plan import Limits


def trial_resources(cpus: float, gpus: float | None) -> dict[str, float]:
    """The resources that a trial asks Ray for; with `gpus` None, one GPU if the cluster has any.

    Several GPUs are requested one by one, each with its share of the CPUs, so that they may be on several nodes.

    Raises:
        InputError: the cluster can never hold the trial, naming the resource and what there is.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = float(any(node.get("GPU", 0) >= 1 for node in nodes))
    if gpus > 1 and gpus % 1:
        raise InputError(f"--gpus-per-trial {gpus:g}: expected a fraction of one GPU or a whole number")
    asked = {name: amount for name, amount in (("CPU", float(cpus)), ("GPU", float(gpus))) if amount}
    if not asked:
        raise InputError("--cpus-per-trial 0: a trial without CPU and GPU cannot run; give it a part of a CPU")
    parts = bundles(asked)
    if sum(_room(node, parts[0]) for node in nodes) < len(parts):
        missing = [n for n, amount in parts[0].items() if sum(_room(node, {n: amount}) for node in nodes) < len(parts)]
        if len(parts) == 1:
            holder, pieces, neither = "no node can", "", "no node has both"
        else:
            holder, neither = "the cluster can never", "too few nodes have both"
            pieces = f", in {len(parts)} workers of {parts[0].get('CPU', 0):g} CPU and 1 GPU"
        lack = f"there is too little {' and '.join(missing)}" if missing else neither
        has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        raise InputError(
            f"{holder} hold a trial of {cpus:g} CPU and {gpus:g} GPU{pieces}: {lack}; the cluster's nodes have {has}; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
    return asked


def _room(node: Mapping[str, float], part: Mapping[str, float]) -> int:
    """How many such bundles a node can hold."""
    return min(int(node.get(name, 0) / amount + 1e-9) for name, amount in part.items())


class Placement:
    """The resources that each trial of a sweep asks Ray for.

    Args:
        space: its first resource rule that matches a recipe counts.
        limits: used where a rule says nothing.

    Raises:
        InputError: the cluster can never hold the trials of some rule, or they have fewer folds than GPUs.
    """

    def __init__(self, space: Space, limits: Limits) -> None:
        self.requests: list[tuple[Conditions, Request]] = []
        for rule in space.rules:
            cpus = limits.cpus_per_trial if rule.cpus is None else rule.cpus
            gpus = limits.gpus_per_trial if rule.gpus is None else rule.gpus
            together = rule.gpus_per_fold or limits.gpus_per_fold
            if gpus is None and together > 1:
                gpus = together
            if gpus is not None and together > 1 and (not gpus or gpus % together):
                raise InputError(
                    f"a trial of {gpus:g} GPUs with {together} a fold: some would be idle; let --gpus-per-trial be a "
                    "multiple of --gpus-per-fold"
                )
            self.requests.append((rule.when, Request(trial_resources(cpus, gpus), together)))
            if not rule.when:
                break
        for recipe in space.variants("validation"):
            self._check_folds(recipe)

    @property
    def resources(self) -> list[dict[str, float]]:
        """The resources of a trial under each rule that may apply."""
        return [request.resources for _, request in self.requests]

    def request(self, recipe: Recipe) -> Request:
        """The resources of a trial with this recipe."""
        flat = recipe.flat()
        return next(request for when, request in self.requests if hold(when, flat))

    def _check_folds(self, recipe: Recipe) -> None:
        """Refuse recipes that would leave GPUs idle under any rule that may apply to them."""
        flat = recipe.flat()
        for when, request in self.requests:
            known = {field: values for field, values in when.items() if field.startswith("validation.")}
            if not hold(known, flat):
                continue
            gpus = request.resources.get("GPU", 0)
            if gpus > recipe.folds * request.gpus_per_fold:
                raise InputError(
                    f"a trial of {gpus:g} GPUs with {recipe.folds} folds (validation.splitter="
                    f"{recipe.validation.splitter}): each fold takes {request.gpus_per_fold}, the others would be "
                    "idle; lower --gpus-per-trial or raise --gpus-per-fold, or the rule's in the space's `resources`"
                )
            if request.gpus_per_fold > 1:
                check_splittable(recipe)
            if len(known) == len(when):
                break
