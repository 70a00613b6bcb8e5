from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pasture.errors import InputError
from search_spaces.parameter import Label
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe

SEARCH: dict[str, Any] = {
    "head.dropout": {"uniform": [0.1, 0.5]},
    "optimizer.head_lr": {"log_uniform": [3e-4, 1e-2]},
    "schedule.batch_size": {"integer": [8, 32]},
    "head.hidden": {"choice": [[256], [512, 256]]},
    "backbone": {
        "choice": {"a": {"name": "resnet18", "weights": "none"}, "b": {"name": "resnet34", "weights": "none"}}
    },
    "loss.lds.enabled": {"choice": [True, False]},
    "loss.lds.sigma": {"choice": [1.0, 2.0], "when": {"loss.lds.enabled": True}},
    "loss.beta": {
        "uniform": [0.5, 2.0],
        "when": {"backbone.name": ["resnet34", "resnet50"], "loss.lds.enabled": False},
    },
    "optimizer.weight_decay": {"constant": 0.5},
}


class Script:
    """A trial that takes what it is told, by field."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.asked: dict[str, tuple[Any, ...]] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Label:
        self.asked[name] = tuple(choices)
        return self.told.get(name, choices[0])

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked[name] = (low, high, log)
        return self.told.get(name, low)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.asked[name] = (low, high)
        return self.told.get(name, low)


def parse(search: dict[str, Any], **base: Any) -> Space:
    return Space.parse({"base": base, "search": search}, "space s")


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"head.droput": {"uniform": [0, 0.5]}}, r"search\.head\.droput: unknown .*did you mean head\.dropout"),
        ({"nothing": {"constant": 1}}, "unknown recipe field 'nothing'"),
        ({"head.dropout": {"uniform": [0.1, 1.5]}}, r"search\.head\.dropout: head\.dropout=1\.5: .*less than 1"),
        ({"head.dropout": {"uniform": [-0.1, 0.5]}}, r"head\.dropout=-0\.1: .*greater than or equal to 0"),
        ({"view.size": {"integer": [16, 64]}}, r"view\.size=16"),
        (
            {"loss.kind": {"choice": ["mse", "mae"]}},
            r"loss\.kind='mae': .*'smooth_l1', 'huber', 'mse', 'gaussian_nll' or 'r2'",
        ),
        ({"head.dropout": {"constant": 2}}, r"head\.dropout=2"),
        ({"head.dropout": {"uniform": [0.5, 0.1]}}, r"the low end 0\.5 is above the high end 0\.1"),
        ({"schedule.batch_size": {"integer": [32, 8]}}, "the low end 32.* is above the high end 8"),
        ({"optimizer.head_lr": {"log_uniform": [0, 0.1]}}, r"the low end 0\.0 must be above 0"),
        ({"optimizer.head_lr": {"log_uniform": [-1, 0.1]}}, r"the low end -1\.0 must be above 0"),
        ({"schedule.batch_size": {"uniform": [8, 32]}}, "a whole number; use `integer`"),
        ({"schedule.batch_size": {"log_uniform": [8, 32]}}, "a whole number; use `integer`"),
        ({"head.dropout": {"uniform": [0.1]}}, r"expected \[low, high\], got \[0\.1\]"),
        ({"head.dropout": {"uniform": 0.1}}, r"expected \[low, high\], got 0\.1"),
        ({"head.dropout": {"uniform": ["a", "b"]}}, r"expected \[low, high\]"),
        ({"head.dropout": {"uniform": [0.1, float("nan")]}}, r"head\.dropout=nan"),
        ({"schedule.batch_size": {"integer": [8.5, 32]}}, "whole"),
        ({"head.dropout": {"uniform": [0, 0.5], "choice": [0.1]}}, "expected one of choice, uniform"),
        ({"head.dropout": {"normal": [0, 0.5]}}, "expected one of choice, uniform"),
        ({"head.dropout": {"uniform": [0, 0.5], "step": 0.1}}, "expected one of choice, uniform"),
        ({"head.dropout": {"when": {"loss.kind": "mse"}}}, "expected one of choice, uniform"),
        ({"head.dropout": 0.5}, "expected a mapping such as"),
        ({"head.dropout": {"choice": []}}, r"choice: expected a list"),
        ({"head.dropout": {"choice": 0.1}}, r"choice: expected a list"),
        ({"backbone": {"choice": ["resnet18"]}}, "backbone is a section"),
        ({"backbone": {"choice": {"a": {"nme": "resnet18"}}}}, r"unknown recipe field 'backbone\.nme'"),
        ({"head.dropout": {"uniform": [0, 0.5], "when": ["loss.kind"]}}, "when: expected a mapping"),
        ({"head.dropout": {"uniform": [0, 0.5], "when": {"loss.knd": "mse"}}}, "when: unknown .*loss.kind"),
        ({"head.dropout": {"uniform": [0, 0.5], "when": {"loss": "mse"}}}, "when: unknown recipe field 'loss'"),
        ({"head.dropout": {"uniform": [0, 0.5], "when": {"loss.kind": "mea"}}}, r"when: loss\.kind='mea'"),
        (
            {
                "loss.beta": {"uniform": [0.5, 1], "when": {"loss.kind": "huber"}},
                "loss.kind": {"choice": ["huber", "mse"]},
            },
            "when names loss.kind, which is drawn later; move it up",
        ),
        (
            {
                "loss.beta": {"uniform": [0.5, 1], "when": {"backbone.name": "resnet18"}},
                "backbone": {"choice": {"a": {"name": "resnet18"}}},
            },
            r"when names backbone\.name, which is drawn later",
        ),
        ({"loss.kind": {"choice": ["mse"], "when": {"loss.kind": "mse"}}}, "drawn later"),
    ],
)
def test_parse_refuses(search: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(search)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("space s: search.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"base": {"head": {"dropuot": 1}}}, r"space s: base: unknown recipe field 'head\.dropuot'"),
        ({"base": {"head": {"dropout": 7}}}, r"space s: base: head\.dropout=7"),
        ({"base": ["frozen_mlp"]}, "space s: base: expected a mapping"),
        ({"search": [1]}, r"space s: search=\[1\]: Input should be a valid dictionary"),
        ({"serach": {}}, "unknown key 'serach'"),
    ],
)
def test_parse_refuses_what_surrounds_the_search(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Space.parse(content, "space s")


def test_every_kind_asks_the_trial_for_what_it_is() -> None:
    script = Script({"loss.lds.enabled": True, "head.hidden": "[512, 256]", "backbone": "b"})
    labels, recipe = parse(SEARCH).draw(script)
    assert script.asked == {
        "head.dropout": (0.1, 0.5, False),
        "optimizer.head_lr": (3e-4, 1e-2, True),
        "schedule.batch_size": (8, 32),
        "head.hidden": ("[256]", "[512, 256]"),
        "backbone": ("a", "b"),
        "loss.lds.enabled": (True, False),
        "loss.lds.sigma": (1.0, 2.0),
    }
    assert recipe.head.hidden == (512, 256)
    assert (recipe.backbone.name, recipe.backbone.weights) == ("resnet34", "none")
    assert recipe.optimizer.weight_decay == 0.5
    assert "optimizer.weight_decay" not in labels  # a constant is nothing to learn from


@pytest.mark.parametrize(
    ("told", "exist"),
    [
        ({"backbone": "a", "loss.lds.enabled": True}, {"loss.lds.sigma"}),
        ({"backbone": "a", "loss.lds.enabled": False}, set()),
        ({"backbone": "b", "loss.lds.enabled": False}, {"loss.beta"}),
        ({"backbone": "b", "loss.lds.enabled": True}, {"loss.lds.sigma"}),
    ],
)
def test_conditions_must_all_hold_and_a_list_means_any(told: dict[str, Any], exist: set[str]) -> None:
    labels, _ = parse(SEARCH).draw(Script(told))
    assert labels.keys() & {"loss.lds.sigma", "loss.beta"} == exist


def test_a_condition_sees_the_base_and_constants() -> None:
    search = {
        "augment.strength": {"constant": "heavy"},
        "augment.replicas": {"integer": [2, 4], "when": {"augment.strength": "heavy"}},
        "optimizer.backbone_lr": {"log_uniform": [1e-5, 1e-4], "when": {"backbone.tuning": "full"}},
    }
    space = parse(search, backbone={"tuning": "full"})
    assert space.draw(Script({}))[0].keys() == {"augment.replicas", "optimizer.backbone_lr"}
    assert space.fixed({"backbone.tuning": "frozen"}).draw(Script({}))[0].keys() == {"augment.replicas"}


def test_draws_of_a_real_sampler_respect_ranges_and_conditions(draw_many: Callable[..., Any]) -> None:
    seen: set[frozenset[str]] = set()
    for labels, recipe in draw_many(parse(SEARCH), 60):
        assert 0.1 <= recipe.head.dropout <= 0.5
        assert 3e-4 <= recipe.optimizer.head_lr <= 1e-2
        assert 8 <= recipe.schedule.batch_size <= 32
        assert ("loss.lds.sigma" in labels) == recipe.loss.lds.enabled
        assert ("loss.beta" in labels) == (recipe.backbone.name == "resnet34" and not recipe.loss.lds.enabled)
        assert recipe.loss.beta == labels.get("loss.beta", Recipe().loss.beta)
        seen.add(frozenset(labels))
    assert len(seen) == 3


HYPOTHESIS_SPACE = parse(SEARCH)


@pytest.mark.heavy
# Values here are drawn by us rather than by a sampler: any that lies in its range must do.
@given(data=st.data())
@settings(max_examples=200)
def test_any_values_in_range_make_a_valid_recipe_that_says_them(data: st.DataObject) -> None:
    class Drawn:
        def suggest_categorical(self, name: str, choices: Any) -> Label:
            return data.draw(st.sampled_from(list(choices)), name)

        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
            return data.draw(st.floats(low, high), name)

        def suggest_int(self, name: str, low: int, high: int) -> int:
            return data.draw(st.integers(low, high), name)

    space = HYPOTHESIS_SPACE
    labels, recipe = space.draw(Drawn())
    flat = recipe.flat()
    by_field = {p.field: p for p in space.parameters}
    for name, label in labels.items():
        value = by_field[name].value(label)
        if isinstance(value, dict):
            assert all(flat[f"{name}.{key}"] == part for key, part in value.items())
        else:
            assert flat[name] == value
    untouched = flat.keys() - {f for p in space.parameters for f in p.fields()}
    assert {f: flat[f] for f in untouched} == {f: space.base.flat()[f] for f in untouched}
    assert Recipe.parse(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("overrides", "dropped"),
    [
        ({}, set()),
        ({"head.dropout": 0.2}, {"head.dropout"}),
        ({"head": {"dropout": 0.2}}, {"head.dropout"}),
        ({"backbone.name": "resnet50"}, {"backbone"}),
        # No backbone is left for which loss.beta would be drawn.
        ({"backbone": {"weights": "hub"}}, {"backbone", "loss.beta"}),
        ({"loss.lds.enabled": False}, {"loss.lds.enabled", "loss.lds.sigma"}),
        ({"backbone.tuning": "full"}, set()),
        ({"loss.lds.sigma": 3.0, "schedule.epochs": 3}, {"loss.lds.sigma"}),
        ({"optimizer.weight_decay": 0.1}, {"optimizer.weight_decay"}),
    ],
)
def test_a_fixed_field_is_searched_no_more(overrides: dict[str, Any], dropped: set[str]) -> None:
    space = parse(SEARCH)
    fixed = space.fixed(overrides)
    assert {p.field for p in space.parameters} - {p.field for p in fixed.parameters} == dropped
    assert fixed.base == space.base.with_overrides(overrides)
    _, recipe = fixed.draw(Script({"loss.lds.enabled": True}))
    assert recipe.with_overrides(overrides) == recipe


def test_fixing_a_field_deep_in_a_bundle_drops_the_bundle() -> None:
    search = {"loss": {"choice": {"plain": {"kind": "mse"}, "lds": {"lds": {"enabled": True, "sigma": 1.0}}}}}
    fixed = parse(search).fixed({"loss.lds.sigma": 4.0})
    assert fixed.parameters == ()
    assert fixed.draw(Script({}))[1].loss.lds.sigma == 4.0


def test_a_fixed_field_keeps_the_conditions_on_it() -> None:
    fixed = parse(SEARCH).fixed({"loss.lds.enabled": False})
    assert "loss.beta" in fixed.draw(Script({"backbone": "b"}))[0]
    assert "loss.beta" not in fixed.draw(Script({"backbone": "a"}))[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"head.droput": 0.2}, r"--set: unknown recipe field 'head\.droput'; did you mean head\.dropout"),
        ({"head.dropout": 2}, r"--set: head\.dropout=2"),
        ({"head": 2}, "--set: head is a section"),
    ],
)
def test_fixed_refuses(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(SEARCH).fixed(overrides)


def test_variants_are_every_combination_that_can_be_drawn() -> None:
    search = {
        "backbone": SEARCH["backbone"],
        "view.size": {"integer": [64, 128]},
        "view.kind": {"choice": ["whole", "corners"], "when": {"backbone.name": "resnet18"}},
        "head.dropout": {"uniform": [0.1, 0.2]},
    }
    found = [(r.backbone.name, r.view.size, r.view.kind) for r in parse(search).variants("backbone", "view")]
    assert len(set(found)) == len(found)
    starts = {("resnet18", 256, "halves"), ("resnet34", 256, "halves")}
    assert set(found) - starts == {
        *(("resnet18", size, kind) for size in (64, 128) for kind in ("whole", "corners")),
        *(("resnet34", size, "halves") for size in (64, 128)),
    }
    assert [r.validation for r in parse(search).variants("validation")] == [parse(search).base.validation]
    assert {r.view.kind for r in parse(search).variants("view.kind")} == {"halves", "whole", "corners"}


def test_variants_of_a_large_space_are_few_and_have_every_value() -> None:
    search = {
        "backbone.name": {"choice": [f"resnet{i}" for i in range(20)]},
        "backbone.blocks": {"integer": [1, 9]},
        "backbone.pool": {"choice": ["default", "cls", "mean", "cls_mean"], "when": {"backbone.name": "resnet19"}},
        "view.size": {"choice": [64, 96, 128, 160]},
        "view.tiles": {"integer": [1, 4]},
        "view.kind": {"choice": ["whole", "halves"]},
    }
    variants = [*parse(search).variants("backbone", "view")]
    assert 40 <= len(variants) <= 120
    assert {r.backbone.name for r in variants} == {f"resnet{i}" for i in range(20)}
    assert {r.backbone.pool for r in variants if r.backbone.name == "resnet19"} == {
        "default",
        "cls",
        "mean",
        "cls_mean",
    }
    assert {r.backbone.pool for r in variants if r.backbone.name != "resnet19"} == {"default"}
    assert {r.view.size for r in variants} >= {64, 96, 128, 160}


@pytest.mark.parametrize(
    ("base", "search"),
    [
        # A value that only goes with another field's value: refused before because it was tried on the base alone.
        (
            {"target": {"kind": "ratios", "transform": "none"}},
            {
                "target.kind": {"choice": ["ratios", "five"]},
                "target.transform": {"choice": ["none", "log1p_z"], "when": {"target.kind": "five"}},
            },
        ),
        (
            {},
            {
                "backbone": {"choice": {"bank": {"name": "bank:dinov3"}, "vit": {"name": "vit_small_patch14_dinov2"}}},
                "backbone.pool": {"choice": ["cls", "mean"], "when": {"backbone.name": "vit_small_patch14_dinov2"}},
            },
        ),
        (
            {"backbone": {"name": "bank:dinov3"}},
            {"backbone.pool": {"constant": "cls"}, "backbone.name": {"choice": ["vit_small_patch14_dinov2"]}},
        ),
        # A condition on a value that the base alone cannot have.
        (
            {"target": {"kind": "ratios", "transform": "none"}},
            {
                "target.kind": {"choice": ["ratios", "five"]},
                "target.transform": {"choice": ["none", "log1p_z"], "when": {"target.kind": "five"}},
                "loss.beta": {"uniform": [1, 2], "when": {"target.transform": "log1p_z"}},
            },
        ),
    ],
)
def test_what_can_be_drawn_is_accepted(base: dict[str, Any], search: dict[str, Any]) -> None:
    space = parse(search, **base)
    for recipe in space.variants("target", "backbone"):
        assert Recipe.parse(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"loss.lds.sigma": {"choice": [1.0, 2.0], "when": {"loss.lds.enabled": True}}},
            r"sigma\.when can never hold: loss\.lds\.enabled is False in the base, and no parameter above varies it",
        ),
        (
            {
                "loss.lds.enabled": {"constant": False},
                "loss.lds.sigma": {"choice": [1.0], "when": {"loss.lds.enabled": True}},
            },
            r"sigma\.when can never hold: loss\.lds\.enabled is one of False",
        ),
        (
            {"backbone": SEARCH["backbone"], "loss.beta": {"constant": 1, "when": {"backbone.name": "resnet50"}}},
            r"beta\.when can never hold: backbone\.name is one of 'resnet18', 'resnet34'",
        ),
        (
            {
                "backbone": SEARCH["backbone"],
                "loss.lds.enabled": {"choice": [True, False], "when": {"backbone.name": "resnet18"}},
                "loss.beta": {"constant": 1, "when": {"backbone.name": "resnet34", "loss.lds.enabled": True}},
            },
            r"can never hold: backbone\.name and loss\.lds\.enabled never have these values together",
        ),
        (
            {"head.dropout": {"uniform": [0.1, 0.5]}, "loss.beta": {"constant": 1, "when": {"head.dropout": 0.1}}},
            r"can never hold: head\.dropout is drawn from a continuous range",
        ),
        (
            {
                "schedule.batch_size": {"integer": [8, 32]},
                "loss.beta": {"constant": 1, "when": {"schedule.batch_size": 64}},
            },
            r"can never hold: schedule\.batch_size is one of 8, 32",
        ),
        ({"target.kind": {"choice": ["five", "ratios"]}, "target.transform": {"constant": "log1p_z"}}, "ratios needs"),
    ],
)
def test_what_can_never_be_drawn_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(search)
    assert "\n" not in str(caught.value)


def test_a_condition_may_name_a_number_within_an_integer_range() -> None:
    search = {
        "schedule.batch_size": {"integer": [8, 32]},
        "loss.beta": {"uniform": [0.5, 2], "when": {"schedule.batch_size": 16}},
    }
    assert "loss.beta" in parse(search).draw(Script({"schedule.batch_size": 16}))[0]


def test_trials_of_a_space_that_varies_nothing_would_be_identical() -> None:
    space = parse(
        {"head.dropout": {"constant": 0.2}, "head.norm": {"choice": [True]}, "loss.beta": {"uniform": [1, 1]}}
    )
    parse({"head.dropout": {"uniform": [0.1, 0.2]}}).check_trials(24)
    parse({}).check_trials(1)
    for fixed in (parse({}), space.fixed({"head.norm": True})):
        with pytest.raises(InputError, match=r"--trials 24: the space varies no field, so it has only 1 different"):
            fixed.check_trials(24)
    three = Space.parse({"start": [{"head.dropout": d} for d in (0.1, 0.2, 0.3, 0.3)]})
    three.check_trials(3)
    with pytest.raises(InputError, match=r"only 3 different trial\(s\)"):
        three.check_trials(4)


@pytest.mark.parametrize(
    ("base", "search", "epochs"),
    [
        ({"schedule": {"epochs": 7}}, {}, 7),
        ({"schedule": {"epochs": 7}}, {"schedule.epochs": {"integer": [3, 20]}}, 20),
        ({"schedule": {"epochs": 7}}, {"schedule": {"choice": {"long": {"epochs": 40}, "short": {"epochs": 2}}}}, 40),
        ({"head": {"kind": "ridge"}, "schedule": {"epochs": 7}}, {}, 1),
        ({"head": {"kind": "ridge"}, "schedule": {"epochs": 7}}, {"head.kind": {"choice": ["ridge", "mlp"]}}, 7),
    ],
)
def test_epochs_of_the_longest_trials(base: dict[str, Any], search: dict[str, Any], epochs: int) -> None:
    assert Space.parse({"base": base, "search": search}).epochs == epochs


def test_to_dict_round_trip(draw_many: Callable[..., Any]) -> None:
    space = parse(SEARCH, seed=5)
    again = Space.parse(space.to_dict())
    assert again == space
    assert draw_many(again, 15) == draw_many(space, 15)
