import geopandas as gpd
import numpy as np
import pytest
import torch
from pyproj import Geod
from shapely.geometry import box

from waymark.errors import ModelError
from waymark.geo import extent_region, project, unproject
from waymark.images.batches import Batch
from waymark.models.heads import Coordinates, PlaceOptions

HTRS = "EPSG:3765"
WORLD = "EPSG:8857"
NAN = float("nan")
SPHERE = Geod(a=6371008.8, b=6371008.8)
REGION = gpd.GeoDataFrame(geometry=[box(14.0, 42.5, 19.0, 46.5)], crs="EPSG:4326")
TRAIN = np.array([[43.0, 14.5], [46.0, 16.0], [45.0, 18.5], [44.0, 15.0]])
EARTH = gpd.GeoDataFrame(geometry=[box(-180, -90, 180, 90)], crs="EPSG:4326")
FIJI = gpd.GeoDataFrame(geometry=[box(177, -20, 180, -15), box(-180, -20, -178, -15)], crs="EPSG:4326")
OPTIONS = [
    {"space": "crs"},
    {"space": "crs", "scaling": "per_axis"},
    {"space": "sphere"},
    {"space": "cosine"},
    {"space": "cosine", "scaling": "per_axis"},
]
everywhere = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options.values()))
global_ones = pytest.mark.parametrize("options", OPTIONS[2:], ids=lambda options: "-".join(options.values()))


def make_head(options, *, train=TRAIN, region=REGION, crs=HTRS, width=5):
    torch.manual_seed(1)
    head = Coordinates(**options).build(width, cells=0, crs=crs)
    head.space.adapt(np.asarray(train, dtype=np.float64), region)
    return head


def batch_of(lat_lon, crs=HTRS):
    lat_lon = np.asarray(lat_lon, dtype=np.float64)
    xy_m = np.full(lat_lon.shape, NAN)
    known = ~np.isnan(lat_lon).any(axis=1)
    xy_m[known] = project(lat_lon[known], crs, anywhere=True)
    rows = len(lat_lon)
    label = torch.full((rows,), -1)
    return Batch(torch.empty(rows, 0), torch.empty(rows, 0), torch.tensor(lat_lon), torch.tensor(xy_m), label, label)


def off_m(head, output, lat_lon):
    found = head.place(output).lat_lon.numpy()
    assert (np.abs(found) <= [90, 180]).all()
    return SPHERE.inv(found[:, 1], found[:, 0], np.asarray(lat_lon)[:, 1], np.asarray(lat_lon)[:, 0])[2]


