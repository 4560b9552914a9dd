"""Draw records or whole groups again and again, and see how far a statistic moves (the bootstrap)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 1
METHOD = "percentile bootstrap"

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
        """Turn the intervals into JSON."""
        return {"unit": self.unit, "units": self.units, **{name: list(pair) for name, pair in self.figures.items()}}


def statistic_interval(values: Floats, quantile: float | None = None, *, resamples: int = RESAMPLES) -> Interval | None:
    """Compute the interval of the mean of `(N,)` values, or of a quantile of theirs; None for fewer than two."""
    if len(values) < 2:
        return None
    ordered = np.sort(values)

    def statistic(weights: Floats) -> Floats:
        found: Floats = (
            weights @ ordered / len(ordered) if quantile is None else weighted_quantile(ordered, weights, quantile)
        )
        return found[None]

    low, high = percentiles(statistic, np.arange(len(values)), resamples)
    return Interval(float(low[0]), float(high[0]))


class Units(NamedTuple):
    """What is resampled.

    Attributes:
        unit: `record`, or `group` where records share groups.
        member: `(N,)` unit of each row.
        number: how many units there are; of fewer than two, no interval is drawn.
    """

    unit: str
    member: NDArray[np.int64]
    number: int


def units_of(rows: pd.DataFrame, groups: "pd.Series[Any] | None") -> Units:
    """Find what is resampled, and number it for each row.

    Args:
        rows: `(N,)` with `record_id`.
        groups: group by record_id, null for a record on its own; None where no record has a group.
    """
    alone = Units("record", np.arange(len(rows), dtype=np.int64), len(rows))
    known = None if groups is None else groups.reindex(rows["record_id"]).to_numpy(dtype=object)
    if known is None or pd.isna(known).all():
        return alone
    # Records alone are numbered as groups of their own.
    names = [f"alone {row}" if pd.isna(group) else f"group {group}" for row, group in enumerate(known)]
    member = pd.factorize(np.array(names, dtype=object))[0].astype(np.int64)
    number = int(member.max(initial=-1)) + 1
    return alone if number == len(rows) else Units("group", member, number)


def percentiles(
    statistic: Callable[[Floats], Floats],
    member: NDArray[np.int64],
    resamples: int,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> tuple[Floats, Floats]:
    """Bootstrap a statistic of `(B, N)` weights, which say how often a resample holds each row.

    Args:
        statistic: function from `(B, N)` weights to `(S, B)` figures.
        member: `(N,)` unit of each row.
        resamples: how many are drawn.
        confidence: share of them between the ends.
        seed: from which they are drawn.

    Returns:
        `(S,)` lower and upper ends; NaN where a resample has no value.
    """

    def resampled(drawn: NDArray[np.int64], axis: int) -> Floats:
        figures = statistic(weights_of(drawn, member, axis))
        return figures.reshape(len(figures), *np.moveaxis(drawn, axis, -1).shape[:-1])

    return ends(resampled, [member], resamples, confidence, seed)


def ends(
    statistic: Callable[..., Floats],
    members: Sequence[NDArray[np.int64]],
    resamples: int,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> tuple[Any, Any]:
    """Bootstrap a statistic of drawn units, one sample of them for each of `members`."""
    found = bootstrap(
        [np.arange(member.max() + 1) for member in members],
        statistic,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // max(map(len, members))),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return found.low, found.high


def weights_of(drawn: NDArray[np.int64], member: NDArray[np.int64], axis: int) -> Floats:
    """Count how often each of B resamples of the units holds each of N rows: `(B, N)`."""
    units = int(member.max()) + 1
    flat = np.moveaxis(drawn, axis, -1).reshape(-1, units)
    offset = np.arange(len(flat))[:, None] * units
    times = np.bincount((flat + offset).ravel(), minlength=flat.size).reshape(flat.shape)
    return times[:, member].astype(np.float64)


def weighted_quantile(ordered: Floats, weights: Floats, share: float) -> Floats:
    """Compute the quantile of values that count several times or not at all, interpolated as NumPy does.

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
