"""How far the figures would move with other records: bootstrap intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from waymark.metrics.figures import WITHIN_KM, within_name
from waymark.metrics.functional import GEOSCORE_MAX, GEOSCORE_SCALE_KM

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 1
METHOD = "percentile bootstrap"
QUANTILES = {"median_km": 0.5, "p90_km": 0.9}

_BATCH_NUMBERS = 4_000_000  # resamples that are drawn at once are as many as fit in some 100 MB

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Intervals of one split.

    Attributes:
        unit: what was resampled: `record`, or `group` where records share groups.
        units: number of these.
        figures: interval by figure; absent where there is nothing to resample.
    """

    unit: str
    units: int
    figures: dict[str, Interval]

    def document(self) -> dict[str, Any]:
        """Give the intervals as JSON."""
        return {"unit": self.unit, "units": self.units, **{name: list(pair) for name, pair in self.figures.items()}}


def place_intervals(
    predictions: pd.DataFrame, groups: "pd.Series[Any] | None" = None, *, resamples: int = RESAMPLES
) -> Intervals:
    """Give 95 % percentile bootstrap intervals of the figures of one split.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; with groups the cluster bootstrap of
    Davison and Hinkley 1997, section 3.8: whole groups are drawn, because records of one panorama err alike. All
    figures are taken from the same resamples, which are drawn from a fixed seed.

    A share of exactly 0 or 1 has no interval: no resample of it can give another one.

    Args:
        predictions: `(N,)` rows of predictions.parquet, of one split.
        groups: group by record_id, null for a record that stands alone; None where no record has a group.
        resamples: how many are drawn.

    Returns:
        Intervals by the names of `place_figures`, and of `times_constant`, the ratio of `mean_km` and
        `constant_mean_km`.
    """
    known = predictions[predictions["distance_km"].notna()]
    rows = known.sort_values("distance_km", kind="stable")
    unit, member = _units(rows, groups_of(rows, groups))
    units = int(member.max()) + 1 if len(member) else 0
    if units < 2:
        return Intervals(unit, units, {})
    names, statistic = _figures(rows)
    low, high = _percentiles(statistic, member, resamples)
    found = [(name, Interval(*pair)) for name, *pair in zip(names, low.tolist(), high.tolist(), strict=True)]
    return Intervals(unit, units, {name: interval for name, interval in found if _moves(name, interval)})


def paired_difference(
    model: pd.DataFrame,
    against: pd.DataFrame,
    groups: "pd.Series[Any] | None" = None,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Any] | None:
    """Compare the mean errors of two models over the same records, with intervals from the same resamples.

    Args:
        model: rows of one split of a model's predictions.
        against: those of the model that it is held against; records that only one of them knows are left out.
        groups: group by record_id, null for a record that stands alone.
        resamples: how many are drawn.

    Returns:
        `records`, `unit`, and `difference_km` (`mean_km` of the model minus that of the other) and `ratio` (the one
        divided by the other), each with `value`, `low` and `high`; None where fewer than two units have both.
    """
    both = model[["record_id", "distance_km"]].merge(against[["record_id", "distance_km"]], on="record_id").dropna()
    unit, member = _units(both, groups_of(both, groups))
    units = int(member.max()) + 1 if len(member) else 0
    if units < 2:
        return None
    pair = both[["distance_km_x", "distance_km_y"]].to_numpy(dtype=np.float64)

    def compare(weights: Floats) -> Floats:
        first, second = (weights @ pair / weights.sum(axis=1, keepdims=True)).T
        return np.stack([first - second, first / second])

    value = compare(np.ones((1, len(pair))))[:, 0]
    low, high = _percentiles(compare, member, resamples)
    figures = {
        name: {"value": float(value[row]), "low": float(low[row]), "high": float(high[row])}
        for row, name in enumerate(("difference_km", "ratio"))
    }
    return {"records": len(both), "unit": unit, **figures}


