import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
import shapely
from closure import ROOT
from geopandas.testing import assert_geodataframe_equal
from plain_cpu import PLAIN_CPU
from shapely.geometry import box

from waymark.errors import CoordinateError, GridError
from waymark.geo import assign_cells, build_grid, build_quadtree, load_region, project
from waymark.geo.joining import join_poor

HTRS = "EPSG:3765"
TOWNS = ((45.80, 15.97, 0.08), (43.52, 16.45, 0.05), (45.33, 14.44, 0.2), (45.0, 16.5, 0.8))


def rectangle(west, south, east, north):
    return gpd.GeoDataFrame(geometry=[box(west, south, east, north)], crs="EPSG:4326")


def town_records(number=150):
    """Records crowded around towns on the land and off its shore, and a few scattered ones."""
    rng = np.random.default_rng(4)
    around = [rng.normal((latitude, longitude), spread, (number, 2)) for latitude, longitude, spread in TOWNS]
    records = np.concatenate(around)
    inside = (np.abs(records[:, 0] - 44.4) < 2) & (np.abs(records[:, 1] - 16.4) < 2.8)
    return records[inside]


@pytest.fixture(scope="module")
def croatia():
    return load_region("HRV")


@pytest.fixture(scope="module")
def records():
    return town_records()


@pytest.fixture(scope="module", params=[(1, None), (7, None), (7, 60), (40, None)], ids=str)
def made(request, croatia, records):
    """A quadtree, and how many records each of its cells has to hold."""
    min_records, most = request.param
    return build_quadtree(
        croatia, records, spacing_m=40_000, min_records=min_records, max_records=most, crs=HTRS
    ), min_records


def held(grid, lat_lon):
    return np.bincount(assign_cells(grid, lat_lon), minlength=len(grid))


def test_cells_of_a_quadtree_do_not_overlap_and_cover_all_of_the_land(made, croatia):
    grid, _ = made
    left, right = shapely.STRtree(grid.geometry).query(grid.geometry, predicate="intersects")
    shapes = grid.geometry.to_numpy()
    pairs = left < right
    assert shapely.area(shapely.intersection(shapes[left[pairs]], shapes[right[pairs]])).max() == 0
    land = croatia.to_crs(HTRS).union_all()
    assert land.difference(grid.union_all()).area < 1  # m2, of 5.5e10
    assert (shapely.area(shapely.intersection(shapes, land)) > 0).all()
    assert grid["area_km2"].sum() == pytest.approx(
        build_grid(croatia, spacing_m=40_000, crs=HTRS)["area_km2"].sum(), rel=1e-6
    )


def test_each_cell_holds_no_training_record_or_enough(made, records):
    grid, min_records = made
    counts = held(grid, records)
    assert counts.sum() == len(records)
    assert counts[counts > 0].min() >= min_records
    assert (counts > 0).sum() > 5


@pytest.mark.parametrize("most", [1, 5, 40])
def test_a_square_with_more_records_than_wished_is_cut_unless_it_is_of_the_smallest_side(most):
    region = rectangle(16.0, 45.0, 17.0, 46.0)
    records = np.random.default_rng(5).normal((45.5, 16.5), 0.1, (600, 2))
    grid = build_quadtree(
        region, records, spacing_m=40_000, min_records=1, max_records=most, min_spacing_m=1_250, crs=HTRS
    )
    sides_m, counts = grid.length.to_numpy() / 4, held(grid, records)
    assert set(sides_m) <= {40_000, 20_000, 10_000, 5_000, 2_500, 1_250}
    assert len(set(sides_m)) >= 4
    together = np.floor(project(records, HTRS) / 1_250)
    cell = assign_cells(grid, records)
    for full in np.flatnonzero((counts > most) & (sides_m > 1_250)):
        assert len(np.unique(together[cell == full], axis=0)) == 1  # cutting would tell none from another


def test_columns_are_those_of_the_squares_and_centres_lie_on_land_in_their_own_cell(made, croatia):
    grid, _ = made
    squares = build_grid(croatia, spacing_m=40_000, crs=HTRS)
    assert grid.dtypes.to_dict() == squares.dtypes.to_dict()
    assert grid["cell"].tolist() == list(range(len(grid)))
    lat_lon = grid[["latitude", "longitude"]].to_numpy()
    assert assign_cells(grid, lat_lon).tolist() == grid["cell"].tolist()
    land = shapely.buffer(croatia.union_all(), 1e-5)
    assert shapely.covers(land, shapely.points(lat_lon[:, ::-1])).all()
    off_m = shapely.distance(grid.geometry.centroid, shapely.points(project(lat_lon, HTRS)))
    assert off_m[~grid["clipped"]].max() < 1
    assert off_m[grid["clipped"]].min() > 0


