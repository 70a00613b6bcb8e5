"""A choice among whole recipes in place of the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml

from pasture.errors import InputError
from search_spaces.catalogue import load_recipe, load_space, recipe_names
from search_spaces.conditions import hold
from search_spaces.space import Space

SPACE = """
base: {schedule: {epochs: 7}}
search:
  recipe: {choice: [two_stream, multi_tile, mine.yaml]}
  validation.folds: {constant: 4}
  optimizer.head_lr: {log_uniform: [1e-4, 1e-2], when: {recipe: multi_tile}}
  head.dropout: {uniform: [0.1, 0.5], when: {head.kind: mlp_per_target}}
  head.components: {integer: [4, 8], when: {recipe: mine.yaml}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Space]:
    """`write(text)`: the space of that file, beside the recipe mine.yaml."""
    (tmp_path / "mine.yaml").write_text("base: feature_ridge\nhead: {kind: pls}\n")

    def load(text: str, name: str = "space.yaml") -> Space:
        (tmp_path / name).write_text(text)
        return load_space(str(tmp_path / name))

    return load


def test_every_recipe_is_drawn_with_its_own_conditional_fields(
    write: Callable[..., Space], draw_many: Callable[..., Any]
) -> None:
    space = write(SPACE)
    own = {
        "two_stream": {"head.dropout"},
        "multi_tile": {"head.dropout", "optimizer.head_lr"},
        "mine.yaml": {"head.components"},
    }
    drawn = set()
    for labels, recipe in draw_many(space, 40):
        name = labels["recipe"]
        drawn.add(name)
        assert labels.keys() - {"recipe"} == own[name]
        base = load_recipe("feature_ridge" if name == "mine.yaml" else name)
        fields = {f: v for f, v in labels.items() if f != "recipe"} | {"schedule.epochs": 7, "validation.folds": 4}
        if name == "mine.yaml":
            fields["head.kind"] = "pls"
        assert recipe == base.with_overrides(fields)
    assert drawn == own.keys()


def test_each_recipe_runs_first_once(write: Callable[..., Space]) -> None:
    starts = write(SPACE).starts()
    assert [labels["recipe"] for labels, _ in starts] == ["two_stream", "multi_tile", "mine.yaml"]
    assert [recipe.head.kind for _, recipe in starts] == ["mlp_per_target", "mlp_per_target", "pls"]
    assert {recipe.validation.folds for _, recipe in starts} == {4}
    assert starts[1][0]["optimizer.head_lr"] == load_recipe("multi_tile").optimizer.head_lr


def test_start_entries_name_a_recipe(write: Callable[..., Space]) -> None:
    space = write(SPACE + "start: [{recipe: multi_tile, head.dropout: 0.2, seed: 3}, {head.dropout: 0.4}]")
    (labels, recipe), (first, _) = space.starts()
    assert (labels["recipe"], labels["head.dropout"], recipe.seed) == ("multi_tile", 0.2, 3)
    assert recipe.view == load_recipe("multi_tile").view
    assert first == {"recipe": "two_stream", "head.dropout": 0.4}


def test_a_resumed_sweep_needs_no_other_file(write: Callable[..., Space], tmp_path: Path) -> None:
    space = write(SPACE)
    (tmp_path / "mine.yaml").unlink()
    again = Space.parse(yaml.safe_load(yaml.safe_dump(space.to_dict(), sort_keys=False)))
    assert again == space
    assert [r for _, r in again.starts()] == [r for _, r in space.starts()]


def test_labels_are_found_again_in_the_recipe(write: Callable[..., Space], draw_many: Callable[..., Any]) -> None:
    space = write(SPACE)
    for labels, recipe in draw_many(space, 20):
        assert space.labels(recipe) == labels
        assert space.at(labels) == recipe
        longer = recipe.with_overrides({"schedule.epochs": 9, "validation.seed": 1})  # of an earlier sweep
        assert space.labels(longer) == labels
    assert space.labels(load_recipe("tiled_film")) == {}


def test_set_reaches_every_recipe(write: Callable[..., Space]) -> None:
    space = write(SPACE + "start: [{recipe: multi_tile, head.dropout: 0.2}]").fixed(
        {"head.dropout": 0.35, "view": {"size": 64}}
    )
    assert "head.dropout" not in {p.field for p in space.parameters}
    recipes = list(space.variants("backbone", "view", "head"))
    assert len(recipes) == 4  # two numbers of components in mine.yaml
    assert {(recipe.view.size, recipe.head.dropout) for recipe in recipes} == {(64, 0.35)}


def test_set_chooses_one_recipe(write: Callable[..., Space]) -> None:
    space = write(SPACE + "start: [{recipe: multi_tile}, {recipe: two_stream}]").fixed({"recipe": "mine.yaml"})
    assert {p.field for p in space.parameters} == {"recipe", "validation.folds", "head.components"}
    assert [recipe.head.kind for _, recipe in space.starts()] == ["pls"]
    with pytest.raises(InputError, match="has only 1 different trial"):
        write("search: {recipe: {choice: [two_stream]}}").check_trials(2)


def test_an_extending_space_sets_fields_of_every_recipe(write: Callable[..., Space]) -> None:
    write(SPACE)
    space = write("extends: space.yaml\nbase: {seed: 5}\nsearch: {head.dropout: null}", "more.yaml")
    assert {(recipe.seed, recipe.epochs > 1) for _, recipe in space.starts()} == {(5, True), (5, False)}
    assert "head.dropout" not in {p.field for p in space.parameters}


