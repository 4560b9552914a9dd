"""Two models, or two tests, compared."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.metrics.intervals.resampling import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Floats,
    ends,
    percentiles,
    units_of,
    weights_of,
)


def paired_difference(
    model: pd.DataFrame,
    against: pd.DataFrame,
    groups: "pd.Series[Any] | None" = None,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> dict[str, Any] | None:
    """Compare the mean errors of two models over the same records, with intervals from the same resamples.

    Args:
        model: rows of one split of a model's predictions.
        against: those of the model that it is held against; records that only one of them knows are left out.
        groups: group by record_id, null for a record on its own.
        resamples: how many are drawn.
        confidence: share of them between the ends of an interval.
        seed: from which they are drawn.

    Returns:
        `records`, `unit`, and `difference_km` (`mean_km` of the model minus that of the other) and `ratio` (the one
        divided by the other), each with `value`, `low` and `high`; None where fewer than two units have both.
    """
    both = model[["record_id", "distance_km"]].merge(against[["record_id", "distance_km"]], on="record_id").dropna()
    unit, member, units = units_of(both, groups)
    if units < 2:
        return None
    pair = both[["distance_km_x", "distance_km_y"]].to_numpy(dtype=np.float64)

    def compare(weights: Floats) -> Floats:
        first, second = (weights @ pair / weights.sum(axis=1, keepdims=True)).T
        return np.stack([first - second, first / second])

    value = compare(np.ones((1, len(pair))))[:, 0]
    low, high = percentiles(compare, member, resamples, confidence, seed)
    figures = {
        name: {"value": float(value[row]), "low": float(low[row]), "high": float(high[row])}
        for row, name in enumerate(("difference_km", "ratio"))
    }
    return {"records": len(both), "unit": unit, **figures}


def ratio_of_means(
    upper: pd.DataFrame,
    lower: pd.DataFrame,
    upper_groups: "pd.Series[Any] | None" = None,
    lower_groups: "pd.Series[Any] | None" = None,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, float | None] | None:
    """Divide the mean errors over different records, which are resampled independently of each other.

    Args:
        upper: rows of predictions, `record_id` and `distance_km`.
        lower: those to divide by.
        upper_groups: group by record_id, null for a record on its own.
        lower_groups: likewise.
        resamples: how many are drawn.

    Returns:
        `value`, `low` and `high`, the last two None for fewer than two units on either side; None without records.
    """
    sides = [rows.dropna(subset=["distance_km"]) for rows in (upper, lower)]
    if not all(len(rows) for rows in sides):
        return None
    errors = [rows["distance_km"].to_numpy(dtype=np.float64) for rows in sides]
    units = [units_of(rows, groups) for rows, groups in zip(sides, (upper_groups, lower_groups), strict=True)]
    members = [side.member for side in units]
    value = float(errors[0].mean() / errors[1].mean())
    if min(side.number for side in units) < 2:
        return {"value": value, "low": None, "high": None}

    def ratio(*drawn: NDArray[np.int64], axis: int) -> Floats:
        weights = [weights_of(drawn_units, member, axis) for drawn_units, member in zip(drawn, members, strict=True)]
        means = [
            (weight @ error / weight.sum(axis=1)).reshape(np.moveaxis(drawn_units, axis, -1).shape[:-1])
            for weight, error, drawn_units in zip(weights, errors, drawn, strict=True)
        ]
        return np.asarray(means[0] / means[1])

    low, high = ends(ratio, members, resamples)
    return {"value": value, "low": float(low), "high": float(high)}