def test_cells_are_finer_where_there_are_more_records(croatia, records):
    grid = build_quadtree(croatia, records, spacing_m=40_000, min_records=7, crs=HTRS)
    zagreb, split, slavonia = assign_cells(grid, [(45.8, 15.97), (43.52, 16.45), (45.4, 17.7)])
    assert grid.area[zagreb] <= 10_000**2
    assert grid.area[split] <= 10_000**2
    assert grid.area[slavonia] >= 40_000**2


def test_the_quadtree_of_one_place_is_what_a_count_by_hand_makes():
    corner = np.array([440_000, 5_040_000])
    spots = [((1_500, 1_500), 4), ((7_500, 7_500), 4), ((15_000, 15_000), 1), ((35_000, 35_000), 3)]
    xy_m = np.concatenate([np.tile(corner + np.array(spot), (times, 1)) for spot, times in spots])
    lat_lon = gpd.GeoSeries(shapely.points(xy_m), crs=HTRS).to_crs("EPSG:4326").get_coordinates().to_numpy()[:, ::-1]
    square = gpd.GeoSeries([box(*(corner + 1), *(corner + 39_999))], crs=HTRS).to_crs("EPSG:4326")
    region = gpd.GeoDataFrame(geometry=square)
    grid = build_quadtree(
        region, lat_lon, spacing_m=40_000, min_records=2, max_records=5, min_spacing_m=5_000, crs=HTRS
    )
    shapes = grid[held(grid, lat_lon) > 0].geometry
    relative = {shapely.transform(shape, lambda xy: (xy - corner) / 1_000).normalize().wkt for shape in shapes}
    # The single record's square touches the corners of two others with records; with the near one its box is smaller.
    joined = box(10, 10, 20, 20).union(box(5, 5, 10, 10))
    assert relative == {shape.normalize().wkt for shape in (joined, box(0, 0, 5, 5), box(20, 20, 40, 40))}


@pytest.mark.parametrize(
    ("corners", "held", "cell"),
    [
        ([(0, 0, 1, 1), (1, 0, 2, 1), (2, 0, 3, 1)], (5, 1, 3), [0, 1, 1]),  # of equal boxes the one with fewer records
        ([(0, 0, 1, 1), (1, 0, 2, 1), (2, 0, 3, 1)], (3, 1, 3), [0, 0, 1]),  # of equals the first
        ([(0, 0, 4, 4), (4, 0, 5, 1), (5, 0, 6, 1)], (3, 1, 5), [0, 1, 1]),  # the smaller box goes before fewer records
        ([(0, 0, 4, 4), (4, 0, 5, 1), (5, 1, 6, 2)], (3, 1, 3), [0, 0, 1]),  # an edge goes before a corner
        ([(0, 0, 1, 1), (1, 1, 2, 2), (2, 4, 3, 5)], (3, 1, 3), [0, 0, 1]),  # a corner goes before a gap
        ([(0, 0, 1, 1), (3, 0, 4, 1), (0, 4, 1, 5)], (1, 3, 3), [0, 0, 1]),  # the nearest
        ([(0, 0, 1, 1), (1, 0, 2, 1), (9, 0, 10, 1)], (2, 0, 3), [0, 1, 2]),  # empty ones are left alone
    ],
)
def test_a_cell_with_too_few_records_joins_its_best_neighbour(corners, held, cell):
    middles = [((west + east) / 2, (south + north) / 2) for west, south, east, north in corners]
    xy_m = np.repeat(middles, held, axis=0)
    least = 2
    edges = np.array(corners).T
    assert join_poor(edges, shapely.box(*edges), xy_m, least).tolist() == cell


def joined_by_comparing_all(corners, held, least):
    """The rule of joining, written down as it is said: each time every pair of squares is looked at."""
    cells = {number: {number} for number, count in enumerate(held) if count}
    total = dict(enumerate(held))

    def gap(one, other):
        dx, dy = (max(0, max(one[k], other[k]) - min(one[k + 2], other[k + 2])) for k in (0, 1))
        edge = any(min(one[k + 2], other[k + 2]) > max(one[k], other[k]) for k in (0, 1))
        return (dx * dx + dy * dy, 0 if edge else 1)  # of squares that touch, those with an edge in common first

    def near(poorest, other):
        return min(gap(corners[i], corners[j]) for i in cells[poorest] for j in cells[other])

    def side(squares):
        west, south, east, north = zip(*(corners[i] for i in squares), strict=True)
        return max(max(east) - min(west), max(north) - min(south))

    while len(cells) > 1 and min(total[number] for number in cells) < least:
        poorest = min(cells, key=lambda number: (total[number], number))
        others = [number for number in cells if number != poorest]
        touch = {number: near(poorest, number) for number in others}
        key = {number: (d, corner if d == 0 else 0) for number, (d, corner) in touch.items()}
        best = min(others, key=lambda n: (key[n], side(cells[n] | cells[poorest]), total[n], n))
        cells[best] |= cells.pop(poorest)
        total[best] += total[poorest]
    return {frozenset(squares) for squares in cells.values()}


