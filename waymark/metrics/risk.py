"""What it is worth to answer only where a model is certain."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.metrics.queries import Relevant, queries_of, ranked

CURVE_ROWS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """Mean error over the most certain records.

    Attributes:
        curve: columns `share` of the records that are answered, `mean_km` over the most certain of them, and
            `oracle_km` over those with the least error.
        aurc_km: mean of `mean_km` over all shares: the area under the curve (Geifman, Uziel and El-Yaniv 2019,
            Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers).
        random_km: the same of an order by chance, which is the mean error.
        oracle_km: the same of the order by the error itself.
    """

    curve: pd.DataFrame
    aurc_km: float
    random_km: float
    oracle_km: float


def risk_coverage(error_km: Floats, uncertainty: Floats) -> RiskCoverage | None:
    """Answer for more and more records, the most certain first.

    Records of equal uncertainty count with the mean of their errors, as if their order were chance.

    Args:
        error_km: `(N,)` kilometres.
        uncertainty: `(N,)` such as the 90 % radius; the smaller, the sooner a record is answered.

    Returns:
        None without records.
    """
    if not len(error_km):
        return None
    tied = pd.Series(error_km).groupby(uncertainty).transform("mean").to_numpy(dtype=np.float64)
    answered = np.arange(1, len(error_km) + 1)
    mean_km = tied[np.argsort(uncertainty, kind="stable")].cumsum() / answered
    oracle_km = np.sort(error_km).cumsum() / answered
    curve = pd.DataFrame({"share": answered / len(error_km), "mean_km": mean_km, "oracle_km": oracle_km})
    return RiskCoverage(curve, float(mean_km.mean()), float(np.mean(error_km)), float(oracle_km.mean()))


def radius_risk_coverage(predictions: pd.DataFrame) -> RiskCoverage | None:
    """Answer in the order of the 90 % radius; rows without error or radius are left out.

    Args:
        predictions: rows of predictions.parquet, of one split.
    """
    known = predictions.dropna(subset=["distance_km", "radius_90_km"])
    return risk_coverage(*(known[name].to_numpy(dtype=np.float64) for name in ("distance_km", "radius_90_km")))


def answer_curve(predictions: pd.DataFrame, relevant: Relevant = "all", *, rows: int = CURVE_ROWS) -> pd.DataFrame:
    """Name a landmark only from a threshold of the score on, for every threshold that makes a difference.

    Args:
        predictions: rows of predictions.parquet, of one split.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.
        rows: how many thresholds are kept at most, evenly among the different scores and with both ends.

    Returns:
        Columns `threshold` (the highest first; a score equal to it is answered), `answered` (share of all records),
        `precision` (share of the answers that are right), `recall` (right answers as a share of the queries; NaN where
        there is none), `confidence` (that of the threshold; NaN where unknown). Empty where nothing was answered.
    """
    queries = queries_of(predictions, relevant)
    guesses = ranked(queries[queries["guessed"]])
    last = np.flatnonzero(~guesses["score"].duplicated(keep="last"))  # equal scores are answered together
    if len(last) > rows:
        last = last[np.linspace(0, len(last) - 1, rows).round().astype(int)]
    right = guesses["guessed_right"].to_numpy(dtype=np.float64).cumsum()[last]
    relevant_queries = float(queries["counts"].sum())
    return pd.DataFrame(
        {
            "threshold": guesses["score"].to_numpy()[last],
            "answered": (last + 1) / max(len(queries), 1),
            "precision": right / (last + 1),
            "recall": right / (relevant_queries or np.nan),
            "confidence": guesses["confidence"].to_numpy()[last],
        }
    )
