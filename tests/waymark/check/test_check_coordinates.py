import check_sources as made
import numpy as np
import pytest
from pyproj import Geod

from waymark.check.coordinates import coordinate_findings, place_records
from waymark.geo import load_region


def fates(lat_lon, region=None, shore_km=5.0):
    survey = made.unseen(lat_lon)
    places = place_records(survey, region and load_region(region), shore_km=shore_km)
    kinds = [finding.kind for finding in coordinate_findings(survey, places, region)]
    return places.fate.tolist(), kinds


def around(latitude, longitude, count, spread_km=30):
    """Places at random around one, by pyproj."""
    draws = np.random.default_rng(2)
    turn, far = draws.uniform(0, 360, count), draws.uniform(0, spread_km * 1000, count)
    east, north, _ = Geod(ellps="WGS84").fwd(np.full(count, longitude), np.full(count, latitude), turn, far)
    return np.column_stack([north, east]).tolist()


def test_without_a_region_the_other_records_tell_what_is_swapped():
    found, kinds = fates([*around(45.8, 16.0, 20), (16.0, 45.8), (48.85, 2.35), (None, None)])
    assert found == ["in place"] * 20 + ["swapped", "far off", "no coordinates"]
    assert kinds == ["swapped", "far_off"]


def test_up_to_a_quarter_may_be_swapped():
    found, _ = fates([*around(45.8, 16.0, 30), *[place[::-1] for place in around(45.8, 16.0, 9)]])
    assert found == ["in place"] * 30 + ["swapped"] * 9


def test_a_swapped_pair_may_be_no_place_on_earth():
    """Fiji lies on both sides of the antimeridian; swapped, its longitude is no latitude."""
    fiji = [*around(-17.5, 179.9, 20), (179.5, -17.5), (-17.5, 200.0)]
    found, kinds = fates(fiji)
    assert found == ["in place"] * 20 + ["swapped", "unreadable"]
    assert kinds == ["swapped", "unreadable"]
    assert {longitude > 0 for _, longitude in fiji[:20]} == {True, False}


def test_records_all_over_the_world_have_no_middle():
    draws = np.random.default_rng(3)
    found, kinds = fates(np.column_stack([draws.uniform(-60, 70, 40), draws.uniform(-180, 180, 40)]).tolist())
    assert found == ["in place"] * 40
    assert kinds == ["no_middle"]


def test_a_region_tells_without_any_other_record():
    found, kinds = fates([(45.5, 17.5), (17.5, 45.5), (45.5, 20.5), (0.0, 0.0), (float("nan"), 3.0)], "HRV")
    assert found == ["in place", "swapped", "outside", "null island", "unreadable"]
    assert kinds == ["swapped", "unreadable", "null_island", "outside"]


def test_the_shore_belongs_to_the_region():
    rijeka_bay = (45.25, 14.44)  # at sea, some km off the nearest island
    assert fates([rijeka_bay], "HRV", shore_km=0)[0] == ["outside"]
    assert fates([rijeka_bay], "HRV", shore_km=20)[0] == ["in place"]


@pytest.mark.parametrize("lat_lon", [[], [(None, None)], [(45.0, 16.0)], [(0.0, 0.0)] * 5])
def test_nothing_to_hold_against_is_no_fault_of_the_records(lat_lon):
    for region in (None, "HRV"):
        _, kinds = fates(lat_lon, region)
        assert set(kinds) <= {"null_island", "outside"}
