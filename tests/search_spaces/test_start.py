"""The trials that run first."""

from __future__ import annotations

from typing import Any

import pytest

from pasture.errors import InputError
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe

SEARCH: dict[str, Any] = {
    "backbone": {
        "choice": {"a": {"name": "resnet18", "weights": "none"}, "b": {"name": "resnet34", "weights": "none"}}
    },
    "head.hidden": {"choice": [[256], [512, 256]]},
    "head.dropout": {"uniform": [0.1, 0.5]},
    "schedule.batch_size": {"integer": [8, 32]},
    "loss.lds.enabled": {"choice": [False, True]},
    "loss.lds.sigma": {"choice": [1.0, 2.0], "when": {"loss.lds.enabled": True}},
    "optimizer.weight_decay": {"constant": 0.5},
}


def parse(start: Any, search: dict[str, Any] = SEARCH, **base: Any) -> Space:
    return Space.parse({"base": base, "search": search, "start": start}, "space s")


def test_entries_set_fields_of_the_base_by_value_or_by_name_of_an_option() -> None:
    space = parse(
        [
            {"backbone": "b", "head.hidden": [256], "loss.lds.enabled": True},
            {"backbone": {"name": "resnet18", "weights": "none"}, "head.hidden": "[512, 256]", "loss.kind": "mse"},
        ],
        schedule={"batch_size": 16},
    )
    (labels, recipe), (other_labels, other) = space.starts()
    assert labels == {
        "backbone": "b",
        "head.hidden": "[256]",
        "head.dropout": 0.3,
        "schedule.batch_size": 16,
        "loss.lds.enabled": True,
        "loss.lds.sigma": 2.0,
    }
    assert recipe == space.base.with_overrides(
        {
            "backbone": {"name": "resnet34", "weights": "none"},
            "head.hidden": [256],
            "loss.lds.enabled": True,
            "optimizer.weight_decay": 0.5,
        }
    )
    assert (other_labels["backbone"], other_labels["head.hidden"]) == ("a", "[512, 256]")
    assert "loss.lds.sigma" not in other_labels  # its condition does not hold
    assert other.loss.kind == "mse"


def test_values_outside_the_space_have_no_label() -> None:
    space = parse([{"head.dropout": 0.6, "head.hidden": [64], "schedule.batch_size": 64, "backbone.name": "resnet50"}])
    [(labels, recipe)] = space.starts()
    assert labels == {"loss.lds.enabled": False}
    assert (recipe.head.dropout, recipe.head.hidden, recipe.schedule.batch_size) == (0.6, (64,), 64)


def test_an_entry_may_set_a_field_that_is_constant_in_the_search() -> None:
    recipes = [recipe for _, recipe in parse([{}, {"optimizer.weight_decay": 0.1}]).starts()]
    assert [recipe.optimizer.weight_decay for recipe in recipes] == [0.5, 0.1]


def test_without_entries_the_base_runs_once_for_each_backbone() -> None:
    starts = parse([]).starts()
    assert [labels["backbone"] for labels, _ in starts] == ["a", "b"]
    assert [recipe.backbone.name for _, recipe in starts] == ["resnet18", "resnet34"]
    assert {recipe.head.dropout for _, recipe in starts} == {Recipe().head.dropout}
    named = parse([], {"backbone.name": {"choice": ["resnet18", "resnet50"]}})
    assert [recipe.backbone.name for _, recipe in named.starts()] == ["resnet18", "resnet50"]
    assert [recipe for _, recipe in parse([], {}).starts()] == [Recipe()]


def test_no_recipe_starts_twice() -> None:
    space = parse([{}, {"head.dropout": 0.3}, {"loss.lds.enabled": False}, {"head.dropout": 0.2}])
    assert [recipe.head.dropout for _, recipe in space.starts()] == [0.3, 0.2]


def test_set_drops_what_it_fixes() -> None:
    space = parse([{"backbone": "b", "head.dropout": 0.2}, {"backbone": "a", "head.dropout": 0.4}])
    fixed = space.fixed({"head.dropout": 0.15})
    assert [(r.backbone.name, r.head.dropout) for _, r in fixed.starts()] == [("resnet34", 0.15), ("resnet18", 0.15)]
    bank = space.fixed({"backbone.name": "bank:dinov3"})
    assert [(r.backbone.name, r.head.dropout) for _, r in bank.starts()] == [("bank:dinov3", 0.2), ("bank:dinov3", 0.4)]
    assert all("backbone" not in labels for labels, _ in bank.starts())
    both = space.fixed({"backbone.name": "bank:dinov3", "head.dropout": 0.15})
    assert len(both.starts()) == 1


def test_they_outlive_the_file() -> None:
    space = parse([{"backbone": "b", "head.dropout": 0.2}])
    assert Space.parse(space.to_dict()) == space
    assert Space.parse(space.to_dict()).starts() == space.starts()


def test_labels_and_recipes_of_draws_agree(draw_many: Any) -> None:
    space = parse([])
    for labels, recipe in draw_many(space, 20):
        assert space.labels(recipe) == labels
        assert space.at(labels) == recipe


def test_a_longer_start_recipe_counts_for_the_epochs_of_the_space() -> None:
    assert parse([{"schedule.epochs": 90}]).epochs == 90
    assert {r.backbone.name for r in parse([{"backbone.name": "resnet50"}]).variants("backbone")} == {
        "resnet18",
        "resnet34",
        "resnet50",
    }


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ([{}, {"head.dropuot": 0.1}], r"space s: start\[1\]: unknown recipe field 'head\.dropuot'"),
        ([{"head.dropout": 7}], r"space s: start\[0\]: head\.dropout=7"),
        (
            [{"backbone": "c"}],
            r"space s: start\[0\]: backbone 'c': expected one of its options, a, b; .* `start` of its own",
        ),
        ([{"target.kind": "ratios", "target.transform": "log1p_z"}], r"start\[0\]: target\.kind=ratios needs"),
        ({"head.dropout": 0.1}, r"space s: start=.*valid list"),
        (["frozen_mlp"], r"space s: start\[0\]='frozen_mlp'"),
    ],
)
def test_a_wrong_entry_is_named(start: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(start)
    assert "\n" not in str(caught.value)
