"""Does a model find places that it has seen none near to?"""

import numpy as np
import pandas as pd

from waymark.metrics.intervals import Interval, statistic_interval

BINS = 8
MANY_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def error_by_nearness(predictions: pd.DataFrame, *, bins: int = BINS) -> pd.DataFrame:
    """Take the median error in bins of equally many records by the distance to the nearest training place.

    Args:
        predictions: rows of predictions.parquet, of one split, with `nearest_train_km`.
        bins: how many at most; records at the same distance share a bin.

    Returns:
        Columns `nearest_low_km`, `nearest_km` (median), `nearest_high_km`, `median_km`, its 95 % bootstrap interval
        `low_km` and `high_km` (NaN for a single record), `records`.
    """
    known = predictions.dropna(subset=["distance_km", "nearest_train_km"])
    columns = ["nearest_low_km", "nearest_km", "nearest_high_km", "median_km", "low_km", "high_km", "records"]
    if known.empty:
        return pd.DataFrame(columns=columns)
    near_km = known["nearest_train_km"].to_numpy(dtype=float)
    edges = np.unique(np.quantile(near_km, np.linspace(0, 1, bins + 1)))
    rows = []
    for _, group in known.groupby(np.searchsorted(edges[1:-1], near_km, side="left")):
        errors, places = group["distance_km"].to_numpy(dtype=float), group["nearest_train_km"].astype(float)
        low, high = statistic_interval(errors, 0.5) or Interval(np.nan, np.nan)
        rows.append((places.min(), places.median(), places.max(), np.median(errors), low, high, len(group)))
    return pd.DataFrame(rows, columns=columns)


def nearness_quantiles(nearest_km: "pd.Series[float]") -> dict[str, float]:
    """Sum up distances to the nearest training place as quantiles, by names such as `q50_km`.

    >>> nearness_quantiles(pd.Series([1.0, 2.0, 3.0]))["q50_km"]
    2.0
    """
    known = nearest_km.dropna().to_numpy(dtype=float)
    if not len(known):
        return {}
    return {f"q{round(100 * share):02d}_km": float(np.quantile(known, share)) for share in MANY_QUANTILES}
