import math

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod

from waymark.metrics.figures import geometric_median, place_figures

THRESHOLDS = [1, 5, 10, 25, 50, 100, 200, 750, 2500]


def some_predictions(number=241, seed=3):
    generator = np.random.default_rng(seed)
    distance_km = generator.lognormal(3.5, 2.0, number)
    distance_km[:4] = [1.0, 25.0, 25.0, 2500.0]  # exactly on thresholds
    cell = pd.array(generator.integers(0, 6, number), dtype="Int64")
    predicted = pd.array(
        np.where(generator.random(number) < 0.6, cell, generator.integers(0, 6, number)), dtype="Int64"
    )
    predictions = pd.DataFrame(
        {
            "distance_km": distance_km,
            "cell": cell,
            "predicted_cell": predicted,
            "oracle_km": generator.uniform(0, 30, number),
            "constant_km": generator.uniform(0, 300, number),
            "radius_50_km": generator.lognormal(3.5, 1.0, number),
            "radius_90_km": generator.lognormal(5.0, 1.0, number),
            "area_50_km2": generator.lognormal(6.0, 1.0, number),
            "area_90_km2": generator.lognormal(7.0, 1.0, number),
            "in_area_50": pd.array(generator.random(number) < 0.5, dtype="boolean"),
            "in_area_90": pd.array(generator.random(number) < 0.9, dtype="boolean"),
        }
    )
    predictions.loc[3:5, ["in_area_50", "in_area_90"]] = pd.NA  # records whose place is unknown
    predictions.loc[10:40, "cell"] = pd.NA  # cells that are no class of the model
    predictions.loc[10:40, "oracle_km"] = np.nan
    predictions.loc[200:, ["distance_km", "constant_km"]] = np.nan  # records without coordinates
    return predictions


def by_hand(predictions):
    """The figures once more, record by record, in plain Python."""
    rows = [row for row in predictions.to_dict("records") if not pd.isna(row["distance_km"])]
    errors = sorted(row["distance_km"] for row in rows)

    def quantile(share):  # linear interpolation between the two neighbours
        place = share * (len(errors) - 1)
        low = math.floor(place)
        return errors[low] + (place - low) * (errors[min(low + 1, len(errors) - 1)] - errors[low])

    def share(flags):
        return sum(flags) / len(flags)

    known = [row for row in rows if not pd.isna(row["in_area_50"])]
    classed = [row for row in rows if not pd.isna(row["cell"])]
    oracle = [row["oracle_km"] for row in rows if not pd.isna(row["oracle_km"])]
    return {
        "records": len(rows),
        "mean_km": math.fsum(errors) / len(errors),
        "median_km": quantile(0.5),
        "p90_km": quantile(0.9),
        **{f"within_{limit}km": share([error <= limit for error in errors]) for limit in THRESHOLDS},
        "geoscore": math.fsum(5000 * math.exp(-error / 1492.7) for error in errors) / len(errors),
        "cell_accuracy": share([row["cell"] == row["predicted_cell"] for row in classed]),
        "constant_mean_km": math.fsum(row["constant_km"] for row in rows) / len(rows),
        "oracle_mean_km": math.fsum(oracle) / len(oracle),
        "coverage_50": share([row["distance_km"] <= row["radius_50_km"] for row in rows]),
        "coverage_90": share([row["distance_km"] <= row["radius_90_km"] for row in rows]),
        "area_50_km2": np.median([row["area_50_km2"] for row in known]),
        "area_90_km2": np.median([row["area_90_km2"] for row in known]),
        "set_coverage_50": share([row["in_area_50"] for row in known]),
        "set_coverage_90": share([row["in_area_90"] for row in known]),
    }


@pytest.mark.parametrize("number", [241, 200, 7])
def test_figures_are_those_computed_by_hand(number):
    predictions = some_predictions().head(number)
    assert place_figures(predictions) == pytest.approx(by_hand(predictions.iloc[:200]), rel=1e-12)


def test_figures_survive_parquet(tmp_path):
    predictions = some_predictions()
    predictions.to_parquet(tmp_path / "predictions.parquet")
    assert place_figures(pd.read_parquet(tmp_path / "predictions.parquet")) == place_figures(predictions)


def test_the_median_lies_halfway_between_two_and_quantiles_are_numpys():
    predictions = some_predictions().head(4).assign(distance_km=[1.0, 2.0, 10.0, 40.0])
    figures = place_figures(predictions)
    assert figures["median_km"] == 6.0
    assert figures["p90_km"] == pytest.approx(np.quantile([1.0, 2.0, 10.0, 40.0], 0.9), rel=1e-15)


