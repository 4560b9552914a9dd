from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Geod
from shapely.geometry import LineString, Point, Polygon, box

from waymark.errors import RegionError
from waymark.geo import extent_region, load_land, load_region

SQUARE = box(15.0, 45.0, 16.0, 46.0)
BOW_TIE = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])


def write(path, shapes, crs="EPSG:4326"):
    gpd.GeoDataFrame(geometry=shapes, crs=crs).to_file(path)
    return path


def test_every_code_with_an_outline_loads_valid_polygons_on_earth():
    codes = load_land()["code"].dropna()
    assert codes.is_unique
    assert len(codes) == 248
    for code in codes:
        region = load_region(code)
        west, south, east, north = region.total_bounds
        assert region.crs == "EPSG:4326"
        assert region.is_valid.all()
        assert set(region.geom_type) <= {"Polygon", "MultiPolygon"}
        assert -180 <= west < east <= 180, code
        assert -90 <= south < north <= 90, code


@pytest.mark.parametrize(
    ("code", "area_km2"), [("HRV", 56_594), ("FRA", 551_500), ("RUS", 17_098_246), ("ATA", 14_200_000), ("FJI", 18_274)]
)
def test_areas_are_within_fifteen_percent_of_the_published_ones(code, area_km2):
    shape = shapely.orient_polygons(load_region(code).geometry.iloc[0])
    ours_km2 = Geod(ellps="WGS84").geometry_area_perimeter(shape)[0] / 1e6
    assert ours_km2 == pytest.approx(area_km2, rel=0.15)


def test_zagreb_lies_in_croatia_and_the_open_sea_in_no_land():
    assert load_region("HRV").covers(Point(15.982, 45.815)).all()
    assert not load_land().covers(Point(15.5, 43.0)).any()
    assert load_land().covers(Point(44.065, 9.56)).sum() == 1  # Hargeisa, in a shape without a code


def test_a_territory_with_a_code_of_its_own_is_not_its_owners():
    assert load_region("FRA").total_bounds[1] > 41
    assert load_region("GUF").total_bounds[0] < -54
    assert load_region("NOR").total_bounds[3] == pytest.approx(71.2, abs=0.2)
    assert load_region("SJM").total_bounds[3] > 80


def test_russia_and_fiji_end_at_the_antimeridian_on_both_sides():
    for code in ("RUS", "FJI"):
        parts = load_region(code).explode().bounds
        assert (parts["maxx"] == 180).any()
        assert (parts["minx"] == -180).any()
        assert ((parts["maxx"] - parts["minx"]) < 181).all()


def test_what_a_caller_does_to_a_region_leaves_the_next_one_alone():
    region = load_region("HRV")
    region.loc[0, "name"] = "changed"
    load_land()["name"] = "changed"
    assert load_region("HRV")["name"].tolist() == ["Croatia"]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("hrv", "did you mean 'HRV'"),
        ("Croatia", "did you mean 'HRV'"),
        ("HR", "did you mean 'HRV'"),
        ("Kroatia", "did you mean 'HRV'"),
        ("HVR", "did you mean 'HRV'"),
        ("VAT", "Holy See.*has no outline here; name a file, or set region: null"),
        ("TKL", "Tokelau.*has no outline here"),
        ("nowhere at all", "use an alpha-3 code such as HRV, or name a file"),
        ("", "use an alpha-3 code"),
        ("outlines/none.gpkg", "does not exist; name a vector file"),
        (Path("HRV"), "region file HRV does not exist"),
    ],
)
def test_an_unknown_region_is_refused_with_a_remedy_in_one_line(region, message):
    with pytest.raises(RegionError, match=message) as caught:
        load_region(region)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["region.gpkg", "region.geojson", "region.shp.zip", "region.parquet"])
def test_vector_files_load_in_degrees(tmp_path, name):
    path = tmp_path / name
    table = gpd.GeoDataFrame(geometry=[SQUARE], crs="EPSG:4326")
    if name != "region.geojson":
        table = table.to_crs("EPSG:3765")
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    for region in (load_region(path), load_region(str(path))):
        assert region.crs == "EPSG:4326"
        np.testing.assert_allclose(region.total_bounds, SQUARE.bounds, atol=1e-6)


def test_invalid_polygons_in_a_file_are_repaired_and_lines_left_out(tmp_path):
    region = load_region(write(tmp_path / "mixed.gpkg", [BOW_TIE, LineString([(0, 0), (1, 1)]), None]))
    assert len(region) == 1
    assert region.is_valid.all()
    assert shapely.area(region.geometry.to_numpy()).sum() == pytest.approx(2.0)


def test_bad_files_are_refused(tmp_path):
    text, plain, empty = tmp_path / "a.txt", tmp_path / "plain.parquet", tmp_path / "empty.geojson"
    text.write_text("hello")
    pd.DataFrame({"a": [1]}).to_parquet(plain)
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    without_crs = tmp_path / "none.parquet"
    gpd.GeoDataFrame(geometry=[SQUARE]).to_parquet(without_crs)
    cases = {
        text: "cannot be read .*use GeoPackage",
        plain: "cannot be read",
        empty: "is empty; use a file with at least one polygon",
        without_crs: "has no CRS; set one",
        write(tmp_path / "points.gpkg", [Point(1, 2)]): "no polygon, only Point; draw the outline",
        write(tmp_path / "metres.gpkg", [box(4e5, 5e6, 5e5, 6e6)]): "beyond the Earth; its CRS is EPSG:4326",
    }
    for path, message in cases.items():
        with pytest.raises(RegionError, match=message) as caught:
            load_region(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "points",
    [[(45.0, 16.0)], [(45.0, 16.0), (46.0, 17.0)], [(0.0, 179.9), (1.0, -179.9)], [(90.0, 0.0)], [(0.0, 180.0)]],
)
def test_extent_holds_its_points_with_a_margin_and_is_small(points):
    region = extent_region(points)
    assert region.is_valid.all()
    assert region.covers(shapely.points(np.array(points)[:, ::-1].tolist())[0]).all()
    for latitude, longitude in points:
        assert region.covers(Point(longitude, latitude)).all()
        if abs(latitude) < 89:
            assert region.covers(Point(longitude, latitude + 0.049)).all()
    assert region.union_all().area < 12


def test_extent_ignores_new_points_inside_it():
    points = [(45.0, 16.0), (46.0, 17.0)]
    assert extent_region(points).geom_equals(extent_region([*points, (45.5, 16.9)])).all()


def test_extent_of_no_point_is_refused():
    with pytest.raises(RegionError, match=r"no coordinates .*set region to a code"):
        extent_region(np.empty((0, 2)))
