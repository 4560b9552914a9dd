import math

import numpy as np
import pytest
import torch
from pyproj import Geod

from waymark.metrics import geoscore, haversine_km, within_km

SPHERE = Geod(a=6371008.8, b=6371008.8)
HALF_ROUND_KM = math.pi * 6371.0088


def geod_km(predicted, target):
    """Distances that pyproj measures between `(N, 2)` latitudes and longitudes on the same sphere."""
    predicted, target = (np.asarray(points, dtype=np.float64) for points in (predicted, target))
    _, _, metres = SPHERE.inv(predicted[:, 1], predicted[:, 0], target[:, 1], target[:, 0])
    return metres / 1000


def anywhere(number, seed):
    generator = np.random.default_rng(seed)
    return np.stack([np.degrees(np.arcsin(generator.uniform(-1, 1, number))), generator.uniform(-180, 180, number)], 1)


def antipodes(points):
    return np.stack([-points[:, 0], np.where(points[:, 1] > 0, points[:, 1] - 180, points[:, 1] + 180)], 1)


def pairs():
    here = anywhere(500, 1)
    nudge = np.random.default_rng(2).uniform(-1e-4, 1e-4, here.shape)
    bearings = np.linspace(-180, 180, 37)
    poles = np.stack([np.where(np.arange(37) % 2, 90.0, -90.0), bearings], 1)
    west, east = (np.stack([np.linspace(-80, 80, 37), np.full(37, edge)], 1) for edge in (-179.99, 179.98))
    return {
        "random": (here, anywhere(500, 3)),
        "equal": (here, here),
        "antipodal": (here, antipodes(here)),
        "nearly antipodal": (here, antipodes(here) + nudge),
        "nearly equal": (np.clip(here, -89, 179), np.clip(here, -89, 179) + nudge),
        "from the poles": (poles, anywhere(37, 4)),
        "from pole to pole": (poles, -poles),
        "along a pole": (poles, np.roll(poles, 2, axis=0)),
        "over the antimeridian": (west, east),
        "the antimeridian's two names": (
            np.stack([bearings / 2, np.full(37, -180.0)], 1),
            np.stack([bearings / 2, np.full(37, 180.0)], 1),
        ),
    }


@pytest.mark.parametrize("case", pairs())
def test_distances_are_those_of_geod_in_float64(case):
    predicted, target = pairs()[case]
    found = haversine_km(torch.tensor(predicted), torch.tensor(target)).numpy()
    np.testing.assert_allclose(found, geod_km(predicted, target), rtol=1e-12, atol=3e-9)  # 3 micrometres


@pytest.mark.parametrize("case", pairs())
def test_distances_are_those_of_geod_in_float32(case):
    """Within 5 m or 1e-6: near 180 degrees float32 itself knows a longitude to 2 m only."""
    predicted, target = (torch.tensor(points, dtype=torch.float32) for points in pairs()[case])
    found = haversine_km(predicted, target)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), geod_km(predicted, target), rtol=1e-6, atol=5e-3)


def test_float32_keeps_the_digits_of_neighbours_far_from_the_antimeridian():
    """A naive arc cosine of float32 would answer 0 or half a kilometre for points some metres apart."""
    here = torch.tensor(np.clip(anywhere(500, 5), -80, 80), dtype=torch.float32)
    there = here + torch.tensor(np.random.default_rng(6).uniform(1e-4, 1e-3, here.shape), dtype=torch.float32)
    np.testing.assert_allclose(haversine_km(here, there).numpy(), geod_km(here, there), rtol=3e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_points_are_exactly_at_zero_and_antipodes_half_a_round_away(dtype):
    here = torch.tensor(anywhere(200, 7), dtype=dtype)
    assert (haversine_km(here, here) == 0).all()
    poles = torch.tensor([[90.0, 12.0], [-90.0, -70.0]], dtype=dtype)
    assert haversine_km(poles[0], poles[1]).item() == pytest.approx(HALF_ROUND_KM, rel=2e-7)


def test_points_broadcast_and_the_distance_is_symmetric():
    here, there = torch.tensor(anywhere(4, 8)), torch.tensor(anywhere(5, 9))
    table = haversine_km(here[:, None], there[None])
    assert table.shape == (4, 5)
    for row in range(4):
        np.testing.assert_allclose(table[row], geod_km(here[row].expand(5, 2), there), rtol=1e-12)
    torch.testing.assert_close(table, haversine_km(there[None], here[:, None]), rtol=0, atol=0)
    assert haversine_km(here[0], there[0]).shape == ()


def test_the_gradient_is_finite_everywhere_and_zero_between_equal_points():
    target = torch.tensor([[45.0, 16.0], [45.0, 16.0], [45.0, 16.0], [90.0, 0.0]], dtype=torch.float64)
    predicted = torch.tensor([[45.0, 16.0], [46.0, 16.0], [-45.0, -164.0], [90.0, 50.0]], dtype=torch.float64)
    predicted.requires_grad_()
    haversine_km(predicted, target).sum().backward()
    assert torch.isfinite(predicted.grad).all()
    assert (predicted.grad[0] == 0).all()
    torch.testing.assert_close(
        predicted.grad[1], torch.tensor([HALF_ROUND_KM / 180, 0.0], dtype=torch.float64), rtol=1e-12, atol=1e-9
    )


def test_a_missing_coordinate_gives_nan_for_its_record_alone():
    found = haversine_km(torch.tensor([[45.0, 16.0], [45.0, 16.0]]), torch.tensor([[torch.nan, 16.0], [45.0, 17.0]]))
    assert found.isnan().tolist() == [True, False]


def test_geoscore_is_the_formula_unrounded():
    distances_km = [0.0, 0.1, 1.0, 77.7, 1492.7, 20015.1]
    found = geoscore(torch.tensor(distances_km, dtype=torch.float64))
    assert found.tolist() == pytest.approx([5000 * math.exp(-d / 1492.7) for d in distances_km], rel=1e-14)
    assert found[1] % 1 > 0


def test_a_distance_equal_to_the_threshold_is_within():
    distance_km = torch.tensor([25.0, math.nextafter(25.0, 26.0), 24.0], dtype=torch.float64)
    share = within_km(distance_km, 25.0)
    assert share.dtype == torch.float64
    assert share.item() == 2 / 3
