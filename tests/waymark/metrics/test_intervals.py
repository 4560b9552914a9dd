import math

import numpy as np
import pandas as pd
import pytest

from waymark.metrics.figures import place_figures
from waymark.metrics.intervals import (
    RESAMPLES,
    SEED,
    paired_difference,
    place_intervals,
    ratio_of_means,
    statistic_interval,
    weighted_quantile,
)


def predictions(number=180, seed=2):
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, 5, number)
    frame = pd.DataFrame(
        {
            "record_id": [f"r{row:03d}" for row in range(number)],
            "distance_km": rng.lognormal(3.3, 1.0, number),
            "cell": pd.array(cell, dtype="Int64"),
            "predicted_cell": pd.array(np.where(rng.random(number) < 0.4, cell, 9), dtype="Int64"),
            "oracle_km": rng.uniform(0, 30, number),
            "constant_km": rng.uniform(0, 300, number),
            "radius_50_km": rng.lognormal(3.3, 1.0, number),
            "radius_90_km": rng.lognormal(5.0, 1.0, number),
        }
    )
    frame.loc[5:20, "cell"] = pd.NA
    frame.loc[30:40, ["distance_km", "constant_km"]] = np.nan
    return frame


def by_hand(frame, units, statistic, resamples=RESAMPLES):
    """Draw units with replacement in plain NumPy, and take a statistic of their rows."""
    rng = np.random.default_rng(77)
    rows = [np.flatnonzero(units == unit) for unit in np.unique(units)]
    columns = {name: frame[name].to_numpy(dtype=float, na_value=np.nan) for name in frame.select_dtypes("number")}
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([rows[unit] for unit in rng.integers(0, len(rows), len(rows))])
        values.append(statistic({name: column[drawn] for name, column in columns.items()}))
    return np.percentile(values, [2.5, 97.5])


STATISTICS = {
    "mean_km": lambda rows: rows["distance_km"].mean(),
    "median_km": lambda rows: np.median(rows["distance_km"]),
    "p90_km": lambda rows: np.percentile(rows["distance_km"], 90),
    "within_25km": lambda rows: np.mean(rows["distance_km"] <= 25),
    "geoscore": lambda rows: 5000 * np.mean(np.e ** (-rows["distance_km"] / 1492.7)),
    "cell_accuracy": lambda rows: np.mean((rows["cell"] == rows["predicted_cell"])[~np.isnan(rows["cell"])]),
    "coverage_50": lambda rows: np.mean(rows["distance_km"] <= rows["radius_50_km"]),
    "times_constant": lambda rows: rows["distance_km"].mean() / rows["constant_km"].mean(),
}


@pytest.fixture(scope="module")
def alone():
    return place_intervals(predictions())


@pytest.fixture(scope="module")
def grouped():
    return place_intervals(same_groups(predictions()), groups(predictions()))


