import math

import numpy as np
import pytest
import torch
from pyproj import Geod
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from waymark.metrics.functional import haversine_km
from waymark.models import calibration, decoding
from waymark.models.calibration import (
    RetrievalIndex,
    conformal_quantile,
    expected_distance_km,
    fit_confidence,
    fit_radii,
    fit_temperature,
    unit_length,
)


def apart_km(one, other):
    return Geod(a=6371008.8, b=6371008.8).inv(one[1], one[0], other[1], other[0])[2] / 1000


def places(generator, number):
    return generator.uniform((42, 13), (47, 20), (number, 2))


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, 1.0), (3.0, -2.0), (0.0, -1.0)])
def test_a_known_confidence_is_found(slope, intercept):
    generator = np.random.default_rng(5)
    scores = generator.normal(2.0, 3.0, 20_000)
    right = generator.random(20_000) < 1 / (1 + np.exp(-(slope * scores + intercept)))
    found = fit_confidence(scores, right)
    assert found.slope == pytest.approx(slope, abs=0.06)
    assert found.intercept == pytest.approx(intercept, abs=0.1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_confidence_is_platts_scaling(scale):
    """By another solver: a target between 0 and 1 is a record that is right and wrong, with so much weight each."""
    generator = np.random.default_rng(6)
    scores = generator.normal(size=30) * scale
    right = generator.random(30) < 1 / (1 + np.exp(-2 * scores / scale))
    high, low = (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2)
    target = np.where(right, high, low)
    column = np.concatenate([scores, scores])[:, None] / scale
    weight = np.concatenate([target, 1 - target])
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(column, np.arange(60) < 30, sample_weight=weight)
    np.testing.assert_allclose(
        fit_confidence(scores, right).at(scores), fitted.predict_proba(column)[:30, 1], atol=1e-4
    )


def test_confidence_never_falls_and_is_never_certain():
    scores = np.arange(10.0)
    upside_down = fit_confidence(scores, scores < 5)
    assert upside_down.slope == 0
    np.testing.assert_allclose(upside_down.at(scores), 0.5, atol=1e-3)
    for right in (True, False):
        sure = fit_confidence(scores, np.full(10, right)).at(scores)
        np.testing.assert_allclose(sure, 11 / 12 if right else 1 / 12, atol=1e-3)
    apart = fit_confidence(scores, scores >= 5).at(scores)
    assert ((apart > 0) & (apart < 1) & np.isfinite(apart)).all()
    single = fit_confidence(np.array([3.0]), np.array([True]))
    assert single.at(3.0) == pytest.approx(2 / 3, abs=1e-3)
    assert np.isnan(single.at(np.nan))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    """Labels are drawn from the honest probabilities; the logits told are those times the temperature."""
    generator = torch.Generator().manual_seed(1)
    honest = torch.randn(6000, 8, generator=generator) * 2
    label = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest * temperature, label) == pytest.approx(temperature, rel=0.05)


def test_records_without_a_class_have_no_say_in_the_temperature():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(500, 5, generator=generator) * 3
    label = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    alone = fit_temperature(logits, label)
    padded = fit_temperature(torch.cat([logits, -9 * logits]), torch.cat([label, torch.full_like(label, -1)]))
    assert padded == alone
    assert fit_temperature(logits, torch.full_like(label, -1)) == 1.0


def test_a_temperature_stays_in_its_range_where_the_data_know_no_end():
    sure = torch.eye(4).repeat(5, 1)
    assert 0.05 <= fit_temperature(sure, sure.argmax(dim=1)) < 0.06
    assert 19 < fit_temperature(sure * 100, (sure.argmax(dim=1) + 1) % 4) <= 20.0


def test_expected_distance_is_a_sum_over_cells():
    generator = np.random.default_rng(3)
    positions, answer = places(generator, 6), places(generator, 9)
    chances = torch.tensor(generator.dirichlet(np.ones(6), 9))
    by_hand = [
        sum(float(chance[cell]) * apart_km(where, positions[cell]) for cell in range(6))
        for chance, where in zip(chances, answer, strict=True)
    ]
    np.testing.assert_allclose(expected_distance_km(chances, positions, answer), by_hand, rtol=1e-9)


def test_each_record_may_have_positions_of_its_own_and_no_number_of_records_takes_much_memory(monkeypatch):
    generator = np.random.default_rng(8)
    own, answer = places(generator, 70).reshape(7, 10, 2), places(generator, 7)
    chances = torch.tensor(generator.dirichlet(np.ones(10), 7))
    by_hand = np.concatenate([expected_distance_km(chances[[row]], own[row], answer[[row]]) for row in range(7)])
    np.testing.assert_allclose(expected_distance_km(chances, own, answer), by_hand, rtol=1e-12)
    pairs = []

    def noted(one, other):
        distance_km = haversine_km(one, other)
        pairs.append(distance_km.numel())
        return distance_km

    monkeypatch.setattr(calibration, "haversine_km", noted)
    monkeypatch.setattr(decoding, "CHUNK", 30)
    np.testing.assert_allclose(expected_distance_km(chances, own, answer), by_hand, rtol=1e-12)
    assert pairs == [30, 30, 10]


