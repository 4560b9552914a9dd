import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import report_frames as made
from shapely import box

from waymark.report import maps
from waymark.report.geometry import frame, rings


def points(drawn):
    return drawn.data[-1]


def test_error_map_shows_test_records_with_a_place():
    predictions = made.predictions(100, without_place=20)
    drawn = maps.error_map(predictions, made.region(), worst=5)
    known = predictions[predictions["split"] == "test"].dropna(subset=["distance_km"]).sort_values("distance_km")
    np.testing.assert_allclose(points(drawn).y, known["latitude"], atol=1e-5)
    np.testing.assert_allclose(points(drawn).x, known["longitude"], atol=1e-5)
    np.testing.assert_allclose(points(drawn).marker.color, np.log10(np.maximum(known["distance_km"], 1)), atol=1e-3)
    worst_lines, all_lines = drawn.data[1:3]
    assert (len(worst_lines.x), len(all_lines.x)) == (3 * 5, 3 * len(known))
    np.testing.assert_allclose(
        worst_lines.y[:2], known.iloc[-1][["latitude", "predicted_latitude"]].astype(float), rtol=1e-6
    )
    assert (worst_lines.visible, all_lines.visible) == (True, False)


@pytest.mark.parametrize("empty", ["latitude", "distance_km"])
def test_error_map_without_places_says_so(empty):
    drawn = maps.error_map(made.predictions(10).assign(**{empty: None}), title="cells")
    assert "no map" in drawn.layout.annotations[0].text
    assert not drawn.data


def test_maps_keep_the_shape_of_the_land():
    drawn = maps.error_map(made.predictions(50), made.region())
    south, north = drawn.layout.yaxis.range
    assert drawn.layout.yaxis.scaleanchor == "x"
    assert drawn.layout.yaxis.scaleratio == pytest.approx(1 / np.cos(np.radians((south + north) / 2)))


def test_thirty_thousand_records_are_thinned_but_the_worst_stay():
    world = made.world(30_000)
    drawn = maps.error_map(world, made.world_region(), worst=25)
    assert len(points(drawn).x) <= maps.MOST_POINTS
    worst = world[world["split"] == "test"].nlargest(25, "distance_km")
    np.testing.assert_allclose(points(drawn).y[-25:][::-1], worst["latitude"], atol=1e-5)


def test_answers_across_the_antimeridian_take_the_shorter_way():
    one = made.predictions(2).tail(1).assign(latitude=-17.0, longitude=179.9, predicted_latitude=-17.0)
    drawn = maps.error_map(one.assign(predicted_longitude=-179.9))
    start, end = drawn.data[0].x[:2]
    assert end - start == pytest.approx(0.2, abs=1e-4)


def test_a_region_across_the_antimeridian_is_in_one_piece():
    fiji = gpd.GeoDataFrame(geometry=[box(177, -19, 180, -16), box(-180, -18, -178, -16)], crs="EPSG:4326")
    view = frame(fiji, [-17.0], [-179.0])
    assert (view.west, view.east) == pytest.approx((177 - 0.15, 182 + 0.15))
    x, _ = rings(fiji.geometry.to_numpy(), view)
    assert np.nanmin(x) == 177
    assert np.nanmax(x) == 182
    assert view.unroll([-179.0, 178.0]) == pytest.approx([181, 178])


def test_a_world_wide_region_stays_whole():
    view = frame(made.world_region(), [], [])
    assert view.east - view.west == pytest.approx(360 * 1.06)
    assert frame(None, [], []).east == 180


def test_grid_map_draws_each_cell_once_in_the_class_of_its_count():
    cells = made.cells()
    counts = {0: 1, 1: 3, 2: 250}
    drawn = maps.grid_map(cells.to_crs("EPSG:3765"), counts, made.region())
    squares = {trace.name: int(np.isnan(trace.x).sum()) + 1 for trace in drawn.data if trace.fill and trace.name}
    assert squares == {"0": len(cells) - 3, "1": 1, "2–3": 1, "100 or more": 1}
    centres = {trace.name: len(trace.x) for trace in drawn.data if trace.mode == "markers"}
    assert centres == {"centre": (~cells["clipped"]).sum(), "centre moved to the land": cells["clipped"].sum()}
    assert any("250 training records" in text for trace in drawn.data if trace.mode == "markers" for text in trace.text)


def test_a_huge_grid_shows_only_cells_with_records():
    corner = np.arange(30_000) % 300 * 1.0 - 150
    height = np.arange(30_000) // 300 - 50.0
    cells = gpd.GeoDataFrame(
        {"cell": range(30_000), "area_km2": 1.0, "clipped": False, "latitude": height, "longitude": corner},
        geometry=box(corner, height, corner + 1, height + 1),
        crs="EPSG:4326",
    )
    drawn = maps.grid_map(cells, {5: 1, 29_999: 2})
    assert [len(trace.x) for trace in drawn.data if trace.mode == "markers"] == [2]
    assert "no cell" in maps.grid_map(cells, {}).layout.annotations[0].text


def test_split_map_counts_each_split():
    places = pd.concat([made.places(100), pd.DataFrame({"latitude": [None], "longitude": [None], "split": ["test"]})])
    drawn = maps.split_map(places, made.region())
    assert [trace.name for trace in drawn.data[1:]] == ["train (80)", "val (10)", "test (10)"]
    assert "no map" in maps.split_map(places.iloc[:0]).layout.annotations[0].text
