"""Species tags and the other numbers beside the picture."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from trainables.training.metadata import auxiliary_targets, species_tags, standardise, teacher_inputs


@pytest.mark.parametrize(
    ("species", "tags"),
    [
        ("Ryegrass", {"ryegrass", "grass"}),
        ("Rye_Barley", {"rye", "barley", "grass"}),
        ("Phalaris_Clover", {"phalaris", "grass", "clover"}),
        ("WhiteClover", {"whiteclover", "clover"}),
        ("White", {"white", "clover"}),
        ("SubcloverDalkeith", {"subcloverdalkeith", "clover"}),
        ("SubcloverLosa", {"subcloverlosa", "clover"}),
        ("Lucerne", {"lucerne", "legume"}),
        ("Capeweed_CrumbWeed", {"capeweed", "crumbweed", "broadleaf"}),
        ("Fescue_SilverGrass_SpearGrass", {"fescue", "silvergrass", "speargrass", "grass"}),
        ("Phalaris_BarleyGrass_Bromegrass", {"phalaris", "barleygrass", "bromegrass", "grass"}),
        ("Ryegrass_Clover", {"ryegrass", "grass", "clover"}),
        ("_Ryegrass__", {"ryegrass", "grass"}),
        ("", set()),
    ],
)
def test_tags(species: str, tags: set[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert species_tags(species) == tags


def test_an_unknown_name_is_its_own_tag_and_a_warning() -> None:
    with pytest.warns(UserWarning, match="species 'Triffid' belongs to no known group"):
        assert species_tags("Triffid_Lucerne") == {"triffid", "lucerne", "legume"}


@pytest.fixture
def images() -> pd.DataFrame:
    """Three rows, one of which was not measured."""
    return pd.DataFrame(
        {
            "ndvi": [0.5, 0.8, np.nan],
            "height_cm": [4.0, 10.0, 7.0],
            "date": pd.to_datetime(["2015-01-20", "2015-04-02", "2015-10-31"]),
            "species": ["Lucerne", "Ryegrass_Clover", "Ryegrass"],
        }
    )


def test_what_a_teacher_sees_by_hand(images: pd.DataFrame) -> None:
    inputs = teacher_inputs(images)
    # NDVI, height, their product, sine and cosine of the month, then clover, grass, legume, lucerne, ryegrass
    assert inputs[0].tolist() == pytest.approx([0.5, 4.0, 2.0, 0.0, 1.0, 0, 0, 1, 1, 0])
    assert inputs[1].tolist() == pytest.approx([0.8, 10.0, 8.0, 1.0, 0.0, 1, 1, 0, 0, 1], abs=1e-12)
    assert inputs[2, 3:].tolist() == pytest.approx([-1.0, 0.0, 0, 1, 0, 0, 1], abs=1e-12)
    assert np.isnan(inputs[2, [0, 2]]).all()
    assert inputs[2, 1] == 7.0


def test_auxiliary_targets(images: pd.DataFrame) -> None:
    assert auxiliary_targets(images)[:2].tolist() == [[0.5, 4.0], [0.8, 10.0]]
    assert np.isnan(auxiliary_targets(images)[2, 0])


def test_standardising_by_the_statistics_of_some_rows() -> None:
    nan = np.nan
    values = np.array([[1.0, 5.0, nan, nan], [3.0, 5.0, 2.0, nan], [9.0, 6.0, 8.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = standardise(values, np.array([0, 1]))
    # mean 2 and deviation 1; a constant column is only moved; one value is a constant; nothing measured stays unknown
    expected = [[-1.0, 0.0, nan, nan], [1.0, 0.0, 0.0, nan], [7.0, 1.0, 6.0, nan]]
    np.testing.assert_allclose(result, expected)
