import time

import numpy as np
import pytest
import torch
from pyproj import Geod
from scipy.optimize import minimize

from waymark.models import decoding
from waymark.models.decoding import (
    best_position,
    geometric_median,
    highest_score,
    mean_position,
    row_chunks,
    to_degrees,
    unit_vectors,
)

SPHERE = Geod(a=6371008.8, b=6371008.8)


def chances(generator, rows, cells, concentration=0.3):
    return generator.dirichlet(np.full(cells, concentration), rows)


def apart_km(place, others):
    lengths = np.full(len(others), place[1]), np.full(len(others), place[0])
    return SPHERE.inv(*lengths, others[:, 1], others[:, 0])[2] / 1000


def cost_m(place, weights, positions):
    return (weights * np.hypot(*(positions - place).T)).sum()


def score(place, weights, positions, scale_km):
    return (weights * np.exp(-apart_km(place, positions) / scale_km)).sum()


def lowest(cost, starts, candidates):
    """The best of several downhill searches and of the candidates."""
    found = [minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x for start in starts]
    return min([*found, *candidates], key=cost)


LAYOUTS = {
    "scattered": lambda generator, xy_m: xy_m,
    "on a grid": lambda generator, xy_m: np.round(xy_m / 40e3) * 40e3,
    "on a line": lambda generator, xy_m: np.stack([xy_m[:, 0], xy_m[:, 0] / 2], axis=1),
    "nearly on a line": lambda generator, xy_m: np.stack(
        [xy_m[:, 0], xy_m[:, 0] / 2 + generator.normal(0, 20, len(xy_m))], axis=1
    ),
    "each twice": lambda generator, xy_m: np.repeat(xy_m[: len(xy_m) // 2], 2, axis=0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_median_has_the_smallest_expected_distance(layout):
    generator = np.random.default_rng(1)
    for concentration in (0.2, 3.0):
        positions = LAYOUTS[layout](generator, generator.uniform(0, 400e3, (16, 2))) + 4e6
        weights = chances(generator, 6, len(positions), concentration)
        found = geometric_median(torch.tensor(weights), torch.tensor(positions)).numpy()
        for weight, place in zip(weights, found, strict=True):
            best = lowest(
                lambda xy_m, weight=weight, positions=positions: cost_m(xy_m, weight, positions),
                [place + 9.0],
                positions,
            )
            assert np.hypot(*(place - best)) < 1


def test_the_median_of_one_half_is_there_however_far_the_rest():
    positions = torch.tensor([[0.0, 0.0], [1e5, 0.0], [0.0, 3e5], [-2e5, 1e5]])
    weights = torch.tensor([[0.51, 0.2, 0.2, 0.09], [0.1, 0.0, 0.9, 0.0], [0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(geometric_median(weights, positions).numpy(), [[0, 0], [0, 3e5], [1e5, 0]])


def test_the_median_leaves_a_position_on_which_it_starts_and_which_is_none():
    """The mean lies upon a position that weighs a little less than the others pull: a full step would be too far."""
    others = np.array([[-4e5, 0.0], [1e5, 9e4], [1e5, -9e4], [1e5, 0.0]])
    weights = np.array([0.75, 1.0, 1.0, 1.0])
    pull = np.hypot(*(weights @ (others / np.hypot(*others.T)[:, None])))
    positions, weights = np.vstack([[[0.0, 0.0]], others]), np.concatenate([[0.98 * pull], weights])
    weights /= weights.sum()
    np.testing.assert_allclose(weights @ positions, 0, atol=1e-9)
    place = geometric_median(torch.tensor(weights)[None], torch.tensor(positions))[0].numpy()
    best = lowest(lambda xy_m: cost_m(xy_m, weights, positions), [np.array([5e3, 0.0])], positions)
    assert best[0] > 1e3
    assert np.hypot(*(place - best)) < 1


def test_the_median_is_right_to_less_than_a_metre_also_where_weiszfelds_steps_are_small():
    """Off the positions, the slope over the least curvature says how far off the median is."""
    generator = np.random.default_rng(9)
    positions = np.round(generator.uniform(0, 400e3, (5, 2)) / 40e3) * 40e3
    weights = chances(generator, 300, 5, 1.0)
    found = geometric_median(torch.tensor(weights), torch.tensor(positions)).numpy()
    free = 0
    for weight, place in zip(weights, found, strict=True):
        away = positions - place
        distance = np.hypot(*away.T)
        if distance.min() > 1:
            unit, stiff = away / distance[:, None], weight / distance
            curvature = sum(one * (np.eye(2) - np.outer(two, two)) for one, two in zip(stiff, unit, strict=True))
            assert np.linalg.norm(np.linalg.solve(curvature, weight @ unit)) < 1
            free += 1
    assert free > 50


@pytest.mark.parametrize("decode", [mean_position, best_position, geometric_median])
def test_positions_of_each_record_are_decoded_like_shared_ones(decode):
    generator = np.random.default_rng(2)
    weights = torch.tensor(chances(generator, 9, 12))
    own = torch.tensor(generator.uniform(0, 4e5, (9, 12, 2)))
    found = decode(weights, own)
    single = torch.cat([decode(weights[[row]], own[row]) for row in range(9)])
    torch.testing.assert_close(found, single, rtol=0, atol=0.1)


def test_mean_and_best_are_what_they_say():
    weights, positions = torch.tensor([[0.25, 0.75]]).double(), torch.tensor([[0.0, 8.0], [4.0, 0.0]]).double()
    assert mean_position(weights, positions).tolist() == [[3.0, 2.0]]
    assert best_position(weights, positions).tolist() == [[4.0, 0.0]]


@pytest.mark.parametrize("scale_km", [30.0, 300.0, 1492.7])
def test_the_highest_score_is_that_of_a_search_over_a_fine_grid(scale_km):
    generator = np.random.default_rng(3)
    low, high = (42.0, 13.5), (46.5, 19.4)
    positions = generator.uniform(low, high, (25, 2))
    weights = chances(generator, 5, 25)
    found = highest_score(torch.tensor(weights), torch.tensor(positions), scale_km).numpy()
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], 60), np.linspace(low[1], high[1], 60)), axis=-1)
    for weight, place in zip(weights, found, strict=True):
        reached = score(place, weight, positions, scale_km)
        most = max(score(node, weight, positions, scale_km) for node in grid.reshape(-1, 2))
        assert reached >= most * (1 - 1e-6)
        assert reached >= max(score(position, weight, positions, scale_km) for position in positions) - 1e-12
        near = -minimize(
            lambda lat_lon, weight=weight: -score(lat_lon, weight, positions, scale_km), place, method="Nelder-Mead"
        ).fun
        assert reached == pytest.approx(near, rel=1e-6)


def test_the_highest_score_lies_off_all_cells_where_that_is_better():
    """Three alike cells around: their middle is nearer to all than any of them, if the scale is wide."""
    positions = np.array([[45.0, 15.0], [45.0, 17.0], [46.6, 16.0]])
    weights = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    place = highest_score(weights, torch.tensor(positions), 1000.0)[0].numpy()
    assert apart_km(place, positions).min() > 50
    assert apart_km(place, positions).sum() < min(apart_km(position, positions).sum() for position in positions)


def test_the_climb_starts_on_the_hill_of_the_best_cell_too():
    """Six cells in a ring score most in its middle, where no cell is; the mean of all lies on another's hill."""
    ring = [SPHERE.fwd(15.0, 45.0, azimuth, 10e3)[1::-1] for azimuth in range(0, 360, 60)]
    alone = [[45.0, 16.588], [45.0, 17.0], [45.0, 18.0], [45.0, 19.0]]
    weights = torch.tensor([[0.4 / 6] * 6 + [0.15] * 4], dtype=torch.float64)
    place = highest_score(weights, torch.tensor([*ring, *alone], dtype=torch.float64), 20.0)[0].numpy()
    assert apart_km(place, np.array([[45.0, 15.0]]))[0] < 1


def test_the_scale_decides_between_the_likely_one_and_the_crowd():
    positions = torch.tensor([[43.0, 14.0], [45.0, 16.0], [45.1, 16.1], [45.0, 16.2]]).double()
    weights = torch.tensor([[0.4, 0.2, 0.2, 0.2]]).double()
    narrow, wide = (highest_score(weights, positions, scale)[0] for scale in (3.0, 100.0))
    torch.testing.assert_close(narrow, positions[0], rtol=0, atol=1e-6)
    assert torch.linalg.vector_norm(wide - positions[2]) < 0.2


@pytest.mark.parametrize("number", [20, 90])
def test_each_records_own_positions_are_scored_like_shared_ones(number):
    generator = np.random.default_rng(4)
    weights = torch.tensor(chances(generator, 6, number, 0.05))
    own = torch.tensor(generator.uniform((42, 13), (46, 19), (6, number, 2)))
    found = highest_score(weights, own, 60.0)
    single = torch.cat([highest_score(weights[[row]], own[row], 60.0) for row in range(6)])
    torch.testing.assert_close(found, single, rtol=0, atol=1e-6)


def test_the_highest_score_knows_the_antimeridian_and_the_poles():
    weights = torch.full((1, 2), 0.5, dtype=torch.float64)
    across = highest_score(weights, torch.tensor([[-17.0, 179.0], [-17.0, -179.0]]), 1e4)[0]
    assert abs(abs(across[1].item()) - 180) < 1.01
    polar = highest_score(torch.full((1, 3), 1 / 3), torch.tensor([[89.0, 0.0], [89.0, 120.0], [89.0, -120.0]]), 1e4)[0]
    assert polar[0] > 89.99


def test_chunks_change_nothing(monkeypatch):
    generator = np.random.default_rng(5)
    weights = torch.tensor(chances(generator, 7, 11))
    shared = torch.tensor(generator.uniform((42, 13), (46, 19), (11, 2)))
    own = torch.tensor(generator.uniform((42, 13), (46, 19), (7, 11, 2)))
    whole = [highest_score(weights, positions, 60.0) for positions in (shared, own)]
    monkeypatch.setattr(decoding, "CHUNK", 150)
    assert [rows.stop - rows.start for rows in row_chunks(7, 40)] == [3, 3, 1]
    for one, other in zip(whole, (highest_score(weights, positions, 60.0) for positions in (shared, own)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_vectors_and_degrees_there_and_back():
    generator = np.random.default_rng(6)
    lat_lon = torch.tensor(generator.uniform((-90, -180), (90, 180), (200, 2)))
    vectors = unit_vectors(lat_lon)
    torch.testing.assert_close(torch.linalg.vector_norm(vectors, dim=1), torch.ones(200).double())
    torch.testing.assert_close(to_degrees(vectors * 3), lat_lon)
    torch.testing.assert_close(vectors[:, 2], torch.sin(torch.deg2rad(lat_lon[:, 0])))


def test_decoding_hundreds_of_records_takes_no_time():
    generator = np.random.default_rng(7)
    weights, positions = torch.tensor(chances(generator, 300, 200)), torch.tensor(generator.uniform(0, 4e5, (200, 2)))
    lat_lon = torch.tensor(generator.uniform((42, 13), (46, 19), (200, 2)))
    for decode in (lambda: geometric_median(weights, positions), lambda: highest_score(weights, lat_lon, 60.0)):
        start = time.process_time()
        decode()
        assert time.process_time() - start < 2  # about 0.2 on an idle core