def test_a_recipe_with_changes_has_a_name_of_its_own(write: Callable[..., Space]) -> None:
    space = write("search: {recipe: {choice: {small: {base: two_stream, view: {size: 384}}, large: two_stream}}}")
    assert [recipe.view.size for _, recipe in space.starts()] == [384, 768]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {recipe: {choice: [two_straem]}}", "no recipe 'two_straem'"),
        ("search: {recipe: {choice: []}}", "search.recipe.choice: expected names of recipes"),
        ("search: {recipe: {choice: [3]}}", r"search\.recipe\.3: expected the name of a recipe"),
        ("search: {recipe: {choice: {a: {head: {dropuot: 1}}}}}", r"search\.recipe\.a: unknown .*head\.dropuot"),
        ("search: {recipe: {choice: [two_stream], when: {head.kind: mlp}}}", "`choice` without `when`"),
        ("search: {seed: {integer: [0, 3]}, recipe: {choice: [two_stream]}}", "before all other parameters"),
        ("base: two_stream\nsearch: {recipe: {choice: [multi_tile]}}", "base: it would be replaced"),
        (
            "base: {head: {kind: ridge}}\nsearch: {recipe: {choice: [feature_ridge, dinov3_lora]}}",
            r"base, in recipe dinov3_lora: head\.kind=ridge needs",
        ),
        (
            "search: {recipe: {choice: [two_stream]}, seed: {integer: [0, 3], when: {recipe: multi_tile}}}",
            r"search\.seed\.when: recipe 'multi_tile' is none of two_stream",
        ),
        ("search: {seed: {integer: [0, 3], when: {recipe: a}}}", "`search` has no `recipe` to choose"),
        ("search: {recipe: {choice: [two_stream]}}\nstart: [{recipe: b}]", r"start\[0\]: recipe 'b': expected one"),
        ("search: {seed: {integer: [0, 3]}}\nstart: [{recipe: b}]", r"start\[0\]: names a recipe, but `search`"),
        (
            "search: {recipe: {choice: [two_stream]}}\nresources: [{gpus: 1, when: {recipe: two_stream}}]",
            r"resources\[0\]\.when: expected fields of the recipe",
        ),
    ],
)
def test_refused(text: str, message: str, write: Callable[..., Space]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        write(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"recipe": "tiled_film"}, "--set recipe=tiled_film: expected one of two_stream, multi_tile, mine.yaml"),
        ({"view.kind": "corners"}, "in recipe multi_tile: .*view.tiles needs"),
    ],
)
def test_set_refuses(overrides: dict[str, Any], message: str, write: Callable[..., Space]) -> None:
    with pytest.raises(InputError, match=message):
        write(SPACE).fixed(overrides)
    with pytest.raises(InputError, match="does not choose among recipes"):
        load_space("default").fixed({"recipe": "two_stream"})


@pytest.fixture(scope="module")
def published() -> Space:
    return load_space("published")


def test_published_has_every_shipped_recipe_on_the_same_folds(published: Space) -> None:
    starts = published.starts()
    assert [labels["recipe"] for labels, _ in starts] == recipe_names()
    assert len({recipe.validation for _, recipe in starts}) == 1


def test_published_varies_what_each_recipe_uses(published: Space) -> None:
    for labels, recipe in published.starts():
        varied = labels.keys() - {"recipe"}
        if not recipe.neural:
            assert varied == ({"head.components"} if recipe.head.kind != "ridge" else set())
        elif recipe.optimizer.kind == "sgd":
            assert varied == {"optimizer"}
        else:
            own_rates = any(stage.head_lr for stage in recipe.schedule.stages)
            rates = {"schedule"} if own_rates else {"optimizer.head_lr"}
            trained = any(stage.tuning != "frozen" for stage in recipe.stages)
            rates |= {"optimizer.backbone_lr"} if trained and not own_rates else set()
            assert varied == {"head.dropout", "optimizer.weight_decay"} | rates
        assert recipe.optimizer.fit_memory == recipe.neural


def test_published_has_a_rule_for_every_recipe(published: Space) -> None:
    for _, recipe in published.starts():
        rule = next(rule for rule in published.rules if hold(rule.when, recipe.flat()))
        trained = any(stage.tuning != "frozen" for stage in recipe.stages)
        assert rule.gpus == (1 if trained else 0.5 if recipe.backbone.weights == "hub" else 0), recipe.backbone.name


def test_foundation_names_networks_and_weights_of_timm() -> None:
    weights = {*timm.list_pretrained()}
    choice = load_space("foundation").parameters[0]
    assert {option["name"] for option in choice.options.values()} <= weights
    for preset in ("dinov3_frozen", "dinov3_huge_plus_frozen", "siglip2_frozen"):
        assert load_recipe(preset).backbone.name in weights


def test_foundation_has_sizes_that_patches_fill_and_fits_what_it_trains(draw_many: Callable[..., Any]) -> None:
    sizes = set()
    for labels, recipe in draw_many(load_space("foundation"), 60):
        sizes.add(size := recipe.view.size)
        assert size % (14 if "dinov2" in labels["backbone"] else 32 if "v2" in labels["backbone"] else 16) == 0
        assert recipe.optimizer.fit_memory == (recipe.backbone.tuning != "frozen")
    assert (min(sizes), max(sizes)) == (384, 1024)
