"""Ray Tune's own TuneBOHB on a search space of forage; needs the packages of the extra `bohb`."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from typing import Any, Final

import numpy as np
from ray.tune.search.bohb import TuneBOHB

from benchmarks.ray_hyperband import Searcher
from search_spaces.drawing import Labels
from search_spaces.parameter import Label, Parameter
from search_spaces.space import Space

PACKAGES: Final = ("ConfigSpace", "hpbandster")
logging.getLogger("hpbandster").setLevel(logging.ERROR)  # a model that cannot be drawn from is a long warning


def missing_packages() -> list[str]:
    """Those of BOHB's packages that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


class BohbSearcher(Searcher):
    """`TuneBOHB(space, seed=seed)`, with Ray's defaults.

    A choice is a categorical parameter of the numbers of its options. A field with a condition is conditional on the
    last field before it that sets the one its condition names; other conditions, which the base recipe decides, are
    not passed on. Numbers are read from the draw as the space reads them.

    Args:
        space: to draw from.
        seed: of the draws. HpBandSter draws from numpy's global generator, which is seeded as well.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.parameters = {p.field: p for p in space.parameters if p.kind != "constant" and len(p.labels()) > 1}
        self.bohb = TuneBOHB(configuration_space(list(self.parameters.values()), seed), metric="score", mode="max")
        np.random.seed(seed)

    def draw(self, trial: str) -> Labels:
        """See `Searcher`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # statsmodels divides by the number of other options seen, which may be 0
            drawn = self.bohb.suggest(trial)
        return {field: _label(self.parameters[field], value) for field, value in drawn.items()}

    def replace(self, trial: str, labels: Labels) -> None:
        """See `Searcher`."""
        values = {field: _value(p, labels[field]) for field, p in self.parameters.items() if field in labels}
        self.bohb.trial_to_params[trial] = values

    def on_trial_result(self, trial: str, result: dict[str, Any]) -> None:
        """See `Searcher`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.bohb.on_trial_result(trial, result)

    def on_trial_complete(self, trial: str) -> None:
        """See `Searcher`."""
        self.bohb.on_trial_complete(trial)

    def on_pause(self, trial: str) -> None:
        """See `Searcher`."""
        self.bohb.on_pause(trial)

    def on_unpause(self, trial: str) -> None:
        """See `Searcher`."""
        self.bohb.on_unpause(trial)


def configuration_space(parameters: list[Parameter], seed: int) -> Any:
    """The ConfigSpace of some parameters, conditions included."""
    import ConfigSpace as Cs

    space = Cs.ConfigurationSpace(seed=seed)
    for i, parameter in enumerate(parameters):
        name = parameter.field
        if parameter.kind == "choice":
            space.add(Cs.CategoricalHyperparameter(name, list(range(len(parameter.options)))))
        elif parameter.kind == "integer":
            space.add(Cs.UniformIntegerHyperparameter(name, parameter.low, parameter.high))
        else:
            log = parameter.kind == "log_uniform"
            space.add(Cs.UniformFloatHyperparameter(name, parameter.low, parameter.high, log=log))
        conditions = []
        for field, allowed in parameter.when.items():
            setters = [p for p in parameters[:i] if field in p.fields() and p.kind == "choice"]
            if setters:
                options = [
                    n for n, label in enumerate(setters[-1].options) if setters[-1].effect(label).get(field) in allowed
                ]
                conditions.append(Cs.InCondition(space[name], space[setters[-1].field], options))
        if conditions:
            space.add(conditions[0] if len(conditions) == 1 else Cs.AndConjunction(*conditions))
    return space


def _label(parameter: Parameter, value: Any) -> Label:
    if parameter.kind == "choice":
        labels: list[Label] = list(parameter.options)
        return labels[int(value)]
    return int(value) if parameter.kind == "integer" else float(value)


def _value(parameter: Parameter, label: Label) -> Any:
    return list(parameter.options).index(label) if parameter.kind == "choice" else label
