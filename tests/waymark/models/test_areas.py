"""Answers as areas, and what they promise."""

import numpy as np
import pytest

from waymark.models.areas import Areas, fit_areas, members

SHARES = (50, 90)


def made(records, seed, cells=30):
    """Probabilities that are honest: the true cell of each record is drawn from them."""
    generator = np.random.default_rng(seed)
    chances = generator.dirichlet(np.full(cells, 0.15), records)
    truth = np.array([generator.choice(cells, p=row) for row in chances])
    return chances, truth


@pytest.mark.parametrize("share", SHARES)
def test_areas_hold_as_many_places_as_they_promise(share):
    held = []
    for seed in range(60):
        (val, own), (test, truth) = made(150, seed), made(200, seed + 1000)
        areas = fit_areas(val[np.arange(150), own])
        marked = members(test, areas.least(share))
        held.append(marked[np.arange(200), truth].mean())
    assert abs(np.mean(held) - share / 100) < 0.02


def test_the_smaller_area_lies_in_the_larger():
    val, own = made(200, 1)
    areas = fit_areas(val[np.arange(200), own])
    half, most = (members(made(50, 2)[0], areas.least(share)) for share in SHARES)
    assert (most | ~half).all()
    assert most.sum() > half.sum()
    assert half.any(axis=1).all()  # the most probable cell is always in it


def test_records_outside_all_cells_make_areas_larger_or_impossible():
    chance = np.linspace(0.05, 0.95, 19)
    assert fit_areas(chance).least_90 == pytest.approx(0.1)
    missed = np.append(chance, 0.0)
    assert fit_areas(missed).least_90 == pytest.approx(0.05)
    assert fit_areas(np.concatenate([chance, np.zeros(10)])).least_90 == 0.0
    assert fit_areas(chance[:8]) == Areas(fit_areas(chance[:8]).least_50, None)  # too few to promise 90 %
    assert members(np.array([[0.5, 0.5, 0.0]]), 0.0).all()
