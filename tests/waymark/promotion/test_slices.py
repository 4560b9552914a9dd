import geopandas
import numpy as np
import pandas as pd
from shapely import box

from waymark.promotion.slices import OTHERS, landmark_slices, place_slices

REGIONS = geopandas.GeoDataFrame(
    {"name": ["West", "East", "Islet"]},
    geometry=[box(0, 40, 10, 50), box(10, 40, 20, 50), box(30, 40, 31, 41)],
    crs="EPSG:4326",
)


def places(seed, count, west, south, east, north):
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(south, north, count), rng.uniform(west, east, count)], axis=1)


def test_one_region_is_cut_into_parts_that_hold_enough():
    lat_lon = places(1, 200, 0, 40, 10, 50)
    slices = pd.Series(place_slices(lat_lon, REGIONS, 10))
    counts = slices.value_counts()
    assert counts.sum() == 200
    assert 4 <= len(counts) <= 8
    assert counts.min() >= 25
    assert all(name.startswith("West, ") for name in counts.index)
    for name, rows in slices.groupby(slices):  # each is a box without records of others
        its = lat_lon[rows.index]
        inside = ((lat_lon >= its.min(axis=0)) & (lat_lon <= its.max(axis=0))).all(axis=1)
        assert inside.sum() == len(its), name


def test_regions_are_slices_and_small_ones_go_together():
    parts = [places(1, 60, 1, 41, 9, 49), places(2, 60, 11, 41, 19, 49)]
    few = [places(3, 6, 30.2, 40.2, 30.8, 40.8), places(4, 6, 60, 0, 61, 1)]
    lat_lon = np.concatenate([*parts, *few, [[np.nan, np.nan]]])
    slices = pd.Series(place_slices(lat_lon, REGIONS, 10))
    assert {name.split(",")[0] for name in slices.dropna()} == {"West", "East", OTHERS}
    assert (slices == OTHERS).sum() == 12
    assert slices.isna().sum() == 1
    assert (pd.Series(place_slices(lat_lon[:-7], REGIONS, 10)) == OTHERS).sum() == 0  # six alone are too few


def test_a_long_region_is_cut_across():
    for box_deg in ((0, 44.9, 10, 45.1), (4.9, 40, 5.1, 50)):
        lat_lon = places(5, 200, *box_deg)
        slices = pd.Series(place_slices(lat_lon, REGIONS, 10))
        longest = max(np.ptp(lat_lon[rows.index], axis=0).max() for _, rows in slices.groupby(slices))
        assert longest < 10 / 3


def test_many_records_at_one_place_are_not_cut():
    lat_lon = np.tile([[45.0, 5.0]], (80, 1))
    assert set(place_slices(lat_lon, REGIONS, 10)) == {"West"}


def test_landmarks_are_frequent_or_rare_by_training():
    trained = pd.Series(["a"] * 9 + ["b"] * 4 + ["c"] * 2 + [None])
    asked = pd.Series(["c", "a", None, "b", "z"], dtype=object)
    assert landmark_slices(asked, trained).tolist() == ["tail", "head", None, "middle", "unseen"]
