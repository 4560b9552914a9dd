"""Intervals of the figures of landmarks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.metrics.intervals.resampling import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Floats,
    Interval,
    Intervals,
    percentiles,
    units_of,
)
from waymark.metrics.queries import Relevant, queries_of, ranked

SHARES = {"top1": ("top1", "counts"), "top5": ("top5", "counts"), "precision": ("answered_right", "answered")}


def landmark_intervals(
    predictions: pd.DataFrame,
    groups: "pd.Series[Any] | None" = None,
    relevant: Relevant = "all",
    *,
    resamples: int = RESAMPLES,
) -> Intervals:
    """Compute 95 % percentile bootstrap intervals of the landmark figures of one split, drawn as by `place_intervals`.

    Records without a landmark are drawn, too, and the number of relevant queries is that of each resample. A figure of
    exactly 0 or 1 in all resamples has no interval, nor has one that some resample cannot give for want of queries.

    Args:
        predictions: `(N,)` rows of predictions.parquet, of one split.
        groups: group by record_id, null for a record on its own; None where no record has a group.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.
        resamples: how many are drawn.

    Returns:
        Intervals by the names of `landmark_figures`, but for `queries`.
    """
    queries = ranked(queries_of(predictions, relevant))
    unit, member, units = units_of(queries, groups)
    if units < 2:
        return Intervals(unit, units, {})
    names, statistic = _figures(queries)
    low, high = percentiles(statistic, member, resamples)
    found = [(name, Interval(*pair)) for name, *pair in zip(names, low.tolist(), high.tolist(), strict=True)]
    return Intervals(unit, units, {name: interval for name, interval in found if _moves(interval)})


def paired_gap(
    model: pd.DataFrame,
    against: pd.DataFrame,
    groups: "pd.Series[Any] | None" = None,
    relevant: Relevant = "all",
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> dict[str, Any] | None:
    """Compare GAP and top-1 of two models over the same records, with intervals from the same resamples.

    Args:
        model: rows of one split of a model's predictions.
        against: those of the model that it is held against; records that only one of them has are left out.
        groups: group by record_id, null for a record on its own.
        relevant: which records count as queries; with `known` those of a landmark that either of the two knows.
        resamples: how many are drawn.
        confidence: share of them between the ends of an interval.
        seed: from which they are drawn.

    Returns:
        `records`, `unit`, and `difference_gap` and `difference_top1` (the model minus the other), each with `value`,
        `low` and `high`, the last two None where some resample holds no query; None for fewer than two units, or
        without a query.
    """
    common = set(model["record_id"]) & set(against["record_id"])
    pair = [queries_of(rows[rows["record_id"].isin(common)], relevant) for rows in (model, against)]
    counts = pair[0]["counts"] | pair[1]["counts"]
    unit, member, units = units_of(pair[0], groups)
    if units < 2 or not counts.any():
        return None
    sides = [_gap_and_top1(queries.assign(counts=counts)) for queries in pair]

    def compare(weights: Floats) -> Floats:
        first, second = (side(weights) for side in sides)
        return first - second

    value = compare(np.ones((1, len(member))))[:, 0]
    low, high = percentiles(compare, member, resamples, confidence, seed)
    figures = {
        name: {"value": float(value[row]), "low": _known(low[row]), "high": _known(high[row])}
        for row, name in enumerate(("difference_gap", "difference_top1"))
    }
    return {"records": len(member), "unit": unit, **figures}


def weighted_gap(weights: Floats, right: NDArray[np.bool_], relevant: Floats) -> Floats:
    """Compute the GAP of ranked answers that count several times or not at all, their copies following each other.

    After r answers, w of them wrong, the precision at the k-th copy of a right one is 1 - w / (r + k), so that all of
    its n copies add n - w * (H(r + n) - H(r)) with harmonic numbers H.

    Args:
        weights: `(B, N)` how often each answer counts, whole numbers, the first rank first.
        right: `(N,)` whether the answer is right.
        relevant: `(B,)` number of queries that have a landmark.

    Returns:
        `(B,)` GAP; NaN where no query is relevant.

    >>> weights = np.array([[1.0, 2.0], [0.0, 1.0]])
    >>> weighted_gap(weights, np.array([False, True]), np.array([2.0, 1.0])).round(4).tolist()
    [0.5833, 1.0]
    """
    copies = weights[:, right]
    after = weights.cumsum(axis=1)[:, right]
    wrong = after - copies.cumsum(axis=1)
    most = int(after.max(initial=0))
    harmonic = np.concatenate([[0.0], (1 / np.arange(1, most + 1)).cumsum()])
    rise = harmonic[after.astype(np.int64)] - harmonic[(after - copies).astype(np.int64)]
    return _divide((copies - wrong * rise).sum(axis=1), relevant)


def _figures(queries: pd.DataFrame) -> tuple[list[str], Callable[[Floats], Floats]]:
    """Make the statistic of all figures at once.

    Args:
        queries: `(N,)`, ranked.

    Returns:
        Names of the figures, and the function from `(B, N)` weights to `(S, B)` of them.
    """
    flags = {name: queries[name].to_numpy(dtype=bool) for name in queries.select_dtypes(bool)}

    def total(weights: Floats, name: str) -> Floats:
        found: Floats = weights @ flags[name].astype(np.float64)
        return found

    def gap(weights: Floats, answered: str) -> Floats:
        chosen = flags[answered]
        return weighted_gap(weights[:, chosen], flags[f"{answered}_right"][chosen], total(weights, "counts"))

    def statistic(weights: Floats) -> Floats:
        shares = [_divide(total(weights, part), total(weights, whole)) for part, whole in SHARES.values()]
        answered = total(weights, "answered") / weights.sum(axis=1)
        return np.stack([gap(weights, "answered"), gap(weights, "guessed"), *shares, answered])

    return ["gap", "gap_unrejected", *SHARES, "answered"], statistic


def _gap_and_top1(queries: pd.DataFrame) -> Callable[[Floats], Floats]:
    """Make the function from `(B, N)` weights of the queries to `(2, B)` GAP and top-1."""
    counts, top1 = (queries[name].to_numpy(dtype=np.float64) for name in ("counts", "top1"))
    rows = ranked(queries.reset_index(names="place")).query("answered")
    place, right = rows["place"].to_numpy(), rows["answered_right"].to_numpy(dtype=bool)

    def statistic(weights: Floats) -> Floats:
        relevant = weights @ counts
        return np.stack([weighted_gap(weights[:, place], right, relevant), _divide(weights @ top1, relevant)])

    return statistic


def _divide(upper: Floats, lower: Floats) -> Floats:
    """Divide, with NaN for what a resample cannot give."""
    return np.divide(upper, lower, out=np.full_like(upper, np.nan), where=lower > 0)


def _moves(interval: Interval) -> bool:
    return bool(np.isfinite(interval).all()) and interval not in ((0.0, 0.0), (1.0, 1.0))


def _known(end: float) -> float | None:
    return float(end) if np.isfinite(end) else None
