"""Accuracy of countries, regions and towns."""

import numpy as np
import pandas as pd
import pytest

from waymark.metrics.naming import name_figures

ZAGREB, SPLIT, TROGIR = (45.813, 15.977), (43.508, 16.440), (43.517, 16.251)
SYDNEY, VALLETTA, OCEAN, NOWHERE = (-33.869, 151.209), (35.898, 14.514), (0.0, -30.0), (np.nan, np.nan)


def predictions(*pairs):
    columns = ["latitude", "longitude", "predicted_latitude", "predicted_longitude"]
    return pd.DataFrame([(*truth, *guess) for truth, guess in pairs], columns=columns, dtype=float)


def test_each_name_counts_where_it_is_that_of_the_truth():
    frame = predictions((ZAGREB, ZAGREB), (SPLIT, TROGIR), (SPLIT, ZAGREB), (SYDNEY, VALLETTA))
    assert name_figures(frame) == {"country_accuracy": 3 / 4, "region_accuracy": 2 / 4, "city_accuracy": 1 / 4 + 1 / 4}


@pytest.mark.parametrize(
    ("truth", "guess", "expected"),
    [
        (SPLIT, OCEAN, (0, 0, 0)),  # an answer without a country is wrong
        (OCEAN, SPLIT, (None, None, 0)),  # a truth without one does not count
        (OCEAN, OCEAN, (None, None, 1)),
        (SPLIT, NOWHERE, (None, None, None)),
        (NOWHERE, SPLIT, (None, None, None)),
    ],
)
def test_what_counts(truth, guess, expected):
    names = ("country_accuracy", "region_accuracy", "city_accuracy")
    assert name_figures(predictions((truth, guess))) == dict(zip(names, expected, strict=True))


def test_the_same_region_in_another_country_is_another():
    """Luxembourg is a province of Belgium and a canton of Luxembourg."""
    arlon, luxembourg = (49.684, 5.816), (49.611, 6.130)
    assert name_figures(predictions((arlon, luxembourg)))["region_accuracy"] == 0


def test_without_records_there_are_no_figures():
    assert set(name_figures(predictions()).values()) == {None}


def test_the_table_alone_is_enough(tmp_path):
    frame = predictions((ZAGREB, SPLIT), (SPLIT, SPLIT))
    frame.to_parquet(tmp_path / "predictions.parquet")
    assert name_figures(pd.read_parquet(tmp_path / "predictions.parquet")) == name_figures(frame)
