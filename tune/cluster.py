"""Connecting to Ray, and whether it has what a trial asks for."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from typing import NamedTuple

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pasture.errors import InputError, JobError
from search_spaces.conditions import Conditions, hold
from search_spaces.space import Space
from trainables.crew import check_splittable
from trainables.fold_workers import bundles
from trainables.recipe import Recipe
from trainables.versions import check_machine
from tune.plan import Limits
from tune.shipping import shipped

# Ray's own progress, loggers, signal handler, metric checks and snapshots are not wanted: the ledger is what a run is
# watched by and resumed from.
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

_ANSWER_SECONDS = 120


@contextmanager
def connect(address: str, ship_code: bool = False) -> Iterator[None]:
    """A session with Ray, on this machine (`local`), the running cluster (`auto`) or one by address.

    Args:
        address: of Ray.
        ship_code: send forage's own code to the nodes of a cluster.

    Raises:
        InputError: there is no cluster at that address, it is Ray Client's, or a node has another forage, or none.
        JobError: Ray does not start here.
    """
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's end is told by its record, in one line
    if ship_code and address == "local":
        raise InputError("--ship-code is for the nodes of a cluster: give its --address, too")
    if address.startswith("ray://"):
        # It would run Tune, and with it the ledger, on the head; and this machine, which has the data, the lock and the
        # signals, would be no node of the cluster.
        raise InputError(
            f"--address {address}: forage does not run through Ray Client; run it on a node of the cluster with "
            "--address HOST:PORT, or as a job with `ray job submit` (deploy/submit.sh)"
        )
    _check_answers(address)
    try:
        # address="local" starts a Ray of our own even where the address file of a dead one still lies about.
        dashboard = False if address == "local" else None
        with shipped() if ship_code else nullcontext() as environment:
            ray.init(
                address=address,
                include_dashboard=dashboard,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if address == "local":
            raise JobError(f"Ray does not start on this machine: {reason}") from None
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({reason}); if it is up, it may ask for a token: set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from None
    try:
        if address != "local":
            _check_nodes()
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Knock at HOST:PORT: Ray itself would try for a quarter of an hour before it says that nobody is there."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers there ({error})") from None


def _check_nodes() -> None:
    """Ask all nodes for their version of forage.

    Raises:
        InputError: a node has none, or another one than this machine, or lacks a library; each is named.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(check_machine)
    answers = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=there).remote(version("forage"))
            answers[node["NodeID"]] = answer
    refusals = {node: reason for node, answer in answers.items() if (reason := _refusal(answer))}
    # Asked anew: a node that has died is known to only after a while, and what it did not answer is no matter.
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if told := [f"node {nodes[node]} {reason}" for node, reason in refusals.items() if node in nodes]:
        raise InputError("; ".join(told))


def _refusal(answer: ray.ObjectRef) -> str:
    """Why a node cannot work for this sweep; empty where it can."""
    try:
        ray.get(answer, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if "No module named 'trainables'" in str(cause):
            return f"has no forage: install {version('forage')} there, or send it along with --ship-code"
        return f"cannot work for this sweep: {str(cause).strip().splitlines()[-1]}"
    return ""


def trial_resources(cpus: float, gpus: float | None) -> dict[str, float]:
    """What a trial asks Ray for; without `gpus`, one GPU where the cluster has any.

    Several GPUs are asked for one by one, each with its share of the CPUs: they may be those of several nodes.

    Raises:
        InputError: the cluster can never hold the trial, naming the resource and what there is.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = float(any(node.get("GPU", 0) >= 1 for node in nodes))
    if gpus > 1 and gpus % 1:
        raise InputError(f"a trial of {gpus:g} GPUs: a part of a GPU, or whole ones; mend --gpus-per-trial")
    asked = {name: amount for name, amount in (("CPU", float(cpus)), ("GPU", float(gpus))) if amount}
    if not asked:
        raise InputError("a trial of 0 CPU and 0 GPU has nothing to run on; raise --cpus-per-trial")
    parts = bundles(asked)
    if sum(_room(node, parts[0]) for node in nodes) < len(parts):
        missing = [n for n, amount in parts[0].items() if sum(_room(node, {n: amount}) for node in nodes) < len(parts)]
        if len(parts) == 1:
            who, pieces, neither = "no node can", "", "no node has both"
        else:
            who, neither = "the cluster can never", "too few nodes have both"
            pieces = f", in {len(parts)} workers of {parts[0].get('CPU', 0):g} CPU and 1 GPU"
        lack = f"there is too little {' and '.join(missing)}" if missing else neither
        has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        raise InputError(
            f"{who} hold a trial of {cpus:g} CPU and {gpus:g} GPU{pieces}: {lack}; the cluster's nodes have {has}; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
    return asked


def _room(node: Mapping[str, float], part: Mapping[str, float]) -> int:
    """How many such bundles a node can hold."""
    return min(int(node.get(name, 0) / amount + 1e-9) for name, amount in part.items())


class Request(NamedTuple):
    """What a trial asks for.

    Attributes:
        resources: of Ray, all in all.
        gpus_per_fold: how many of its GPUs train one fold together.
    """

    resources: dict[str, float]
    gpus_per_fold: int = 1


class Placement:
    """What each trial of a sweep asks Ray for.

    Args:
        space: with its rules, the first that fits first.
        limits: what counts where a rule does not say.

    Raises:
        InputError: the cluster can never hold the trials of some rule, or they have less folds than GPUs.
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

    def request(self, recipe: Recipe) -> Request:
        """What the trials of a recipe ask for."""
        flat = recipe.flat()
        return next(request for when, request in self.requests if hold(when, flat))

    def _check_folds(self, recipe: Recipe) -> None:
        """Whether no GPU would be idle under any rule that trials with these folds may come under."""
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
