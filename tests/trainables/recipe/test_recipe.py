"""Every field of the recipe: documented, bounded, defaulted, hashed, and refused by name when it is wrong."""

from __future__ import annotations

import copy
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pasture.errors import InputError
from trainables.recipe.recipe import Recipe, field_names, unknown_field


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            assert info.annotation.__doc__, f"section {prefix}{name} says nothing of itself"
            yield from _leaves(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


FIELDS = dict(_leaves(Recipe))


SPECIAL = {
    "backbone.lora.target_modules": ["proj", "mlp"],
    "backbone.pool": "mean_max_min_gem",
    "schedule.stages": [{"share": 1.0, "tuning": "full", "blocks": None, "backbone_lr": None, "head_lr": 0.1}],
}
"""Fields whose other values cannot be guessed from their type."""


def _bounds(info: FieldInfo) -> tuple[list[float], list[float]]:
    """Values just outside the lower and the upper bound."""
    step = 1 if info.annotation is int else 1e-6
    low = [m.ge - step if isinstance(m, Ge) else m.gt for m in info.metadata if isinstance(m, Ge | Gt)]
    high = [m.le + step if isinstance(m, Le) else m.lt for m in info.metadata if isinstance(m, Le | Lt)]
    return low, high  # type: ignore[return-value]


def _another(field: str) -> Any:
    """A valid value of `field` other than its default; None where there is no other."""
    if field in SPECIAL:
        return SPECIAL[field]
    info = FIELDS[field]
    default = Recipe().flat()[field]
    if typing.get_origin(info.annotation) is Literal:
        return next((v for v in typing.get_args(info.annotation) if v != default), None)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 2
    if isinstance(default, float):
        return default / 2 or 0.25
    if isinstance(default, list):
        return [7, 5, 3]
    return f"{default}_x: 'quoted' # ü"


CHANGES = {field: value for field in FIELDS if (value := _another(field)) is not None}
NUMBERS = [f for f, info in FIELDS.items() if info.annotation in (int, float)]


def test_field_names_are_all_the_leaves() -> None:
    assert field_names() == list(FIELDS)
    assert set(FIELDS) == set(CHANGES), "a field with one value only is none"


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_documented_and_has_a_default(field: str) -> None:
    assert FIELDS[field].description
    assert not FIELDS[field].is_required()


@pytest.mark.parametrize("field", NUMBERS)
def test_every_number_is_bounded_on_both_sides(field: str) -> None:
    low, high = _bounds(FIELDS[field])
    assert len(low) == len(high) == 1
    for value in (*low, *high, math.nan, math.inf, -math.inf, "many", None):
        with pytest.raises(InputError, match=field.replace(".", r"\.")):
            Recipe().with_overrides({field: value})


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_survives_yaml_and_changes_the_hash(field: str) -> None:
    changed = Recipe().with_overrides({field: CHANGES[field]})
    assert changed.flat() == Recipe().flat() | {field: CHANGES[field]}
    assert Recipe.from_yaml(changed.to_yaml()) == changed
    assert changed.hash != Recipe().hash


@pytest.mark.heavy
@given(st.sets(st.sampled_from(sorted(CHANGES))))
def test_any_mixture_survives_yaml_and_keeps_its_hash(fields: set[str]) -> None:
    try:
        recipe = Recipe().with_overrides({f: CHANGES[f] for f in fields})
    except InputError:
        reject()  # some fields exclude each other
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.hash == recipe.hash
    assert again.with_overrides({f: Recipe().flat()[f] for f in fields}) == Recipe()


def test_hashes_tell_all_single_changes_apart() -> None:
    hashes = {Recipe().with_overrides({f: v}).hash for f, v in CHANGES.items()}
    assert len(hashes | {Recipe().hash}) == len(CHANGES) + 1


def test_hash_is_pinned() -> None:
    # If one of these changes, every run directory in the world loses its finished trials.
    assert Recipe().hash == "44136fa355b3"
    recipe = Recipe().with_overrides({"head.hidden": [64], "head.dropout": 0.1, "seed": 7, "loss.lds.enabled": True})
    assert recipe.hash == "2f66a07c4af3"


def test_spelled_out_defaults_do_not_change_the_hash() -> None:
    spelled = Recipe.parse({"seed": 7, "view": {"kind": "halves", "size": 256}, "loss": {"lds": {"size": 5}}})
    assert spelled.hash == Recipe(seed=7).hash
    assert Recipe.from_yaml("seed: 7\nhead: {hidden: [512, 256], dropout: 0.30}").hash == Recipe(seed=7).hash


def test_yaml_gives_all_fields_in_order() -> None:
    assert list(Recipe.from_yaml(Recipe().to_yaml()).to_dict()) == list(Recipe.model_fields)
    assert "kernel: gaussian" in Recipe().to_yaml()


@pytest.mark.parametrize("text", ["", "# nothing", "{}", "---"])
def test_empty_yaml_is_the_default(text: str) -> None:
    assert Recipe.from_yaml(text) == Recipe()


def test_a_number_with_an_exponent_is_read_as_a_number() -> None:
    assert Recipe.from_yaml("optimizer: {head_lr: 1e-4}").optimizer.head_lr == 1e-4  # a string, to YAML 1.1


def test_overrides_take_dots_and_mappings() -> None:
    recipe = Recipe().with_overrides(
        {"view.size": 64, "loss": {"consistency": 0.5, "lds": {"sigma": 1.5}, "lds.enabled": True}}
    )
    assert (recipe.view.size, recipe.view.kind) == (64, "halves")
    assert (recipe.loss.consistency, recipe.loss.lds.sigma, recipe.loss.lds.enabled) == (0.5, 1.5, True)
    assert recipe.loss.kind == Recipe().loss.kind


def test_overrides_leave_the_original_alone() -> None:
    recipe = Recipe()
    before = copy.deepcopy(recipe)
    recipe.with_overrides({"head.hidden": [1]})
    assert recipe == before
    with pytest.raises(ValidationError):
        recipe.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"view.sise": 64}, ["view.sise", "view.size"]),
        ({"viev.size": 64}, ["viev.size", "view.size"]),
        ({"size": 64}, ["'size'"]),
        ({"view.size.x": 64}, ["view.size.x"]),
        ({"": 64}, ["unknown"]),
        ({"view": 64}, ["view is a section"]),
        ({"loss.lds": None}, ["loss.lds is a section"]),
        ({"view": {"sise": 64}}, ["view.sise"]),
        ({"view.kind": "thirds"}, ["view.kind='thirds'", "'whole'", "'halves'"]),
        ({"head.hidden": [64, 0]}, ["head.hidden[1]=0", "1"]),
        ({"head.hidden": 64}, ["head.hidden=64"]),
        ({"head.norm": "perhaps"}, ["head.norm='perhaps'"]),
        ({"backbone.name": 3}, ["backbone.name=3"]),
        ({"seed": 1.5}, ["seed=1.5"]),
        ({"loss.lds.size": 4}, ["loss.lds.size=4", "odd"]),
    ],
)
def test_a_bad_override_is_named(overrides: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Recipe().with_overrides(overrides, "--set")
    assert str(caught.value).startswith("--set: ")
    assert "\n" not in str(caught.value)
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("view: {size: 16}", "view.size=16"),
        ("colour: red", "'colour'"),
        ("view: {sise: 64}", "did you mean view.size"),
        ("view:", "view=None"),
        ("view: 3", "view=3"),
        ("{1: 2}", "1"),
        ("[]", "list"),
        ("[view]", "list"),
        ("false", "bool"),
        ("words", "str"),
        ("a: b: c", "not YAML"),
        ("view: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_bad_yaml_is_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=r"^recipe\.yaml: ") as caught:
        Recipe.from_yaml(text, "recipe.yaml")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"target.kind": "ratios", "target.transform": "log1p_z"},
            "--set: target.kind=ratios needs target.transform none, sqrt or log1p",
        ),
        ({"schedule.stages": [{"share": 0.5}]}, "--set: schedule.stages: the shares must sum to 1"),
    ],
)
def test_a_rule_on_several_fields_does_not_print_the_recipe(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe().with_overrides(overrides, "--set")
    assert str(caught.value) == message


def test_unknown_field_gives_the_nearest() -> None:
    assert "did you mean head.dropout" in unknown_field("head.dropuot")
    assert "did you mean" not in unknown_field("qqqq")


def test_no_torch_is_needed() -> None:
    import trainables.recipe.recipe as module

    assert "torch" not in {name for name, value in vars(module).items() if isinstance(value, types.ModuleType)}


@pytest.mark.parametrize("overrides", [{"backbone.name": "bank:x"}, {"backbone": {"name": "bank:x"}}])
def test_embeddings_reset_what_described_the_network(overrides: dict[str, Any]) -> None:
    tapped = Recipe().with_overrides({"view.size": 384, "backbone.out_indices": [2, 3], "backbone.pool": "mean_std"})
    banked = tapped.with_overrides(overrides)
    assert (banked.view.size, banked.backbone.out_indices, banked.backbone.pool) == (256, (), "default")
    with pytest.raises(InputError, match="no out_indices"):
        tapped.with_overrides({**overrides, "backbone.out_indices": [2, 3]})