def output_for(head, lat_lon, crs=HTRS):
    """The raw output with no loss at all, found by descent: no formula of the head is used."""
    batch = batch_of(lat_lon, crs)
    output = torch.full((len(lat_lon), head.space.width), 0.1, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS(
        [output], lr=1, max_iter=400, tolerance_grad=1e-16, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def loss():
        descent.zero_grad()
        value = head.loss(output, batch)
        value.backward()
        return value

    descent.step(loss)
    return output.detach()


def corners(region):
    west, south, east, north = region.total_bounds
    return [[latitude, longitude] for latitude in (south, north) for longitude in (west, east)]


@everywhere
def test_the_loss_is_nothing_where_the_answer_is_the_truth(options):
    head = make_head(options)
    places = np.random.default_rng(1).uniform((42.5, 14.0), (46.5, 19.0), (40, 2))
    places = np.concatenate([places, corners(REGION)[2:] if options["space"] == "crs" else corners(REGION)])
    assert off_m(head, output_for(head, places), places).max() < 1


@global_ones
def test_the_whole_earth_is_reached(options):
    head = make_head(
        options, train=[[-60.0, -170.0], [70.0, 20.0], [10.0, 170.0], [0.0, -60.0]], region=EARTH, crs=WORLD
    )
    generator = np.random.default_rng(2)
    places = np.stack([np.degrees(np.arcsin(generator.uniform(-1, 1, 60))), generator.uniform(-180, 180, 60)], axis=1)
    extremes = [
        [90, 0],
        [-90, 10],
        [0, 180],
        [0, -180],
        [0, 179.9999],
        [0, -179.9999],
        [89.9, -90],
        [-89.9, 135],
        [60, 180],
    ]
    for place in np.concatenate([places, extremes]):
        assert off_m(head, output_for(head, [place], WORLD), [place])[0] < 1


@everywhere
def test_training_takes_a_linear_layer_to_the_corners_of_the_region(options):
    places = np.array(corners(REGION))
    if options["space"] == "crs":  # the corners of its box, which are no corners in degrees
        bounds = REGION.to_crs(HTRS).total_bounds
        places = unproject([[x, y] for x in bounds[[0, 2]] for y in bounds[[1, 3]]], HTRS)
    head, features, batch = make_head(options, width=4), torch.eye(4), batch_of(places)
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0, momentum=0.8)
    for _ in range(800):
        optimizer.zero_grad()
        head.loss(head(features), batch).backward()
        optimizer.step()
    assert off_m(head, head(features), places).max() < 100


@everywhere
def test_answers_never_leave_the_bounds(options):
    head = make_head(options)
    wild = torch.randn(300, head.space.width, generator=torch.Generator().manual_seed(3)) * 30
    found = head.place(wild)
    assert (found.choice == -1).all()
    assert found.lat_lon.dtype == torch.float64
    if options["space"] == "crs":
        bounds, metres = REGION.to_crs(HTRS).total_bounds, project(found.lat_lon.numpy(), HTRS, anywhere=True)
        assert (metres >= bounds[:2] - 0.01).all()
        assert (metres <= bounds[2:] + 0.01).all()
    else:
        assert (found.lat_lon.numpy() >= [42.5 - 1e-9, 14.0 - 1e-9]).all()
        assert (found.lat_lon.numpy() <= [46.5 + 1e-9, 19.0 + 1e-9]).all()
    assert len(np.unique(found.lat_lon.numpy().round(6), axis=0)) > 4


@global_ones
def test_bounds_across_the_antimeridian_hold_both_sides_and_nothing_else(options):
    train = [[-17.0, 178.0], [-18.0, -179.0], [-16.5, 179.5]]
    head = make_head(options, train=train, region=FIJI, crs=WORLD)
    for place in ([-17.5, 177.1], [-17.5, -178.1], [-19.9, 180.0], [-15.1, -179.9]):
        assert off_m(head, output_for(head, [place], WORLD), [place])[0] < 1
    wild = torch.randn(300, head.space.width, generator=torch.Generator().manual_seed(4)) * 50
    longitude = head.place(wild).lat_lon[:, 1]
    assert ((longitude >= 177 - 1e-9) | (longitude <= -178 + 1e-9)).all()


@everywhere
def test_outside_the_bounds_the_gradient_still_leads_back(options):
    head = make_head(options)
    output = output_for(head, [[46.4, 18.9]]) * 1.0
    output = (output + (output - output_for(head, [[44.5, 16.5]])) * 3).requires_grad_()
    batch = batch_of([[44.5, 16.5]])
    before = head.loss(output, batch)
    before.backward()
    after = head.loss(output - output.grad * 0.1 / torch.linalg.vector_norm(output.grad), batch)
    assert torch.linalg.vector_norm(output.grad) > 1e-3
    assert after < before


@everywhere
def test_records_without_coordinates_do_not_count(options):
    head = make_head(options)
    output = torch.randn(3, head.space.width, generator=torch.Generator().manual_seed(3)).requires_grad_()
    truth = [[45.0, 16.0], [NAN, NAN], [44.0, 17.0]]
    assert head.known(batch_of(truth)).tolist() == [True, False, True]
    loss = head.loss(output, batch_of(truth))
    torch.testing.assert_close(loss, head.loss(output[[0, 2]], batch_of([truth[0], truth[2]])))
    loss.backward()
    assert output.grad.isfinite().all()
    assert (output.grad[1] == 0).all()
    assert (output.grad[[0, 2]] != 0).any()
    nothing = head.loss(head(torch.ones(2, 5)), batch_of([[NAN, NAN]] * 2))
    nothing.backward()
    assert nothing == 0
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


@everywhere
def test_one_single_training_place_does_not_divide_by_zero(options):
    head = make_head(options, train=TRAIN[:1], region=extent_region(TRAIN[:1]))
    assert head.loss(torch.zeros(1, head.space.width), batch_of(TRAIN[:1])).isfinite()
    assert off_m(head, output_for(head, TRAIN[:1]), TRAIN[:1])[0] < 1


def cost(head, lat_lon):
    """The loss of a place for the answer in the middle."""
    return head.loss(output_for(head, [[44.5, 16.5]]), batch_of([lat_lon])).item()


def test_isotropic_metres_cost_the_same_in_both_and_span_one():
    head = make_head({"space": "crs"})
    middle, metres = output_for(head, [[44.5, 16.5]]), project([[44.5, 16.5]], HTRS)
    east, north = (
        head.loss(middle, batch_of(unproject(metres + step, HTRS))).item() for step in ([[40e3, 0]], [[0, 40e3]])
    )
    half_m = np.ptp(project(TRAIN, HTRS), axis=0).max() / 2
    assert east == pytest.approx(north, rel=1e-4)
    assert east == pytest.approx((40e3 / half_m) ** 2 / 2, rel=1e-4)


def test_per_axis_takes_each_axis_to_zero_and_one():
    head = make_head({"space": "crs", "scaling": "per_axis"})
    output = output_for(head, TRAIN).numpy()
    np.testing.assert_allclose(output.min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(output.max(axis=0), 1, atol=1e-6)
    cosine = output_for(make_head({"space": "cosine", "scaling": "per_axis"}), TRAIN).numpy()
    np.testing.assert_allclose([cosine.min(axis=0), cosine.max(axis=0)], [[0, 0], [1, 1]], atol=1e-6)


def test_a_kilometre_costs_the_same_in_any_direction_on_the_sphere_and_nearly_so_in_cosine_degrees():
    for options, tolerance in ((OPTIONS[2], 1e-3), (OPTIONS[3], 0.05)):
        head = make_head(options)
        around = [SPHERE.fwd(16.5, 44.5, azimuth, 20e3)[1::-1] for azimuth in range(0, 360, 45)]
        costs = [cost(head, lat_lon) for lat_lon in around]
        assert max(costs) / min(costs) == pytest.approx(1, abs=tolerance), options


def test_the_loss_of_the_sphere_is_the_squared_chord_in_units_of_the_training_records_extent():
    head = make_head({"space": "sphere"})
    azimuths = [SPHERE.fwd(16.5, 44.5, 30, distance)[1::-1] for distance in (50e3, 200e3)]
    costs = np.array([cost(head, lat_lon) for lat_lon in azimuths])
    chords = 2 - 2 * np.cos(np.array([50e3, 200e3]) / 6371008.8)
    assert costs[1] / costs[0] == pytest.approx(chords[1] / chords[0], rel=1e-6)
    latitude, longitude = np.radians(TRAIN).T
    unit = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1
    )
    radius = np.linalg.norm(unit - unit.mean(axis=0), axis=1).max()
    assert costs[0] == pytest.approx(chords[0] / radius**2 / 3, rel=1e-6)


def test_cosine_degrees_are_the_sinusoidal_projection_around_the_training_records_middle():
    head = make_head({"space": "cosine"}, region=EARTH)
    places = np.array([[44.0, 15.0], [70.0, 40.0], [-60.0, -30.0]])
    middle = (14.5 + 18.5) / 2
    plane = np.stack([places[:, 0], (places[:, 1] - middle) * np.cos(np.radians(places[:, 0]))], axis=1)
    train = np.stack([TRAIN[:, 0], (TRAIN[:, 1] - middle) * np.cos(np.radians(TRAIN[:, 0]))], axis=1)
    low, high = train.min(axis=0), train.max(axis=0)
    expected = (plane - (low + high) / 2) / ((high - low).max() / 2)
    np.testing.assert_allclose(output_for(head, places).numpy(), expected, atol=1e-5)
    assert off_m(head, torch.tensor(expected), places).max() < 1


def test_the_spaces_learn_different_things():
    losses = {tuple(options.values()): cost(make_head(options), [45.5, 18.0]) for options in OPTIONS}
    assert len({round(loss, 3) for loss in losses.values()}) == len(OPTIONS)


def test_a_scaling_of_the_sphere_and_an_unknown_space_are_refused():
    with pytest.raises(ModelError, match="set scaling to null"):
        PlaceOptions.choose("coordinates", space="sphere", scaling="isotropic")
    with pytest.raises(ModelError, match="space is 'cube': Input should be 'crs', 'sphere' or 'cosine'"):
        PlaceOptions.choose("coordinates", space="cube")
