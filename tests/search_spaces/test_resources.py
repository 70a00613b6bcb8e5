from __future__ import annotations

from typing import Any

import pytest

from pasture.errors import InputError
from search_spaces.resources import Rule
from search_spaces.space import Space

SEARCH = {
    "backbone": {"choice": {"small": {"name": "resnet18"}, "large": {"name": "resnet50", "tuning": "full"}}},
    "view.size": {"choice": [256, 512]},
}
RULES = [
    {"gpus": 1, "cpus": 8, "when": {"backbone.name": ["resnet50", "resnet18"], "backbone.tuning": "full"}},
    {"gpus": 4, "gpus_per_fold": 2, "when": {"view.size": 512}},
    {"gpus": 0.25},
]


def test_rules_are_kept_in_order_and_the_last_fits_all() -> None:
    space = Space.parse({"base": {}, "search": SEARCH, "resources": RULES})
    first, two, second, last = space.rules
    when = {"backbone.name": ["resnet50", "resnet18"], "backbone.tuning": "full"}
    assert first == Rule(cpus=8, gpus=1, when=when)
    assert two == Rule(gpus=4, gpus_per_fold=2, when={"view.size": 512})
    assert second == Rule(gpus=0.25)
    assert last == Rule()


def test_they_outlive_the_file_and_set() -> None:
    space = Space.parse({"base": {}, "search": SEARCH, "resources": RULES})
    assert Space.parse(space.to_dict()).rules == space.rules
    assert space.fixed({"head.dropout": 0.2}).rules == space.rules
    assert Space.parse({"base": {}}).rules == (Rule(),)


def test_set_leaves_out_rules_that_no_trial_can_match_any_more() -> None:
    space = Space.parse({"base": {}, "search": SEARCH, "resources": RULES})
    assert space.fixed({"view.size": 256}).rules == (space.rules[0], *space.rules[2:])
    assert space.fixed({"backbone.tuning": "frozen"}).rules == space.rules[1:]


def test_a_rule_may_match_a_start_recipe_only() -> None:
    content = {"search": SEARCH, "start": [{"view.size": 768}], "resources": [{"gpus": 2, "when": {"view.size": 768}}]}
    assert Space.parse(content).rules[0].gpus == 2


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"gpus": 1}, "resources=.*valid list"),
        (["gpus"], r"resources\[0\]='gpus': .*dictionary"),
        ([{"when": {"backbone.tuning": "full"}}], r"resources\[0\]: expected `cpus`, `gpus` or `gpus_per_fold`"),
        ([{"gpus": 1}, {"gpus": 1, "memory": 2}], r"unknown key 'resources\[1\]\.memory'"),
        ([{"gpus": -1}], r"resources\[0\]\.gpus=-1: .*greater than or equal to 0"),
        (
            [{"gpus": 2, "gpus_per_fold": 0}],
            r"resources\[0\]\.gpus_per_fold=0: .*greater than or equal to 1",
        ),
        ([{"gpus": 2, "gpus_per_fold": 1.5}], r"resources\[0\]\.gpus_per_fold=1\.5: .*valid integer"),
        ([{"cpus": "two"}], r"resources\[0\]\.cpus='two': .*valid number"),
        ([{"cpus": True}], r"resources\[0\]\.cpus=True: .*valid number"),
        ([{"cpus": float("nan")}], r"resources\[0\]\.cpus=nan"),
        ([{"gpus": 1, "when": ["full"]}], r"resources\[0\]\.when: expected a mapping"),
        ([{"gpus": 1, "when": {"backbone.tunign": "full"}}], r"resources\[0\]\.when: .*tunign.*tuning"),
        ([{"gpus": 1, "when": {"backbone.tuning": "ful"}}], r"resources\[0\]\.when.*backbone\.tuning"),
        (
            [{"gpus": 1, "when": {"backbone.tuning": "full"}}],
            r"resources\[0\]\.when can never hold: backbone.tuning is",
        ),
    ],
)
def test_a_rule_that_cannot_be_is_named(rules: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Space.parse({"base": {}, "resources": rules}, "space.yaml")
    assert str(caught.value).startswith("space.yaml: ")
    assert "\n" not in str(caught.value)
