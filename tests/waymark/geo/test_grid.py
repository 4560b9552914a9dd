import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod
from shapely.geometry import box

from waymark.errors import CoordinateError, GridError
from waymark.geo import assign_cells, build_grid, extent_region, load_region, project

HTRS = "EPSG:3765"
GEOD = Geod(ellps="WGS84")
SPACINGS = [{"spacing_m": 25_000}, {"spacing_deg": 0.21}, {"cells": 100}]


def rectangle(west, south, east, north):
    return gpd.GeoDataFrame(geometry=[box(west, south, east, north)], crs="EPSG:4326")


def area_km2(shape):
    return GEOD.geometry_area_perimeter(shapely.orient_polygons(shape))[0] / 1e6


@pytest.fixture(scope="module")
def croatia():
    return load_region("HRV")


@pytest.fixture(scope="module", params=SPACINGS, ids=lambda spacing: next(iter(spacing)))
def grid(request, croatia):
    return build_grid(croatia, crs=HTRS, **request.param)


def test_cells_do_not_overlap(grid):
    left, right = shapely.STRtree(grid.geometry).query(grid.geometry, predicate="intersects")
    pairs = left < right
    shapes = grid.geometry.to_numpy()
    assert pairs.sum() > len(grid)  # neighbours touch
    assert shapely.area(shapely.intersection(shapes[left[pairs]], shapes[right[pairs]])).max() == 0


def test_cells_cover_all_of_the_land_and_none_is_without(grid, croatia):
    land = croatia.to_crs(HTRS).union_all()
    assert land.difference(grid.union_all()).area < 1  # m2, of 5.5e10
    assert (shapely.area(shapely.intersection(grid.geometry.to_numpy(), land)) > 0).all()


def test_the_areas_of_land_sum_to_the_countrys_on_the_ellipsoid(grid, croatia):
    assert grid["area_km2"].min() > 0
    assert grid["area_km2"].sum() == pytest.approx(area_km2(croatia.segmentize(0.05).iloc[0]), rel=3e-6)


