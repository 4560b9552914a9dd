import time

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from pyproj import Geod
from shapely.geometry import Polygon, box

from waymark.errors import ModelError
from waymark.geo import load_region, project, unproject
from waymark.models.land import Land

HTRS = "EPSG:3765"
SPHERE = Geod(a=6371008.8, b=6371008.8)


@pytest.fixture(scope="module")
def croatia():
    return load_region("HRV").geometry


@pytest.fixture(scope="module")
def land(croatia):
    return adapted(croatia)


def adapted(outline, crs=HTRS):
    land = Land(crs)
    land.adapt(outline)
    return land


def places_around(rows, seed=1):
    return np.random.default_rng(seed).uniform((42.0, 13.0), (47.0, 20.0), (rows, 2))


def moved(land, lat_lon):
    return land.nearest(torch.tensor(lat_lon, dtype=torch.float64)).numpy()


def test_places_go_to_the_nearest_land_of_the_full_outline(land, croatia):
    lat_lon = places_around(400)
    found = moved(land, lat_lon)
    outline = croatia.to_crs(HTRS).union_all()
    for before, after in zip(lat_lon, found, strict=True):
        start, end = (shapely.Point(project([place], HTRS, anywhere=True)[0]) for place in (before, after))
        if outline.covers(start):
            np.testing.assert_array_equal(after, before)
        else:
            assert outline.distance(end) < 20  # edges are drawn straight in degrees or in metres
            assert start.distance(end) == pytest.approx(outline.distance(start), abs=20)
    stayed = (found == lat_lon).all(axis=1)
    assert 50 < stayed.sum() < 350


def test_the_nearest_point_is_that_of_shapely_on_the_same_outline(land):
    outline = shapely.from_wkb(land.outline.numpy().tobytes())
    points = shapely.points(project(places_around(200, 2), HTRS, anywhere=True))
    found = shapely.points(project(moved(land, places_around(200, 2)), HTRS, anywhere=True))
    np.testing.assert_allclose(shapely.distance(points, found), shapely.distance(points, outline), atol=0.01)
    assert shapely.distance(found, outline).max() < 0.01


def test_a_lake_is_no_land_and_its_shore_is():
    ring = Polygon(box(15, 44, 17, 46).exterior.coords, [box(15.5, 44.5, 16.5, 45.5).exterior.coords])
    land = adapted(gpd.GeoSeries([ring], crs="EPSG:4326"))
    found = moved(land, [[45.0, 16.4], [45.0, 15.2]])
    np.testing.assert_allclose(found[0], [45.0, 16.5], atol=1e-3)
    np.testing.assert_array_equal(found[1], [45.0, 15.2])


def test_a_place_on_the_border_stays_within_a_millimetre():
    land = adapted(gpd.GeoSeries([box(15, 44, 17, 46)], crs="EPSG:4326"))
    vertices = shapely.get_coordinates(shapely.from_wkb(land.outline.numpy().tobytes()))
    halfway = (vertices[1:] + vertices[:-1]) / 2
    lat_lon = unproject(np.concatenate([vertices, halfway]), HTRS)
    np.testing.assert_allclose(moved(land, lat_lon), lat_lon, rtol=0, atol=2e-8)


def test_far_away_places_come_to_the_nearest_shore_by_great_circle(land, croatia):
    """Some of them have no place in the CRS at all."""
    far = np.array([[40.7, -74.0], [0.0, 106.5], [-45.0, -163.5], [90.0, 0.0], [-33.9, 151.2], [12.0, 16.5]])
    found = moved(land, far)
    vertices = shapely.get_coordinates(croatia.union_all())[:, ::-1]
    for before, after in zip(far, found, strict=True):
        reached = SPHERE.inv(before[1], before[0], after[1], after[0])[2]
        row = np.full(len(vertices), 1.0)
        nearest = SPHERE.inv(row * before[1], row * before[0], vertices[:, 1], vertices[:, 0])[2].min()
        assert reached == pytest.approx(nearest, abs=100)


def test_what_is_no_number_stays_none_and_the_rest_is_moved(land):
    found = moved(land, [[np.nan, np.nan], [43.0, 15.0], [np.inf, 16.0]])
    assert np.isnan(found[0]).all()
    assert not np.isfinite(found[2]).all()
    assert not np.array_equal(found[1], [43.0, 15.0])
    assert moved(land, np.empty((0, 2))).shape == (0, 2)
    assert np.isnan(moved(land, [[np.nan, np.nan]])).all()


def test_the_places_given_are_not_changed(land):
    given = torch.tensor([[43.0, 15.0]], dtype=torch.float64)
    land.nearest(given)
    assert given.tolist() == [[43.0, 15.0]]


def test_a_checkpoint_carries_the_outline_of_any_length(land, croatia):
    other = adapted(gpd.GeoSeries([box(15, 44, 17, 46)], crs="EPSG:4326"))
    lat_lon = places_around(50, 3)
    other.nearest(torch.tensor(lat_lon))
    other.load_state_dict(land.state_dict())
    np.testing.assert_array_equal(moved(other, lat_lon), moved(land, lat_lon))
    fresh = Land(HTRS)
    fresh.load_state_dict(land.state_dict())
    np.testing.assert_array_equal(moved(fresh, lat_lon), moved(land, lat_lon))
    fresh.adapt(gpd.GeoSeries([box(15, 44, 17, 46)], crs="EPSG:4326"))
    assert not np.array_equal(moved(fresh, lat_lon), moved(land, lat_lon))
    assert len(land.outline) < 100_000


def test_no_land_at_all_is_refused():
    for nothing in ([], [shapely.Point(15, 45)], [Polygon()]):
        with pytest.raises(ModelError, match="no polygon"):
            Land(HTRS).adapt(gpd.GeoSeries(nothing, crs="EPSG:4326"))
    with pytest.raises(ModelError, match="no outline was kept"):
        Land(HTRS).nearest(torch.zeros(1, 2, dtype=torch.float64))


def test_a_batch_takes_milliseconds(land):
    places = torch.tensor(places_around(300))
    land.nearest(places)
    start = time.process_time()
    land.nearest(places)
    assert time.process_time() - start < 0.3  # about 0.005 on an idle core