@pytest.mark.parametrize("seed", range(12))
def test_joining_follows_its_rule(seed):
    rng = np.random.default_rng(seed)
    corners = []
    for west, south in rng.permutation([(x, y) for x in range(0, 24, 4) for y in range(0, 24, 4)])[:20]:
        size = int(rng.choice([1, 2, 4]))
        quarters = [(west + i, south + j) for i in range(0, 4, size) for j in range(0, 4, size)]
        corners += [(int(x), int(y), int(x) + size, int(y) + size) for x, y in quarters if rng.random() < 0.8]
    corners.sort(key=lambda box: (box[1], box[0]))
    held = rng.choice([0, 1, 2, 3, 9], len(corners))
    middles = [((west + east) / 2, (south + north) / 2) for west, south, east, north in corners]
    edges = np.array(corners).T
    cell = join_poor(edges, shapely.box(*edges), np.repeat(middles, held, axis=0), 5)
    squares = {frozenset(np.flatnonzero((cell == number) & (held > 0))) for number in np.unique(cell[held > 0])}
    assert squares == joined_by_comparing_all(corners, held.tolist(), 5)
    assert 1 < len(squares) < (held > 0).sum()


def test_cells_are_numbered_by_their_first_squares(croatia, records):
    squares = build_quadtree(croatia, records, spacing_m=40_000, min_records=1, crs=HTRS)
    assert squares.bounds.sort_values(["miny", "minx"]).index.tolist() == squares["cell"].tolist()


def test_a_quadtree_that_cuts_and_joins_nothing_is_the_grid_of_squares(croatia, records):
    squares = build_grid(croatia, spacing_m=40_000, crs=HTRS)
    whole = build_quadtree(croatia, records, spacing_m=40_000, min_records=1, max_records=10_000, crs=HTRS)
    assert_geodataframe_equal(whole, squares)
    empty = build_quadtree(croatia, np.empty((0, 2)), spacing_m=40_000, min_records=5, crs=HTRS)
    assert_geodataframe_equal(empty, squares)


def test_the_order_of_the_records_does_not_matter(croatia, records, tmp_path):
    shuffled = np.random.default_rng(2).permutation(records)
    for name, order in (("a", records), ("b", shuffled)):
        build_quadtree(croatia, order, spacing_m=40_000, min_records=7, crs=HTRS).to_parquet(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_bytes_are_the_same_on_a_plain_cpu(croatia, records, tmp_path):
    np.save(tmp_path / "records.npy", records)
    code = (
        "import sys, numpy as np; from waymark.geo import build_quadtree, load_region\n"
        "records = np.load('records.npy')\n"
        "grid = build_quadtree(load_region('HRV'), records, spacing_m=40_000, min_records=7, crs='EPSG:3765')\n"
        "grid.to_parquet(sys.argv[1])"
    )
    for name, variables in (("own", {}), ("plain", PLAIN_CPU)):
        env = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, name], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "own").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("number", [3, 500])
def test_records_of_one_spot_are_one_cell_and_cut_nothing(croatia, number):
    grid = build_quadtree(croatia, [[45.8, 15.97]] * number, spacing_m=40_000, min_records=5, crs=HTRS)
    assert_geodataframe_equal(grid, build_grid(croatia, spacing_m=40_000, crs=HTRS))


def test_fewer_records_than_wanted_are_one_cell_of_all_their_squares(croatia):
    records = [(45.8, 15.97), (43.52, 16.45), (45.1, 14.0), (44.9, 18.8)]
    grid = build_quadtree(croatia, records, spacing_m=40_000, min_records=5, crs=HTRS)
    assert sorted(held(grid, records))[-2:] == [0, 4]
    assert grid.geom_type.value_counts().to_dict() == {"Polygon": len(grid) - 1, "MultiPolygon": 1}
    assert len(grid) == len(build_grid(croatia, spacing_m=40_000, crs=HTRS)) - 3


