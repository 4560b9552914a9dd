import math

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from waymark.metrics.reliability import SHARES, cell_reliability, radius_coverage, reliability


def chances(number=1000, seed=1):
    rng = np.random.default_rng(seed)
    probability = rng.permutation(np.linspace(0.02, 0.98, number))  # no two alike
    return probability, rng.random(number) < probability**1.5


def test_the_curve_is_scikit_learns():
    probability, right = chances()
    curve = reliability(probability, right).curve
    accuracy, mean = calibration_curve(right, probability, n_bins=10, strategy="quantile")
    assert curve["accuracy"].to_numpy() == pytest.approx(accuracy)
    assert curve["probability"].to_numpy() == pytest.approx(mean)
    assert curve["records"].tolist() == [100] * 10


def test_the_calibration_error_is_the_mean_gap():
    probability, right = chances(103)
    order = np.argsort(probability)
    sizes = [11, 11, 11, 10, 10, 10, 10, 10, 10, 10]  # equally many, as far as 103 can be divided by ten
    gap, start = 0.0, 0
    for count in sizes:
        rows = order[start : start + count]
        gap += count * abs(probability[rows].mean() - right[rows].mean())
        start += count
    found = reliability(probability, right)
    assert found.curve["records"].tolist() == sizes
    assert found.ece == pytest.approx(gap / 103)


def test_honest_probabilities_have_a_small_error_and_boasting_ones_a_large():
    rng = np.random.default_rng(4)
    probability = rng.random(20_000)
    right = rng.random(20_000) < probability
    assert reliability(probability, right).ece < 0.02
    assert reliability(np.sqrt(probability), right).ece == pytest.approx(2 / 3 - 1 / 2, abs=0.02)


def test_the_bars_are_wilsons():
    """37 of 40, as statsmodels gives it."""
    curve = reliability(np.full(40, 0.9), np.arange(40) < 37, bins=1).curve
    assert curve.loc[0, ["low", "high"]].tolist() == pytest.approx([0.8014, 0.9742], abs=1e-4)


def test_few_records_have_few_bins_and_none_has_no_curve():
    assert len(reliability(np.array([0.2, 0.7]), np.array([False, True])).curve) == 2
    assert reliability(np.empty(0), np.empty(0, dtype=bool)) is None


def test_records_in_cells_of_the_model_count():
    frame = pd.DataFrame(
        {
            "probability": [0.9, 0.8, 0.7, np.nan, 0.6],
            "cell": pd.array([1, 2, pd.NA, 4, 5], dtype="Int64"),
            "predicted_cell": pd.array([1, 3, 3, 4, 5], dtype="Int64"),
            "distance_km": [1.0, 2.0, 3.0, 4.0, np.nan],
        }
    )
    found = cell_reliability(frame, bins=1)
    assert found.curve["records"].tolist() == [2]
    assert found.curve["accuracy"].tolist() == [0.5]
    assert found.ece == pytest.approx(0.35)
    assert cell_reliability(frame.assign(probability=np.nan)) is None


def conformal(calibrated, tested, share):
    """Radii for a share from errors and difficulties, as split-conformal prediction makes them, record by record."""
    scores = sorted(error / hard for error, hard in calibrated)
    rank = int(np.ceil(round((len(scores) + 1) * share, 9)))
    if rank > len(scores):
        return None
    return np.mean([error <= hard * scores[rank - 1] for error, hard in tested])


def split_of(rng, number):
    hard = rng.lognormal(3, 0.7, number)
    return np.stack([hard * rng.lognormal(0, 0.8, number), hard], axis=1)


def frame_of(pairs, factor):
    return pd.DataFrame({"distance_km": pairs[:, 0], "radius_50_km": np.nan, "radius_90_km": pairs[:, 1] * factor})


@pytest.mark.parametrize("number", [150, 12])
def test_radii_of_any_share_are_found_without_knowing_the_difficulty(number):
    rng = np.random.default_rng(6)
    val, test = split_of(rng, number), split_of(rng, 90)
    found = radius_coverage(frame_of(val, 2.7), frame_of(test, 2.7)).set_index("promised")["covered"]
    expected = {share: conformal(val, test, share) for share in SHARES}
    assert found.to_dict() == pytest.approx({share: its for share, its in expected.items() if its is not None})
    assert (0.95 in found.index) == (number == 150)


def test_radii_hold_what_made_them():
    """The share of val itself is the promised one of 201, rounded up: the record at the quantile counts."""
    val = frame_of(split_of(np.random.default_rng(7), 200), 1.7)
    found = radius_coverage(val, val)
    expected = [math.ceil(round(201 * share, 9)) / 200 for share in SHARES]
    assert found["covered"].tolist() == pytest.approx(expected)


def test_without_the_larger_radius_the_smaller_one_serves():
    rng = np.random.default_rng(8)
    val, test = split_of(rng, 60), split_of(rng, 60)
    frames = [
        frame_of(pairs, 1.0).rename(columns={"radius_90_km": "radius_50_km", "radius_50_km": "radius_90_km"})
        for pairs in (val, test)
    ]
    pd.testing.assert_frame_equal(radius_coverage(*frames), radius_coverage(frame_of(val, 1.0), frame_of(test, 1.0)))
    assert radius_coverage(frames[0].assign(radius_50_km=np.nan), frames[1]).empty
