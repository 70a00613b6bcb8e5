"""Files whose rows, columns or values are not what they are said to be are refused; sound ones are not."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.members.alignment import check_columns, check_rows, check_scale
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array, from_components
from tests.ensemble.members.external_files import IMAGES, Theirs, come_in


@pytest.mark.parametrize("order", [o for o in itertools.permutations(range(5)) if o != (0, 1, 2, 3, 4)][::7])
def test_columns_in_another_order_are_refused(order: tuple[int, ...], theirs: Theirs) -> None:
    with pytest.raises(InputError, match="columns are in another order") as caught:
        check_columns("f.csv", theirs.truth, theirs.members[0][:, order])
    assert "\n" not in str(caught.value)
    wrong = {TARGETS[c]: TARGETS[t] for c, t in enumerate(order) if c != t}
    assert all(f"{named} looks like {target}" in str(caught.value) for named, target in wrong.items())


def test_columns_that_do_not_keep_the_balance_are_judged_by_score(theirs: Theirs) -> None:
    rng = np.random.default_rng(0)
    loose = theirs.members[0] + rng.normal(0, 3, theirs.truth.shape)
    check_columns("f.csv", theirs.truth, loose)
    with pytest.raises(InputError, match="Dry_Dead_g looks like Dry_Clover_g"):
        check_columns("f.csv", theirs.truth, loose[:, [0, 2, 1, 3, 4]])


@pytest.mark.parametrize(
    ("shuffle", "complaint"),
    [
        (lambda ids: sorted(ids, key=lambda i: i[::-1]), "no better than in random order"),
        (lambda ids: ids[::-1], "they fit the reverse order"),
        (lambda ids: [*ids[1:], ids[0]], "they fit one row further down"),
        (sorted, "they fit the order of train.csv"),
    ],
)
def test_rows_of_other_images_are_refused(
    shuffle: Callable[[list[str]], list[str]], complaint: str, theirs: Theirs
) -> None:
    truth = dict(zip(theirs.ids, theirs.truth, strict=True))
    orders = {"the order of train.csv": theirs.ids} if shuffle is sorted else {}
    with pytest.raises(InputError, match=complaint):
        check_rows("f.npy", truth, shuffle(theirs.ids), theirs.members[0], orders)


def test_sound_members_pass_however_weak(theirs: Theirs) -> None:
    """Of models that explain a tenth of the variance none is refused; one that knows nothing is."""
    rng = np.random.default_rng(0)
    truth = dict(zip(theirs.ids, theirs.truth, strict=True))
    for _ in range(10):
        noise = from_components(rng.normal(0, 1, (IMAGES, 3)) * theirs.truth[:, :3].std(axis=0) * 3)
        weak = theirs.truth.mean(axis=0) + 0.1 * (theirs.truth - theirs.truth.mean(axis=0) + noise)
        check_rows("f.csv", truth, theirs.ids, weak, {"sorted": sorted(theirs.ids)})
        check_columns("f.csv", theirs.truth, weak)
        check_scale("f.csv", theirs.truth, weak)
    with pytest.raises(InputError, match="predict nothing"):
        check_rows("f.csv", truth, theirs.ids, np.ones_like(theirs.truth), {})


@pytest.mark.parametrize(
    ("scaled", "scale"),
    [
        (np.log1p, "log(1 + grams)"),
        (lambda grams: np.log(grams + 1e-3), "log(grams)"),
        (np.sqrt, "sqrt(grams)"),
    ],
)
def test_predictions_on_another_scale_are_refused(
    scaled: Callable[[Array], Array], scale: str, theirs: Theirs, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match=f"not in grams but look like {re.escape(scale)}") as caught:
        come_in(theirs, run, theirs.array(scaled(theirs.members[0])))
    assert "\n" not in str(caught.value)
    assert not run.folder.exists()


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_truth_is_refused_as_a_member(noise: float, theirs: Theirs, tmp_path: Path) -> None:
    copy = theirs.truth + np.random.default_rng(0).normal(0, noise, theirs.truth.shape)
    with pytest.raises(InputError, match=r"R2 (1\.000|0\.999)\d+: these are the true weights, not predictions"):
        come_in(theirs, RunFolder(tmp_path / "run"), theirs.array(copy))