@pytest.mark.parametrize("neighbours", [1, 4, 50])
def test_the_spread_is_over_those_that_look_most_alike(neighbours):
    generator = np.random.default_rng(4)
    seen = unit_length(torch.tensor(generator.normal(size=(30, 5))))
    index = RetrievalIndex(seen, places(generator, 30))
    query, answer = torch.tensor(generator.normal(size=(7, 5)) * 9), places(generator, 7)
    by_hand = []
    for looks, where in zip(query.numpy(), answer, strict=True):
        cosine = seen @ (looks / np.linalg.norm(looks))
        nearest = sorted(range(30), key=lambda row: -cosine[row])[:neighbours]
        by_hand.append(np.mean([apart_km(where, index.lat_lon[row]) for row in nearest]))
    np.testing.assert_allclose(index.spread_km(query, answer, neighbours), by_hand, rtol=1e-9)


def test_embeddings_have_unit_length_and_float32():
    scaled = unit_length(torch.randn(20, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 100)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("number", [1, 2, 8, 9, 10, 19, 99, 100])
def test_the_quantile_is_the_smallest_that_keeps_the_promise(share, number):
    """A new score is as likely in each of the n + 1 gaps; the promise is at least the share of gaps below."""
    scores = np.random.default_rng(number).permutation(np.arange(1.0, number + 1))
    enough = [rank for rank in range(1, number + 1) if rank * 10 >= (number + 1) * round(share * 10)]
    assert conformal_quantile(scores, share) == (enough[0] if enough else None)


def test_a_validation_too_small_promises_nothing():
    radii = fit_radii(np.arange(8.0), np.ones(8))
    assert radii.factor_50 is not None
    assert radii.factor_90 is None
    assert np.isnan(radii.at(np.array([1.0, 2.0]), radii.factor_90)).all()
    assert np.isfinite(radii.at(np.array([1.0, 2.0]), radii.factor_50)).all()
    nothing = fit_radii(np.array([3.0]), np.array([0.0]))
    assert (nothing.factor_50, nothing.factor_90) == (3.0 / nothing.floor_km, None)


def simulate(generator, number):
    """Records whose difficulty is told with some error, and whose errors grow with it."""
    hard_km = generator.lognormal(3, 1, number)
    error_km = hard_km * generator.gamma(2, 0.5, number)
    return error_km, hard_km * generator.lognormal(0, 0.3, number)


def test_radii_cover_the_share_that_they_promise_and_grow_with_the_difficulty():
    generator = np.random.default_rng(6)
    covered, floor = {"50": [], "90": []}, []
    for _ in range(200):
        error_km, hard_km = simulate(generator, 60)
        radii = fit_radii(error_km, hard_km)
        error_km, hard_km = simulate(generator, 100)
        for name, factor in (("50", radii.factor_50), ("90", radii.factor_90)):
            covered[name].append(np.mean(error_km <= radii.at(hard_km, factor)))
        floor.append(radii.floor_km)
        assert spearmanr(radii.at(hard_km, radii.factor_90), hard_km).statistic == pytest.approx(1)
    # The promise is ceil(61 share) / 61; the mean over 200 draws knows it within about 0.005.
    assert np.mean(covered["50"]) == pytest.approx(31 / 61, abs=0.02)
    assert np.mean(covered["90"]) == pytest.approx(55 / 61, abs=0.012)
    assert min(floor) > 0


def test_radii_follow_hard_and_easy_records_apart():
    """One constant radius would cover nearly all easy records and few hard ones."""
    generator = np.random.default_rng(7)

    def two_kinds(number):
        hard_km = np.where(np.arange(number) % 2, 40.0, 200.0)
        return hard_km * generator.gamma(2, 0.5, number), hard_km

    radii = fit_radii(*two_kinds(2000))
    error_km, hard_km = two_kinds(4000)
    within = error_km <= radii.at(hard_km, radii.factor_90)
    assert within[hard_km == 40.0].mean() == pytest.approx(0.93, abs=0.04)
    assert within[hard_km == 200.0].mean() == pytest.approx(0.88, abs=0.05)


def test_no_radius_shrinks_to_nothing():
    radii = fit_radii(np.linspace(1, 50, 40), np.linspace(10, 30, 40))
    assert radii.floor_km == pytest.approx(0.05 * 20, abs=0.01)
    assert radii.at(np.array([0.0]), radii.factor_50)[0] > 0
    assert math.isfinite(fit_radii(np.ones(40), np.zeros(40)).factor_90)