def test_the_area_of_one_cell_is_that_of_its_land(grid, croatia):
    land = croatia.to_crs(HTRS).union_all()
    for cell in (0, len(grid) // 2, len(grid) - 1):
        part = gpd.GeoSeries([grid.geometry[cell].intersection(land)], crs=HTRS).to_crs("EPSG:4326").iloc[0]
        assert grid["area_km2"][cell] == pytest.approx(area_km2(part), rel=1e-3)


def test_columns_and_order(grid):
    assert sorted(grid.columns) == ["area_km2", "cell", "clipped", "geometry", "latitude", "longitude"]
    assert grid["cell"].dtype == np.int64
    assert grid["clipped"].dtype == bool
    assert grid["cell"].tolist() == list(range(len(grid)))
    assert grid.crs == HTRS
    middle = grid.geometry.centroid
    assert middle.y.iloc[0] < middle.y.iloc[-1]


def test_centres_are_on_land_in_their_own_cell_and_clipped_only_where_they_must(grid, croatia):
    land = shapely.buffer(croatia.union_all(), 1e-5)  # 1 m, for edges straight in degrees bend in metres
    lat_lon = grid[["latitude", "longitude"]].to_numpy()
    assert shapely.covers(land, shapely.points(lat_lon[:, ::-1])).all()
    assert assign_cells(grid, lat_lon).tolist() == grid["cell"].tolist()
    middle = grid.geometry.centroid
    off_m = np.hypot(*(project(lat_lon, HTRS) - np.column_stack([middle.x, middle.y])).T)
    assert 0 < grid["clipped"].sum() < len(grid)
    assert off_m[~grid["clipped"]].max() < 10  # the middle in degrees is not quite the quadrilateral's centroid
    assert off_m[grid["clipped"]].min() > 0


def test_numbers_of_cells_of_croatia(croatia):
    assert len(build_grid(croatia, spacing_deg=0.21, crs=HTRS)) == 239
    assert len(build_grid(croatia, spacing_m=25_000, crs=HTRS)) == 160
    assert len(build_grid(croatia, spacing_m=40_000, crs=HTRS)) == 75


@pytest.mark.parametrize("cells", [1, 7, 205])
def test_wanted_number_of_cells_is_met_closely(croatia, cells):
    assert abs(len(build_grid(croatia, cells=cells, crs=HTRS)) - cells) <= 0.02 * cells


def test_squares_start_at_multiples_of_the_spacing_so_a_wider_region_does_not_shift_them():
    small = build_grid(rectangle(16.0, 45.0, 16.5, 45.5), spacing_m=10_000, crs=HTRS)
    large = build_grid(rectangle(15.7, 44.9, 16.5, 45.5), spacing_m=10_000, crs=HTRS)
    corners = shapely.get_coordinates(small.geometry)
    assert (corners % 10_000 == 0).all()
    assert {shape.wkb for shape in small.geometry} < {shape.wkb for shape in large.geometry}


def test_a_region_within_a_square_that_touches_the_next_one_makes_one_cell():
    region = rectangle(16.0, 45.0, 16.5, 45.5)
    assert len(build_grid(region, spacing_deg=0.5, crs=HTRS)) == 1
    assert len(build_grid(region, spacing_deg=0.25, crs=HTRS)) == 4


def test_grid_repeats_to_the_byte(croatia, tmp_path):
    for name in ("a", "b"):
        build_grid(croatia, spacing_m=25_000, crs=HTRS).to_parquet(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("code", "spacing"), [("FJI", {"spacing_deg": 0.3}), ("FJI", {"spacing_m": 30_000}), ("ATA", {"spacing_deg": 7})]
)
def test_grids_across_the_antimeridian_and_over_a_pole(code, spacing):
    region = load_region(code)
    grid = build_grid(region, crs="auto", **spacing)
    assert grid["area_km2"].sum() == pytest.approx(area_km2(region.geometry.iloc[0]), rel=1e-4)
    assert assign_cells(grid, grid[["latitude", "longitude"]].to_numpy()).tolist() == grid["cell"].tolist()


def test_a_region_on_the_seam_of_its_crs_is_refused():
    with pytest.raises(GridError, match=r"seam .*set crs: auto"):
        build_grid(rectangle(-31.0, 60.0, -29.0, 62.0), spacing_m=50_000, crs="+proj=merc +lon_0=150 +type=crs")


def test_every_place_gets_the_cell_that_holds_it_by_arithmetic(grid, croatia):
    points = croatia.sample_points(500, rng=3).explode().get_coordinates().to_numpy()[:, ::-1]
    cells = assign_cells(grid, points)
    holds = shapely.intersects(grid.geometry.to_numpy()[cells], shapely.points(project(points, HTRS)))
    assert holds.all()


def test_off_the_squares_the_nearest_cell_wins(croatia):
    grid = build_grid(croatia, spacing_m=25_000, crs=HTRS)
    places = np.array([(43.2, 15.2), (42.4, 17.5), (46.7, 16.0), (45.3, 14.9)])
    apart_m = shapely.distance(shapely.points(project(places, HTRS))[:, None], grid.geometry.to_numpy())
    assert assign_cells(grid, places).tolist() == apart_m.argmin(axis=1).tolist()
    assert (apart_m.min(axis=1) > 0).sum() >= 2


def test_on_a_border_the_lower_number_wins():
    region = rectangle(16.0, 45.0, 17.0, 46.0)
    grid = build_grid(region, spacing_deg=0.5, crs="EPSG:8857")  # parallels are straight lines there
    assert assign_cells(grid, [(45.5, 16.25), (45.5, 16.5), (45.25, 16.75), (45.75, 16.25)]).tolist() == [0, 0, 1, 2]


def test_cells_read_again_from_a_file_in_another_order_assign_the_same(tmp_path, croatia):
    grid = build_grid(croatia, spacing_m=40_000, crs=HTRS)
    grid.iloc[::-1].to_parquet(tmp_path / "cells.parquet")
    points = croatia.sample_points(200, rng=5).explode().get_coordinates().to_numpy()[:, ::-1]
    again = gpd.read_parquet(tmp_path / "cells.parquet")
    assert assign_cells(again, points).tolist() == assign_cells(grid, points).tolist()


@pytest.mark.parametrize("spacing", [{"spacing_m": 25_000}, {"spacing_deg": 0.21}], ids=str)
def test_with_places_exactly_their_squares_are_laid_where_the_whole_grid_has_them(croatia, spacing):
    places = croatia.sample_points(60, rng=5).explode().get_coordinates().to_numpy()[:, ::-1]
    whole = build_grid(croatia, crs=HTRS, **spacing)
    some = build_grid(croatia, crs=HTRS, places=places, **spacing)
    held = whole.iloc[np.unique(assign_cells(whole, places))]
    assert [shape.wkb for shape in some.geometry] == [shape.wkb for shape in held.geometry]
    assert some["area_km2"].tolist() == held["area_km2"].tolist()
    assert some["cell"].tolist() == list(range(len(held)))


def test_with_places_a_continent_is_no_matter_and_cells_are_those_with_a_place():
    places = np.random.default_rng(1).uniform((36, -9), (60, 30), (300, 2))
    extent = extent_region(places)
    with pytest.raises(GridError, match="more than 200,000 cells"):
        build_grid(extent, spacing_m=3_000, crs="auto")
    grid = build_grid(extent, spacing_m=3_000, crs="auto", places=places)
    assert len(grid) == len(np.unique(assign_cells(grid, places))) > 290
    wanted = build_grid(extent, cells=100, crs="auto", places=places)
    assert abs(len(wanted) - 100) <= 2
    assert len(np.unique(assign_cells(wanted, places))) == len(wanted)
    assert len(build_grid(extent_region(places[:3]), cells=50, crs="auto", places=places[:3])) == 3


def test_places_on_the_edges_of_the_world_have_their_squares():
    places = np.array([(10.0, 180.0), (90.0, 0.0), (-90.0, -180.0)])
    grid = build_grid(extent_region(places), spacing_deg=5, crs="auto", places=places)
    assert len(np.unique(assign_cells(grid, places))) == len(grid) == 3


def test_no_places_get_no_cells_and_places_elsewhere_raise(grid):
    assert assign_cells(grid, np.empty((0, 2))).tolist() == []
    with pytest.raises(CoordinateError, match="swap latitude and longitude"):
        assign_cells(grid, [(16.0, 45.5)])


def test_a_grid_without_cells_or_crs_is_refused(grid):
    with pytest.raises(GridError, match="no cells or no CRS"):
        assign_cells(grid.iloc[:0], [(45.0, 16.0)])


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        ({}, "set exactly one of spacing_m, spacing_deg and cells, the others null; set: none"),
        ({"spacing_m": 1000, "cells": 5}, "set: spacing_m, cells"),
        ({"spacing_m": 0}, "spacing_m is 0; it must be a number above 0"),
        ({"spacing_m": float("nan")}, "spacing_m is nan"),
        ({"spacing_m": float("inf")}, "spacing_m is inf"),
        ({"spacing_deg": -1}, "spacing_deg is -1"),
        ({"spacing_deg": 200}, "spacing_deg is 200; .* below 180"),
        ({"cells": 0}, "cells is 0; it must be a whole number from 1"),
        ({"cells": 2.5}, "cells is 2.5; it must be a whole number"),
        ({"cells": 1_000_000}, r"cells is 1e\+06; it must be a whole number"),
        ({"spacing_m": 10}, "more than 200,000 cells; use more than 52"),
        ({"spacing_deg": 1e-4}, "more than 200,000 cells"),
    ],
)
def test_spacings_that_make_no_grid_are_refused(croatia, spacing, message):
    with pytest.raises(GridError, match=message):
        build_grid(croatia, crs=HTRS, **spacing)


def test_a_region_in_metres_or_without_polygons_is_refused(croatia):
    with pytest.raises(GridError, match="the region is in EPSG:3765, not in EPSG:4326"):
        build_grid(croatia.to_crs(HTRS), spacing_m=25_000, crs=HTRS)
    with pytest.raises(GridError, match="the region has no polygon"):
        build_grid(croatia.iloc[:0], spacing_m=25_000, crs=HTRS)
    with pytest.raises(CoordinateError, match="outside the area of use"):
        build_grid(load_region("FRA"), spacing_m=25_000, crs=HTRS)