def statistic_interval(values: Floats, quantile: float | None = None, *, resamples: int = RESAMPLES) -> Interval | None:
    """Give the interval of the mean of `(N,)` values, or of a quantile of theirs; None for fewer than two."""
    if len(values) < 2:
        return None
    ordered = np.sort(values)

    def statistic(weights: Floats) -> Floats:
        found: Floats = (
            weights @ ordered / len(ordered) if quantile is None else weighted_quantile(ordered, weights, quantile)
        )
        return found[None]

    low, high = _percentiles(statistic, np.arange(len(values)), resamples)
    return Interval(float(low[0]), float(high[0]))


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
        upper_groups: group by record_id, null for a record that stands alone.
        lower_groups: likewise.
        resamples: how many are drawn.

    Returns:
        `value`, `low` and `high`, the last two None for fewer than two units on either side; None without records.
    """
    sides = [rows.dropna(subset=["distance_km"]) for rows in (upper, lower)]
    if not all(len(rows) for rows in sides):
        return None
    errors = [rows["distance_km"].to_numpy(dtype=np.float64) for rows in sides]
    groups = (upper_groups, lower_groups)
    members = [_units(rows, groups_of(rows, its))[1] for rows, its in zip(sides, groups, strict=True)]
    value = float(errors[0].mean() / errors[1].mean())
    if min(member.max() for member in members) < 1:
        return {"value": value, "low": None, "high": None}

    def ratio(*drawn: NDArray[np.int64], axis: int) -> Floats:
        weights = [_weights(drawn_units, member, axis) for drawn_units, member in zip(drawn, members, strict=True)]
        means = [
            (weight @ error / weight.sum(axis=1)).reshape(np.moveaxis(units, axis, -1).shape[:-1])
            for weight, error, units in zip(weights, errors, drawn, strict=True)
        ]
        return np.asarray(means[0] / means[1])

    low, high = _ends(ratio, members, resamples)
    return {"value": value, "low": float(low), "high": float(high)}


def groups_of(rows: pd.DataFrame, groups: "pd.Series[Any] | None") -> NDArray[np.object_] | None:
    """Look up the group of each row by its record_id; None where there are no groups."""
    return None if groups is None else groups.reindex(rows["record_id"]).to_numpy(dtype=object)


def _units(rows: pd.DataFrame, groups: NDArray[np.object_] | None) -> tuple[str, NDArray[np.int64]]:
    """Say what is resampled, and number it for each row."""
    alone = np.arange(len(rows), dtype=np.int64)
    if groups is None or pd.isna(groups).all():
        return "record", alone
    # Records alone are numbered as groups of their own.
    names = [f"alone {row}" if pd.isna(group) else f"group {group}" for row, group in enumerate(groups)]
    member = pd.factorize(np.array(names, dtype=object))[0].astype(np.int64)
    return ("record", alone) if member.max(initial=-1) + 1 == len(rows) else ("group", member)


def _percentiles(
    statistic: Callable[[Floats], Floats], member: NDArray[np.int64], resamples: int
) -> tuple[Floats, Floats]:
    """Bootstrap a statistic of `(B, N)` weights, which say how often a resample holds each row.

    Args:
        statistic: function from `(B, N)` weights to `(S, B)` figures.
        member: `(N,)` unit of each row.
        resamples: how many are drawn.

    Returns:
        `(S,)` lower and upper ends; NaN where a resample has no value.
    """

    def resampled(drawn: NDArray[np.int64], axis: int) -> Floats:
        figures = statistic(_weights(drawn, member, axis))
        return figures.reshape(len(figures), *np.moveaxis(drawn, axis, -1).shape[:-1])

    return _ends(resampled, [member], resamples)


def _ends(statistic: Callable[..., Floats], members: Sequence[NDArray[np.int64]], resamples: int) -> tuple[Any, Any]:
    """Bootstrap a statistic of drawn units, one sample of them for each of `members`."""
    found = bootstrap(
        [np.arange(member.max() + 1) for member in members],
        statistic,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // max(map(len, members))),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return found.low, found.high


def _weights(drawn: NDArray[np.int64], member: NDArray[np.int64], axis: int) -> Floats:
    """Say how often each of B resamples of the units holds each of N rows: `(B, N)`."""
    units = int(member.max()) + 1
    flat = np.moveaxis(drawn, axis, -1).reshape(-1, units)
    offset = np.arange(len(flat))[:, None] * units
    times = np.bincount((flat + offset).ravel(), minlength=flat.size).reshape(flat.shape)
    return times[:, member].astype(np.float64)


def _moves(name: str, interval: Interval) -> bool:
    """Whether resampling tells anything: not of NaN, and not of a share that is 0 or 1 in all of them."""
    shares = name.startswith(("within_", "coverage_", "cell_accuracy"))
    return bool(np.isfinite(interval).all()) and not (shares and interval in ((0.0, 0.0), (1.0, 1.0)))


def _columns(rows: pd.DataFrame) -> dict[str, Floats]:
    """Give the `(N,)` values whose means are figures, by the names of these; NaN where a record has none."""
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


def weighted_quantile(ordered: Floats, weights: Floats, share: float) -> Floats:
    """Give the quantile of values that count several times or not at all, interpolated as NumPy does.

    Args:
        ordered: `(N,)` values, the smallest first.
        weights: `(B, N)` how often each counts, whole numbers.
        share: such as 0.5 for the median.

    Returns:
        `(B,)` quantiles.

    >>> weighted_quantile(np.array([1.0, 2.0, 8.0]), np.array([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0]]), 0.5).tolist()
    [8.0, 1.5]
    """
    reached = weights.cumsum(axis=1)
    place = share * (reached[:, -1] - 1)
    low = np.floor(place)
    lower, upper = (
        ordered[(reached > np.minimum(rank, reached[:, -1] - 1)[:, None]).argmax(axis=1)] for rank in (low, low + 1)
    )
    found: Floats = lower + (place - low) * (upper - lower)
    return found
