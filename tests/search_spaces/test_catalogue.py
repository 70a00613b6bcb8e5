from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pasture.errors import InputError
from search_spaces.catalogue import load_recipe, load_space, recipe_names, space_names
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe


def fields(space: Space) -> set[str]:
    return {f for p in space.parameters for f in p.fields()}


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.heavy
@pytest.mark.parametrize("name", space_names())
def test_every_shipped_space_draws_valid_recipes_and_every_option(name: str, draw_many: Callable[..., Any]) -> None:
    space = load_space(name)
    drawn: dict[str, set[Any]] = {}
    options = max(len(parameter.options) for parameter in space.parameters)
    for labels, recipe in draw_many(space, max(80, 8 * options)):
        assert Recipe.parse(recipe.to_dict()) == recipe
        for field, label in labels.items():
            drawn.setdefault(field, set()).add(label)
    for parameter in space.parameters:
        if parameter.kind == "choice":
            assert drawn[parameter.field] == set(parameter.options)


def test_the_shipped_names() -> None:
    assert "frozen_mlp" in recipe_names()
    assert {"default", "demo"} <= set(space_names())


def test_default_searches_what_it_promises() -> None:
    promised = {
        "backbone.name",
        "backbone.weights",
        "optimizer.head_lr",
        "head.dropout",
        "head.hidden",
        "loss.lds.enabled",
        "loss.lds.kernel",
        "loss.lds.sigma",
        "loss.lds.reweighting",
        "loss.consistency",
        "head.kind",
    }
    assert promised <= fields(load_space("default"))


def test_default_draws_lds_details_only_where_lds_is_on(draw_many: Callable[..., Any]) -> None:
    details = {"loss.lds.kernel", "loss.lds.sigma", "loss.lds.reweighting"}
    for labels, recipe in draw_many(load_space("default"), 40):
        assert labels.keys() & details == (details if recipe.loss.lds.enabled else set())


def test_fine_tuned_is_default_with_a_trained_backbone(draw_many: Callable[..., Any]) -> None:
    space = load_space("fine_tuned")
    names = set()
    for labels, recipe in draw_many(space, 20):
        assert 1e-5 <= recipe.optimizer.backbone_lr <= 1e-4
        assert labels["optimizer.backbone_lr"] == recipe.optimizer.backbone_lr
        assert recipe.backbone.tuning == "full"
        names.add(recipe.backbone.name)
    assert len(names) == 3
    added = {"backbone.tuning", "optimizer.backbone_lr", "target.transform"}
    assert fields(space) == fields(load_space("default")) - {"head.kind", "head.components"} | added


def test_a_file_is_a_space_and_may_name_a_shipped_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: frozen_mlp\nsearch:\n  head.dropout: {uniform: [0.1, 0.2]}\n")
    space = load_space(str(path))
    assert space.base == load_recipe("frozen_mlp")
    assert fields(space) == {"head.dropout"}


def test_a_file_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"head": {"dropout": 0.25}}))
    assert load_recipe(str(path)) == Recipe().with_overrides({"head.dropout": 0.25})