def test_records_off_the_outline_count_where_they_are_assigned():
    """Ten records at sea, nearest to the eastern of two cells, which alone has too few."""
    region = rectangle(16.0, 45.0, 16.1, 45.05)
    at_sea = [(45.2, 16.09)] * 10
    ashore = [(45.02, 16.05)] * 2
    only = build_quadtree(region, ashore * 2, spacing_m=4_000, min_records=5, crs=HTRS)
    assert held(only, ashore * 2).max() == 4
    grid = build_quadtree(region, at_sea + ashore * 3, spacing_m=4_000, min_records=5, max_records=100, crs=HTRS)
    assert sorted(held(grid, at_sea + ashore * 3))[-2:] == [6, 10]
    joined = build_quadtree(region, at_sea + ashore, spacing_m=4_000, min_records=5, max_records=100, crs=HTRS)
    assert sorted(held(joined, at_sea + ashore))[-2:] == [0, 12]


def test_records_on_borders_count_in_the_lower_cell_also_after_joining():
    region = gpd.GeoDataFrame(
        geometry=gpd.GeoSeries([box(500_001, 5_000_001, 539_999, 5_039_999)], crs=HTRS).to_crs("EPSG:4326")
    )
    rng = np.random.default_rng(3)
    xy_m = np.column_stack([rng.integers(1, 8, 60) * 5_000 + 500_000, rng.integers(1, 8, 60) * 5_000 + 5_000_000])
    lat_lon = gpd.GeoSeries(shapely.points(xy_m), crs=HTRS).to_crs("EPSG:4326").get_coordinates().to_numpy()[:, ::-1]
    assert (project(lat_lon, HTRS) == xy_m).all()
    for min_records in range(2, 12):
        grid = build_quadtree(region, lat_lon, spacing_m=20_000, min_records=min_records, min_spacing_m=5_000, crs=HTRS)
        counts = held(grid, lat_lon)
        assert counts[counts > 0].min() >= min_records


@pytest.mark.parametrize("code", ["FJI", "ATA"])
def test_quadtrees_across_the_antimeridian_and_over_a_pole(code):
    region = load_region(code)
    rng = np.random.default_rng(1)
    records = region.sample_points(300, rng=rng).explode().get_coordinates().to_numpy()[:, ::-1]
    spacing_m = 100_000 if code == "FJI" else 1_000_000
    grid = build_quadtree(region, records, spacing_m=spacing_m, min_records=10, crs="auto")
    squares = build_grid(region, spacing_m=spacing_m, crs="auto")
    assert grid["area_km2"].sum() == pytest.approx(squares["area_km2"].sum(), rel=1e-3)
    counts = held(grid, records)
    assert counts[counts > 0].min() >= 10
    assert (counts > 0).sum() > 5
    assert assign_cells(grid, grid[["latitude", "longitude"]].to_numpy()).tolist() == grid["cell"].tolist()


def test_with_places_only_their_squares_are_laid(croatia, records):
    some = records[:200]
    grid = build_quadtree(croatia, some, spacing_m=40_000, min_records=3, crs=HTRS, places=some)
    whole = build_quadtree(croatia, some, spacing_m=40_000, min_records=3, crs=HTRS)
    assert len(grid) < len(whole)
    assert held(grid, some)[held(grid, some) > 0].tolist() == held(whole, some)[held(whole, some) > 0].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_records": 0}, "min_records is 0; it must be 1 or more"),
        ({"max_records": 4}, "max_records is 4, below min_records 5; raise it"),
        ({"min_spacing_m": 50_000}, "spacing_m is 40000 and min_spacing_m 50000; spacing_m must"),
        ({"min_spacing_m": 0.5}, "and that at least 1 m"),
        ({"spacing_m": float("nan")}, "spacing_m is nan"),
        ({"spacing_m": 10, "min_spacing_m": 5}, "more than 200,000 cells"),
    ],
)
def test_parameters_that_make_no_quadtree_are_refused(croatia, records, changes, message):
    with pytest.raises(GridError, match=message):
        build_quadtree(croatia, records, **{"spacing_m": 40_000, "min_records": 5, "crs": HTRS, **changes})


def test_records_and_regions_elsewhere_are_refused(croatia, records):
    with pytest.raises(CoordinateError, match="swap latitude and longitude"):
        build_quadtree(croatia, records[:, ::-1], spacing_m=40_000, min_records=5, crs=HTRS)
    with pytest.raises(GridError, match="the region is in EPSG:3765"):
        build_quadtree(croatia.to_crs(HTRS), records, spacing_m=40_000, min_records=5, crs=HTRS)
