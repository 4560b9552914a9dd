"""Calibration: reliability diagrams, and coverage of the error radii."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.metrics.wilson import wilson_interval

BINS = 10
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """How often a model is right against how often it says it is.

    Attributes:
        curve: one row for each bin: `probability` (mean), `accuracy`, `low`, `high` (95 %, Wilson), `records`.
        ece: expected calibration error, the mean difference of the two.
    """

    curve: pd.DataFrame
    ece: float


def reliability(probability: Floats, right: NDArray[np.bool_], *, bins: int = BINS) -> Reliability | None:
    """Compare probabilities with how often they came true, in bins of equally many records.

    Naeini et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning, equation 3, with bins of equal
    mass (Nixon et al. 2019), which leave no bin to chance.

    Args:
        probability: `(N,)` that the model gave its answer.
        right: `(N,)` whether the answer was right.
        bins: how many, or one for each record where there are fewer; equal probabilities may fall into two.

    Returns:
        None without records.
    """
    if not len(probability):
        return None
    order = np.argsort(probability, kind="stable")
    rows = []
    for chosen in np.array_split(order, min(bins, len(order))):
        hits = int(right[chosen].sum())
        low, high = map(float, wilson_interval(hits / len(chosen), len(chosen)))
        rows.append((float(probability[chosen].mean()), hits / len(chosen), low, high, len(chosen)))
    curve = pd.DataFrame(rows, columns=["probability", "accuracy", "low", "high", "records"])
    apart = (curve["probability"] - curve["accuracy"]).abs()
    return Reliability(curve, float((apart * curve["records"]).sum() / len(order)))


def cell_reliability(predictions: pd.DataFrame, *, bins: int = BINS) -> Reliability | None:
    """Take the probabilities of the predicted cells; as for `cell_accuracy`, records in cells of the model count.

    Args:
        predictions: rows of predictions.parquet, of one split.
        bins: how many.
    """
    known = predictions.dropna(subset=["probability", "cell", "distance_km"])
    right = (known["cell"] == known["predicted_cell"]).to_numpy(dtype=bool)
    return reliability(known["probability"].to_numpy(dtype=np.float64), right, bins=bins)


def radius_coverage(calibrated: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Compare the share that radii promise with the share that they cover, for more shares than are given out.

    A radius is a record's difficulty times a conformal quantile of val, so that error divided by the 90 % radius is
    the conformal score up to a constant, and the radius of any other share can be made up from val's scores. At 50 %
    and 90 % this is `coverage_50` and `coverage_90`.

    Args:
        calibrated: rows of predictions.parquet that the radii were learnt from (val).
        tested: rows of another split.

    Returns:
        Columns `promised`, `covered`, `low`, `high` (95 %, Wilson), `records`; a share that the calibrated records are
        too few to promise is left out.
    """
    scores, new = np.sort(_scores(calibrated)), _scores(tested)
    rows = []
    for share in SHARES:
        rank = math.ceil(round((len(scores) + 1) * share, 9))
        if len(new) and 1 <= rank <= len(scores):
            # The product of a quotient loses a last bit; the record that made the quantile still counts as covered.
            hits = int((new <= scores[rank - 1] * (1 + 1e-12)).sum())
            rows.append((share, hits / len(new), *map(float, wilson_interval(hits / len(new), len(new))), len(new)))
    return pd.DataFrame(rows, columns=["promised", "covered", "low", "high", "records"])


def _scores(rows: pd.DataFrame) -> Floats:
    radius = "radius_50_km" if rows["radius_90_km"].isna().all() else "radius_90_km"
    known = rows.dropna(subset=["distance_km", radius])
    return (known["distance_km"] / known[radius]).to_numpy(dtype=np.float64)
