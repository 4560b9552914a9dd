import statistics

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import box

from waymark.errors import RegionError
from waymark.metrics.breakdown import errors_by, named_regions, region_of, with_shapes
from waymark.metrics.intervals import statistic_interval

PLACES = {"Croatia": (45.81, 15.98), "Slovenia": (46.05, 14.51), "Hungary": (47.5, 19.04), "Fiji": (-17.8, 178.0)}


def predictions():
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "split": ["test"] * 30 + ["val"] * 10,
            "distance_km": [*rng.lognormal(3, 1, 39), np.nan],
            "cell": pd.array([*([1] * 12 + [2] * 15 + [7] * 2 + [pd.NA]), *([1] * 10)], dtype="Int64"),
        },
        index=np.arange(100, 140),
    )


def test_errors_are_summed_up_by_cell_the_worst_first():
    frame = predictions()
    found = errors_by(frame, frame["cell"], "cell")
    for (split, cell), its in frame.dropna().groupby(["split", "cell"]):
        row = found[(found["split"] == split) & (found["cell"] == cell)].iloc[0]
        km = its["distance_km"].to_numpy()
        assert row["records"] == len(km)
        assert row["mean_km"] == pytest.approx(sum(km) / len(km))
        assert row["median_km"] == pytest.approx(statistics.median(km))
        if len(km) >= 5:
            expected = statistic_interval(km, resamples=1000)
            assert (row["mean_low_km"], row["mean_high_km"]) == expected
            assert expected.low < row["mean_km"] < expected.high
    assert found["records"].sum() == len(frame.dropna()) == 38
    test = found[found["split"] == "test"]
    assert test["mean_km"].is_monotonic_decreasing
    assert set(test["cell"]) == {1, 2, 7}
    assert test.set_index("cell").loc[7, ["mean_low_km", "mean_high_km"]].isna().all()
    assert pd.api.types.is_integer_dtype(found["cell"])


def test_nothing_to_sum_up_is_an_empty_table():
    frame = predictions().assign(distance_km=np.nan)
    found = errors_by(frame, frame["cell"], "cell")
    assert found.empty
    assert list(found) == ["split", "cell", "records", "mean_km", "mean_low_km", "mean_high_km", "median_km"]
    cells = gpd.GeoDataFrame({"cell": []}, geometry=[], crs="EPSG:3765")
    assert with_shapes(found, cells).crs == "EPSG:3765"


def test_cells_get_their_shapes():
    frame = predictions()
    shapes = {cell: box(cell, 0, cell + 1, 1) for cell in (7, 1, 3, 2)}
    cells = gpd.GeoDataFrame({"cell": list(shapes)}, geometry=list(shapes.values()), crs="EPSG:3765")
    found = with_shapes(errors_by(frame, frame["cell"], "cell"), cells)
    assert [shapes[cell] for cell in found["cell"]] == list(found.geometry)


def test_countries_are_found_by_the_packaged_outlines():
    lat_lon = np.array([*PLACES.values(), (np.nan, np.nan), (0.0, -30.0)])
    assert region_of(lat_lon, named_regions(None)).tolist() == [*PLACES, None, "elsewhere"]


def test_a_place_off_a_coarse_shore_belongs_to_the_nearest_region():
    regions = gpd.GeoDataFrame({"name": ["west", "east"]}, geometry=[box(0, 0, 1, 1), box(2, 0, 3, 1)], crs="EPSG:4326")
    places = np.array([(0.5, 0.5), (0.5, 1.2), (0.5, 1.8), (0.5, 1.5), (0.5, 3.0), (1.2, 2.5), (1.3, 2.5)])
    assert region_of(places, regions).tolist() == ["west", "west", "east", "elsewhere", "east", "east", "elsewhere"]
    both = gpd.GeoDataFrame({"name": ["first", "second"]}, geometry=[box(0, 0, 2, 2), box(1, 0, 3, 2)], crs="EPSG:4326")
    assert region_of(np.array([(1.0, 1.5), (1.0, 2.5)]), both).tolist() == ["first", "second"]


def test_regions_of_ones_own_keep_their_names(tmp_path):
    file = tmp_path / "counties.gpkg"
    shapes = [box(15.5, 45.9, 16.5, 46.3), box(13.4, 44.7, 14.3, 45.5)]
    own = gpd.GeoDataFrame({"Name": ["Zagorje", "Istra"]}, geometry=shapes, crs="EPSG:4326")
    own.to_crs("EPSG:3765").to_file(file)
    regions = named_regions(file)
    assert regions.crs == "EPSG:4326"
    places = np.array([(46.1, 16.0), (45.0, 13.9), (43.5, 16.4)])
    assert region_of(places, regions).tolist() == ["Zagorje", "Istra", "elsewhere"]


def test_regions_that_are_none_are_refused(tmp_path):
    with pytest.raises(RegionError, match="does not exist"):
        named_regions(tmp_path / "counties.gpkg")
    file = tmp_path / "counties.geojson"
    gpd.GeoDataFrame({"county": ["Istra"]}, geometry=[box(13, 44, 14, 45)], crs="EPSG:4326").to_file(file)
    with pytest.raises(RegionError, match=r"no column name.*rename one of county"):
        named_regions(str(file))