def test_an_error_equal_to_a_threshold_or_a_radius_is_within():
    predictions = some_predictions().head(2).assign(distance_km=[10.0, 10.1], radius_50_km=10.0, radius_90_km=10.1)
    figures = place_figures(predictions)
    assert (figures["within_5km"], figures["within_10km"], figures["within_25km"]) == (0.0, 0.5, 1.0)
    assert (figures["coverage_50"], figures["coverage_90"]) == (0.5, 1.0)


def test_cell_accuracy_counts_rows_with_a_class_only():
    predictions = some_predictions().head(4)
    predictions["cell"] = pd.array([1, 2, pd.NA, pd.NA], dtype="Int64")
    predictions["predicted_cell"] = pd.array([1, 3, 1, 1], dtype="Int64")
    assert place_figures(predictions)["cell_accuracy"] == 0.5
    predictions["cell"] = predictions["predicted_cell"] = pd.array([pd.NA] * 4, dtype="Int64")
    assert place_figures(predictions)["cell_accuracy"] is None


def test_radii_that_were_not_promised_give_no_coverage():
    figures = place_figures(some_predictions().assign(radius_50_km=np.nan, oracle_km=np.nan))
    assert figures["coverage_50"] is None
    assert figures["oracle_mean_km"] is None
    assert figures["coverage_90"] is not None


@pytest.mark.parametrize("predictions", [some_predictions().head(0), some_predictions().iloc[200:]])
def test_without_records_there_are_no_figures(predictions):
    figures = place_figures(predictions)
    assert figures.keys() == by_hand(some_predictions()).keys()
    assert figures.pop("records") == 0
    assert set(figures.values()) == {None}


def mean_km(place, lat_lon):
    """Mean distance that pyproj measures on the sphere."""
    sphere = Geod(a=6371008.8, b=6371008.8)
    count = len(lat_lon)
    _, _, metres = sphere.inv(np.full(count, place[1]), np.full(count, place[0]), lat_lon[:, 1], lat_lon[:, 0])
    return metres.mean() / 1000


def best_of_a_grid(lat_lon):
    """The smallest mean distance over nested grids, each ten times finer than the last."""
    centre, half = lat_lon.mean(axis=0), np.ptp(lat_lon, axis=0).max() / 2 + 0.1
    for _ in range(5):
        steps = np.linspace(-half, half, 15)
        places = [(centre[0] + north, centre[1] + east) for north in steps for east in steps]
        centre = np.array(min(places, key=lambda place: mean_km(place, lat_lon)))
        half /= 5
    return mean_km(centre, lat_lon)


def clusters():
    generator = np.random.default_rng(5)
    spread = generator.uniform((42.4, 13.5), (46.5, 19.4), (60, 2))
    town = generator.normal((45.8, 16.0), (0.05, 0.05), (45, 2))
    return {
        "spread": spread,
        "a town and the rest": np.concatenate([spread[:20], town]),
        "a triangle": np.array([[43.0, 15.0], [45.0, 19.0], [46.0, 14.0]]),
        "around (0, 0)": generator.normal(0, 2, (30, 2)),
        "far north": generator.normal((75.0, 20.0), (3.0, 8.0), (30, 2)),
    }


@pytest.mark.parametrize("case", clusters())
def test_the_geometric_median_is_as_good_as_the_best_of_a_grid(case):
    lat_lon = clusters()[case]
    found = geometric_median(lat_lon)
    assert found.shape == (2,)
    assert mean_km(found, lat_lon) <= best_of_a_grid(lat_lon) + 1e-3


def test_the_geometric_median_of_one_place_and_of_a_majority_is_that_place():
    assert geometric_median(np.array([[45.0, 16.0]])) == pytest.approx([45.0, 16.0], abs=1e-5)
    most = np.array([[45.0, 16.0]] * 6 + [[43.0, 14.0], [46.0, 19.0], [44.0, 18.0]])
    assert geometric_median(most) == pytest.approx([45.0, 16.0], abs=1e-4)


@pytest.mark.parametrize("seed", [6, 10])
def test_the_geometric_median_over_the_antimeridian_lies_there(seed):
    """Fiji lies on both sides; a mean of longitudes would lie in Africa."""
    east = np.random.default_rng(seed).normal((-17.0, 180.0), (1.0, 1.0), (60, 2))
    wrapped = np.stack([east[:, 0], (east[:, 1] + 180) % 360 - 180], 1)
    found = geometric_median(wrapped)
    assert -180 <= found[1] <= 180
    assert mean_km(found, wrapped) <= best_of_a_grid(east) + 1e-3
