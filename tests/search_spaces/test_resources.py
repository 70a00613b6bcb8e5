from __future__ import annotations

from typing import Any

import pytest

from pasture.errors import InputError
from search_spaces.resources import Rule
from search_spaces.space import Space

RULES = [
    {"gpus": 1, "cpus": 8, "when": {"backbone.name": ["resnet50", "resnet18"], "backbone.tuning": "full"}},
    {"gpus": 4, "gpus_per_fold": 2, "when": {"view.size": 512}},
    {"gpus": 0.25},
]


def test_rules_are_kept_in_order_and_the_last_fits_all() -> None:
    space = Space.parse({"base": {}, "resources": RULES})
    first, two, second, last = space.rules
    assert first == Rule(8, 1, None, {"backbone.name": ("resnet50", "resnet18"), "backbone.tuning": ("full",)})
    assert two == Rule(None, 4, 2, {"view.size": (512,)})
    assert second == Rule(None, 0.25)
    assert last == Rule()


def test_they_outlive_the_file_and_set() -> None:
    space = Space.parse({"base": {}, "resources": RULES})
    assert Space.parse(space.to_dict()).rules == space.rules
    assert space.fixed({"head.dropout": 0.2}).rules == space.rules
    assert Space.parse({"base": {}}).rules == (Rule(),)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"gpus": 1}, "resources: expected a list of rules"),
        (["gpus"], r"resources\[0\]: expected `cpus`, `gpus` or `gpus_per_fold`"),
        ([{"when": {"backbone.tuning": "full"}}], r"resources\[0\]: expected `cpus`, `gpus` or `gpus_per_fold`"),
        ([{"gpus": 1}, {"gpus": 1, "memory": 2}], r"resources\[1\]: expected `cpus`, `gpus` or `gpus_per_fold`"),
        ([{"gpus": -1}], r"resources\[0\]\.gpus: expected a number of at least 0, got -1"),
        (
            [{"gpus": 2, "gpus_per_fold": 0}],
            r"resources\[0\]\.gpus_per_fold: expected a whole number of at least 1, got 0",
        ),
        ([{"gpus": 2, "gpus_per_fold": 1.5}], r"gpus_per_fold: expected a whole number of at least 1, got 1.5"),
        ([{"cpus": "two"}], r"resources\[0\]\.cpus: expected a number"),
        ([{"cpus": True}], r"resources\[0\]\.cpus: expected a number"),
        ([{"gpus": 1, "when": ["full"]}], r"resources\[0\]\.when: expected a mapping"),
        ([{"gpus": 1, "when": {"backbone.tunign": "full"}}], r"resources\[0\]\.when: .*tunign.*tuning"),
        ([{"gpus": 1, "when": {"backbone.tuning": "ful"}}], r"resources\[0\]\.when.*backbone\.tuning"),
    ],
)
def test_a_rule_that_cannot_be_is_named(rules: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Space.parse({"base": {}, "resources": rules}, "space.yaml")
    assert str(caught.value).startswith("space.yaml: ")
    assert "\n" not in str(caught.value)