def groups(frame):
    """Six records each, but for the last third, which stand alone."""
    row = np.arange(len(frame))
    names = np.where(row < 120, np.char.add("g", (row // 6).astype(str)), None)
    return pd.Series(names, index=frame["record_id"], dtype=object)


def same_groups(frame):
    """Errors that are alike within a group, so that it matters what is drawn."""
    level = np.random.default_rng(5).lognormal(3.3, 1.0, len(frame))
    row = np.arange(len(frame))
    frame["distance_km"] = np.where(row < 120, level[row // 6], level) * np.random.default_rng(6).uniform(
        0.95, 1.05, len(frame)
    )
    return frame


@pytest.mark.parametrize("name", STATISTICS)
def test_intervals_are_those_of_resampling_by_hand(alone, name):
    known = predictions().dropna(subset=["distance_km"])
    expected = by_hand(known, np.arange(len(known)), STATISTICS[name])
    width = expected[1] - expected[0]
    assert alone.unit == "record"
    assert alone.units == len(known) == 169
    assert np.allclose(alone.figures[name], expected, atol=0.12 * width)


@pytest.mark.parametrize("name", ["mean_km", "median_km", "within_25km"])
def test_groups_are_drawn_whole(grouped, name):
    frame = same_groups(predictions())
    its_group = groups(frame).to_numpy()
    units = np.where(pd.isna(its_group), frame["record_id"], its_group).astype(str)
    expected = by_hand(frame, units, STATISTICS[name])
    width = expected[1] - expected[0]
    assert (grouped.unit, grouped.units) == ("group", 20 + 60)
    assert np.allclose(grouped.figures[name], expected, atol=0.15 * width)
    independent = place_intervals(frame).figures[name]
    assert independent.high - independent.low < 0.8 * width  # what ignoring the groups would promise


def test_groups_of_one_are_records():
    frame = predictions()
    single = pd.Series([f"g{row}" for row in range(len(frame))], index=frame["record_id"])
    assert place_intervals(frame, single) == place_intervals(frame)
    assert place_intervals(frame, pd.Series(None, index=frame["record_id"], dtype=object)) == place_intervals(frame)


def test_an_interval_holds_its_figure_and_repeats(alone):
    figures = place_figures(predictions())
    assert place_intervals(predictions()) == alone
    for name, (low, high) in alone.figures.items():
        if name != "times_constant":
            assert low <= figures[name] <= high, name
    areas = {f"{name}_{share}{unit}" for name, unit in (("area", "_km2"), ("set_coverage", "")) for share in (50, 90)}
    expected = set(figures) - {"records", "within_1km", "within_750km", "within_2500km"} - areas | {"times_constant"}
    assert expected <= set(alone.figures)


def test_nine_of_ten_intervals_hold_the_truth():
    """The mean of the distribution that records are drawn from, over 200 tests of 80 records."""
    rng = np.random.default_rng(SEED)
    held = 0
    for _ in range(200):
        low, high = statistic_interval(rng.gamma(2.0, 20.0, 80), resamples=400)
        held += low <= 40.0 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_a_share_that_no_resample_can_change_has_no_interval():
    frame = predictions().assign(radius_90_km=1e9)
    assert place_figures(frame)["coverage_90"] == 1.0
    found = place_intervals(frame).figures
    assert "coverage_90" not in found
    assert "within_2500km" not in found
    assert "coverage_50" in found


def test_what_nobody_measured_has_no_interval():
    frame = predictions().assign(cell=pd.array([pd.NA] * 180, dtype="Int64"), radius_50_km=np.nan)
    found = place_intervals(frame).figures
    assert not {"cell_accuracy", "coverage_50"} & set(found)
    assert all(math.isfinite(end) for ends in found.values() for end in ends)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_records_have_no_interval(rows):
    assert place_intervals(predictions().head(rows)).figures == {}
    assert statistic_interval(np.ones(rows)) is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_weighted_quantile_is_numpys_over_the_repeated_values(share):
    rng = np.random.default_rng(1)
    ordered = np.sort(rng.lognormal(3, 1, 30).round(1))
    weights = rng.integers(0, 4, (40, 30)).astype(float)
    expected = [np.quantile(np.repeat(ordered, row.astype(int)), share) for row in weights]
    assert weighted_quantile(ordered, weights, share) == pytest.approx(expected, rel=1e-12)


def test_the_interval_of_a_quantile_is_that_of_resampling_by_hand():
    assert statistic_interval(np.array([1.0, 3.0]), 0.5) == (1.0, 3.0)  # both are drawn twice often enough
    values = np.random.default_rng(3).lognormal(3, 1, 60)
    expected = np.percentile(
        [np.quantile(np.random.default_rng(s).choice(values, 60), 0.9) for s in range(3000)], [2.5, 97.5]
    )
    found = statistic_interval(values, 0.9)
    assert np.allclose(found, expected, atol=0.12 * (expected[1] - expected[0]))


def test_a_pair_is_compared_over_the_same_records():
    """Errors that rise and fall together differ surely, though each mean alone is unsure."""
    first = predictions()
    second = first.assign(distance_km=first["distance_km"] * 0.85).sample(frac=1, random_state=1)
    found = paired_difference(second, first)
    mean = first["distance_km"].mean()
    assert found["records"] == 169
    assert found["ratio"]["value"] == pytest.approx(0.85)
    assert found["difference_km"]["value"] == pytest.approx(-0.15 * mean)
    assert found["ratio"]["low"] == pytest.approx(0.85)
    assert found["ratio"]["high"] == pytest.approx(0.85)
    low, high = place_intervals(first).figures["mean_km"]
    assert -0.15 * high == pytest.approx(found["difference_km"]["low"], rel=0.02)
    assert -0.15 * low == pytest.approx(found["difference_km"]["high"], rel=0.02)


def test_a_pair_agrees_with_resampling_by_hand():
    first, rng = predictions(), np.random.default_rng(8)
    second = first.assign(distance_km=first["distance_km"] * rng.uniform(0.5, 1.6, len(first))).iloc[50:]
    found = paired_difference(second, first)
    both = first.merge(second, on="record_id", suffixes=("_a", "_b")).dropna(subset=["distance_km_a", "distance_km_b"])
    assert found["records"] == len(both) == 130
    for name, statistic in {
        "difference_km": lambda rows: rows["distance_km_b"].mean() - rows["distance_km_a"].mean(),
        "ratio": lambda rows: rows["distance_km_b"].mean() / rows["distance_km_a"].mean(),
    }.items():
        expected = by_hand(both, np.arange(len(both)), statistic)
        assert found[name]["value"] == pytest.approx(statistic(both), rel=1e-12)
        ends = (found[name]["low"], found[name]["high"])
        assert np.allclose(ends, expected, atol=0.12 * (expected[1] - expected[0]))


def test_a_pair_of_groups_is_less_sure_than_one_of_records():
    first = same_groups(predictions())
    factor = np.random.default_rng(9).uniform(0.5, 1.6, len(first))[np.arange(len(first)) // 6]
    second = first.assign(distance_km=first["distance_km"] * factor)
    sure, unsure = paired_difference(second, first), paired_difference(second, first, groups(first))
    assert (sure["unit"], unsure["unit"]) == ("record", "group")
    assert unsure["ratio"]["high"] - unsure["ratio"]["low"] > 1.3 * (sure["ratio"]["high"] - sure["ratio"]["low"])


def test_models_without_common_records_are_not_compared():
    frame = predictions()
    assert paired_difference(frame.head(20), frame.tail(20)) is None


def test_a_ratio_over_different_records_agrees_with_resampling_by_hand():
    upper, lower = predictions(150, 3).assign(record_id=lambda rows: "u" + rows["record_id"]), predictions(90, 4)
    found = ratio_of_means(upper, lower)
    above, below = (rows["distance_km"].dropna().to_numpy() for rows in (upper, lower))
    rng = np.random.default_rng(1)
    drawn = [rng.choice(above, len(above)).mean() / rng.choice(below, len(below)).mean() for _ in range(RESAMPLES)]
    expected = np.percentile(drawn, [2.5, 97.5])
    assert found["value"] == pytest.approx(above.mean() / below.mean())
    assert np.allclose((found["low"], found["high"]), expected, atol=0.12 * (expected[1] - expected[0]))
    assert ratio_of_means(upper.head(0), lower) is None
    assert ratio_of_means(upper.head(1), lower)["low"] is None


def test_a_ratio_draws_groups_whole():
    upper = same_groups(predictions())
    lower = predictions(seed=4).assign(record_id=lambda rows: "l" + rows["record_id"])
    names = groups(upper).reindex([*upper["record_id"], *lower["record_id"]])
    sure, unsure = ratio_of_means(upper, lower), ratio_of_means(upper, lower, names)
    assert ratio_of_means(lower, upper, None, names)["high"] == pytest.approx(1 / unsure["low"], rel=0.05)
    assert sure["value"] == unsure["value"]
    assert unsure["high"] - unsure["low"] > 1.2 * (sure["high"] - sure["low"])


def test_predictions_without_a_constant_have_no_ratio_to_it(alone):
    found = place_intervals(predictions().assign(constant_km=np.nan)).figures
    assert set(alone.figures) - set(found) == {"constant_mean_km", "times_constant"}
    assert found["mean_km"] == alone.figures["mean_km"]
