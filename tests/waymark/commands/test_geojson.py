"""Answers as GeoJSON."""

import geopandas as gpd
import pytest
from shapely.geometry import box, shape

from waymark.commands.geojson import feature_collection
from waymark.report.wording import Answer

CELLS = gpd.GeoDataFrame(
    {"cell": [1, 2, 3], "probability": [0.6, 0.3, 0.1], "latitude": 45.5, "longitude": [15.5, 16.5, 17.5]},
    geometry=[box(15 + n, 45, 16 + n, 46) for n in range(3)],
    crs="EPSG:4326",
)
PLACE = {"name": "a", "latitude": 45.5, "longitude": 15.5, "radius_50_km": 10.0, "radius_90_km": 50.0, "cell": 1}


def kinds(cells):
    answer = Answer(**PLACE, probability=0.6, cells=cells)
    return [(each["properties"]["kind"], each) for each in feature_collection([answer], "m")["features"]]


def test_areas_are_the_union_of_their_cells():
    marked = CELLS.assign(in_area_50=[True, False, False], in_area_90=[True, True, False])
    areas = {each["properties"]["share"]: each for kind, each in kinds(marked) if kind == "area"}
    assert {share: each["properties"]["cells"] for share, each in areas.items()} == {0.5: 1, 0.9: 2}
    assert shape(areas[0.9]["geometry"]).area == pytest.approx(2)
    assert shape(areas[0.5]["geometry"]).equals(box(15, 45, 16, 46))


def test_without_areas_cells_and_radii_stand_alone():
    found = [kind for kind, _ in kinds(CELLS)]
    assert found == ["cell", "cell", "cell", "radius", "radius", "answer"]
    assert "area" not in [kind for kind, _ in kinds(CELLS.assign(in_area_50=False, in_area_90=False))]