def test_a_recipe_may_say_which_fields_differ_from_another(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("base: mine.yaml\nloss: {lds: {sigma: 1.0}}\n")
    (tmp_path / "mine.yaml").write_text("base: two_stream\nhead: {dropout: 0.1}\nseed: 3\n")
    recipe = load_recipe("two_stream").with_overrides({"head.dropout": 0.1, "seed": 3, "loss.lds.sigma": 1.0})
    assert load_recipe(str(tmp_path / "theirs.yaml")) == recipe


def test_a_space_may_extend_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("""
extends: default
base: {seed: 5, schedule: {epochs: 7}}
search:
  head.dropout: {uniform: [0.2, 0.3]}
  loss.consistency: null
  view.tiles: {choice: [1, 2]}
start: [{head.dropout: 0.25}]
resources: [{gpus: 1, when: {view.size: 256}}]
""")
    default, space = load_space("default"), load_space(str(path))
    assert space.base == default.base.with_overrides({"seed": 5, "schedule.epochs": 7})
    names = [p.field for p in default.parameters if p.field != "loss.consistency"]
    assert [p.field for p in space.parameters] == [*names, "view.tiles"]
    changed = next(p for p in space.parameters if p.field == "head.dropout")
    assert (changed.low, changed.high) == (0.2, 0.3)
    assert [recipe.head.dropout for _, recipe in space.starts()] == [0.25]
    assert len(space.rules) == 2
    (tmp_path / "other.yaml").write_text("extends: mine.yaml\nbase: feature_ridge\n")
    other = load_space(str(tmp_path / "other.yaml"))
    assert other.base == load_recipe("feature_ridge")
    assert other.search == space.search
    assert other.start == space.start


@pytest.mark.parametrize(
    ("content", "load", "message"),
    [
        ("base: mine.yaml", load_recipe, r"mine\.yaml: it is built on itself"),
        ("base: 5", load_recipe, "base: expected the name of a recipe or a file, got 5"),
        ("base: nowhere", load_recipe, "no recipe 'nowhere'"),
        ("base: two_stream\nhead: {dropuot: 1}", load_recipe, r"mine\.yaml: unknown recipe field 'head\.dropuot'"),
        ("extends: mine.yaml", load_space, r"mine\.yaml: it is built on itself"),
        ("extends: [default]", load_space, r"extends: expected the name of a space or a file, got \['default'\]"),
        ("extends: nowhere", load_space, "no space 'nowhere'"),
        ("extends: default\nsearch: {head.dropuot: null}", load_space, "expected a mapping such as"),
    ],
)
def test_a_wrong_base(content: str, load: Callable[[str], Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("load", [load_space, load_recipe])
@pytest.mark.parametrize("content", ["", "# nothing\n", "{}", "---\n"])
def test_an_empty_file_is_refused(load: Callable[[str], Any], content: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bad\.yaml: the file is empty; expected"):
        load(str(path))


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("base: {}\nsearch: {}\nbase: {}", "base"),
        ("search:\n  head.dropout: {constant: 0.1}\n  head.dropout: {constant: 0.2}", "head.dropout"),
        ("search: {head.dropout: {constant: 0.1, constant: 0.2}}", "constant"),
    ],
)
def test_a_key_that_stands_twice_is_refused(content: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"bad\.yaml: not valid YAML .*the key '{key}' stands twice.*line"):
        load_space(str(path))


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("search: {optimizer.head_lr: {choice: [1e-3, 3e-4, 1.5E-3]}}\nstart: [{optimizer.head_lr: 3e-4}]")
    space = load_space(str(path))
    assert list(space.parameters[0].options) == [1e-3, 3e-4, 1.5e-3]
    assert space.starts()[0][0] == {"optimizer.head_lr": 3e-4}


@pytest.mark.parametrize("load", [load_space, load_recipe])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"base: [", "not valid YAML"),
        (b"base: \xff\xfe\x00", "not valid YAML"),
        (b"base: 2001-13-40", "not valid YAML"),
        (b"- a\n- b", "expected a mapping"),
        (b"just words", "expected a mapping"),
    ],
)
def test_a_damaged_file(load: Callable[[str], Any], content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load(str(path))
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: frozen_mpl", "no recipe 'frozen_mpl': .*frozen_mlp"),
        ("base: {head: {dropout: 3}}", r"base: head\.dropout=3"),
        ("base: 5", "base: expected"),
        ("extend: default", r"bad\.yaml: unknown key 'extend'; expected extends, base, search, start, resources"),
        ("search: {head.droput: {uniform: [0, 0.1]}}", r"bad\.yaml: search\.head\.droput: unknown"),
    ],
)
def test_a_wrong_space_names_its_file(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_space(str(path))


@pytest.mark.parametrize(("load", "known"), [(load_space, "default, demo"), (load_recipe, "frozen_mlp")])
def test_no_such_name_or_file(load: Callable[[str], Any], known: str, tmp_path: Path) -> None:
    for name in ("defualt", str(tmp_path), str(tmp_path / "absent.yaml")):
        with pytest.raises(InputError, match=f"neither a file nor one of the shipped ones.*{known}"):
            load(name)


@pytest.mark.slow
def test_no_heavy_library_is_imported() -> None:
    heavy = "{'torch', 'timm', 'ray', 'optuna', 'albumentations', 'sklearn'}"
    code = f"""
import sys
from search_spaces.catalogue import load_space, space_names
[load_space(name) for name in space_names()]
sys.exit(str(sorted({heavy} & set(sys.modules))) if {heavy} & set(sys.modules) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
