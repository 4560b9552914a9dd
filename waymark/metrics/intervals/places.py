"""Intervals of the figures of places."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from waymark.metrics.figures import WITHIN_KM, within_name
from waymark.metrics.functional import GEOSCORE_MAX, GEOSCORE_SCALE_KM
from waymark.metrics.intervals.resampling import (
    RESAMPLES,
    Floats,
    Interval,
    Intervals,
    percentiles,
    units_of,
    weighted_quantile,
)

QUANTILES = {"median_km": 0.5, "p90_km": 0.9}


def place_intervals(
    predictions: pd.DataFrame, groups: "pd.Series[Any] | None" = None, *, resamples: int = RESAMPLES
) -> Intervals:
    """Compute 95 % percentile bootstrap intervals of the figures of one split.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; with groups the cluster bootstrap of
    Davison and Hinkley 1997, section 3.8: whole groups are drawn, because records of one panorama err alike. All
    figures are taken from the same resamples, which are drawn from a fixed seed.

    A share of exactly 0 or 1 has no interval: no resample of it can give another one.

    Args:
        predictions: `(N,)` rows of predictions.parquet, of one split.
        groups: group by record_id, null for a record on its own; None where no record has a group.
        resamples: how many are drawn.

    Returns:
        Intervals by the names of `place_figures`, and of `times_constant`, the ratio of `mean_km` and
        `constant_mean_km`.
    """
    known = predictions[predictions["distance_km"].notna()]
    rows = known.sort_values("distance_km", kind="stable")
    unit, member, units = units_of(rows, groups)
    if units < 2:
        return Intervals(unit, units, {})
    names, statistic = _figures(rows)
    low, high = percentiles(statistic, member, resamples)
    found = [(name, Interval(*pair)) for name, *pair in zip(names, low.tolist(), high.tolist(), strict=True)]
    return Intervals(unit, units, {name: interval for name, interval in found if _moves(name, interval)})


def _figures(rows: pd.DataFrame) -> tuple[list[str], Callable[[Floats], Floats]]:
    """Make the statistic of all figures at once.

    Args:
        rows: `(N,)`, the nearest first.

    Returns:
        Names of the figures, and the function from `(B, N)` weights to `(S, B)` of them.
    """
    columns = {name: values for name, values in _columns(rows).items() if np.isfinite(values).any()}
    values = np.stack([*columns.values()], axis=1)  # (N, F)
    known = np.isfinite(values).astype(np.float64)
    filled = np.nan_to_num(values)
    sorted_km = rows["distance_km"].to_numpy(dtype=np.float64)
    compared = ["times_constant"] if "constant_mean_km" in columns else []
    mean, constant = (list(columns).index(name) for name in ("mean_km", "constant_mean_km" if compared else "mean_km"))

    def statistic(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without any record that has a class
            means = ((weights @ filled) / (weights @ known)).T  # (F, B)
            ratios = [means[mean] / means[constant] for _ in compared]
        quantiles = [weighted_quantile(sorted_km, weights, share) for share in QUANTILES.values()]
        return np.stack([*means, *ratios, *quantiles])

    return [*columns, *compared, *QUANTILES], statistic


def _columns(rows: pd.DataFrame) -> dict[str, Floats]:
    """Collect the `(N,)` values whose means are figures, by the names of these; NaN where a record has none."""
    distance_km = rows["distance_km"].to_numpy(dtype=np.float64)
    right = (rows["cell"] == rows["predicted_cell"]).astype("boolean").fillna(False).to_numpy(dtype=np.float64)
    covered = {
        share: np.where(rows[radius].isna(), np.nan, rows["distance_km"] <= rows[radius])
        for share, radius in (("coverage_50", "radius_50_km"), ("coverage_90", "radius_90_km"))
    }
    return {
        "mean_km": distance_km,
        **{within_name(km): (distance_km <= km).astype(np.float64) for km in WITHIN_KM},
        "geoscore": GEOSCORE_MAX * np.exp(-distance_km / GEOSCORE_SCALE_KM),
        "cell_accuracy": np.where(rows["cell"].isna(), np.nan, right),
        "constant_mean_km": rows["constant_km"].to_numpy(dtype=np.float64),
        "oracle_mean_km": rows["oracle_km"].to_numpy(dtype=np.float64),
        **covered,
    }


def _moves(name: str, interval: Interval) -> bool:
    """Whether resampling tells anything: not of NaN, and not of a share that is 0 or 1 in all of them."""
    shares = name.startswith(("within_", "coverage_", "cell_accuracy"))
    return bool(np.isfinite(interval).all()) and not (shares and interval in ((0.0, 0.0), (1.0, 1.0)))
