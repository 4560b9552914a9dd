"""Several models that answer together: where a photo was taken, and which landmark it shows."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.geo.sphere import to_degrees, unit_vectors

Floats = NDArray[np.float64]

ITERATIONS = 200
CLOSE_RAD = 1e-9  # 6 mm on the Earth: nearer than that, two answers are one
EQUAL_RAD = 1e-13  # by which sums of angles may differ from rounding


def combined_places(lat_lon: Floats, weights: Sequence[float], combine: Literal["median", "mean"] = "median") -> Floats:
    """Combine the places that several models answer for the same records.

    The median is the place with the smallest weighted sum of great-circle distances to the answers: one model that is
    far off moves it little. It is found by the steps of Weiszfeld in the tangent plane of the sphere (Fletcher et al.
    2009, The geometric median on Riemannian manifolds, equation 5), which Vardi and Zhang 2000 (The multivariate
    L1-median and associated data depth, equation 2.6) lead past the answers themselves. Of two answers of equal weight
    it is the midpoint; an answer with more than half of the weight is the median itself. The mean is the direction of
    the mean of the unit vectors.

    Args:
        lat_lon: `(M, N, 2)` latitude, longitude in degrees of M models for N records.
        weights: `(M,)` what each model counts, above 0.
        combine: `median` or `mean`.

    Returns:
        `(N, 2)` degrees, the longitude from -180 to 180; NaN where a model has no answer. Where the mean of the unit
        vectors vanishes, as of antipodal answers, the mean is the first answer of the greatest weight.

    >>> two = np.array([[[45.0, 16.0]], [[45.0, 18.0]]])
    >>> combined_places(two, [1, 1]).round(3).tolist()
    [[45.004, 17.0]]
    """
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    points = unit_vectors(np.asarray(lat_lon, dtype=np.float64))  # (M, N, 3)
    place = _mean(points, share)
    if combine == "median":
        place = _median(points, share, place)
    return to_degrees(place)


def _mean(points: Floats, share: Floats) -> Floats:
    total = np.tensordot(share, points, axes=1)  # (N, 3)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    found: Floats = np.where(length < CLOSE_RAD, points[share.argmax()], total / np.maximum(length, CLOSE_RAD))
    return found


def _median(points: Floats, share: Floats, start: Floats) -> Floats:
    place, left = start.copy(), np.arange(len(start))  # records that still move
    for _ in range(ITERATIONS):
        step, moved = _step(points[:, left], share, place[left])
        place[left] = _walk(place[left], step)
        left = left[moved > EQUAL_RAD]
    choices = np.concatenate([place[None], points])  # an answer itself may be the median, which the steps only approach
    far = np.stack([_far(choice, points, share) for choice in choices])  # (M + 1, N)
    far[0] -= EQUAL_RAD  # so that of equals the place between the answers is taken
    found: Floats = np.take_along_axis(choices, np.nan_to_num(far, nan=np.inf).argmin(axis=0)[None, :, None], axis=0)[0]
    answered = np.asarray(np.isfinite(points).all(axis=(0, 2)))
    return np.where(answered[:, None], found, np.nan)


def _far(place: Floats, points: Floats, share: Floats) -> Floats:
    """Sum up the `(N,)` weighted distances to the points, in radians."""
    found: Floats = np.tensordot(share, _angle(place, points), axes=1)
    return found


def _angle(place: Floats, points: Floats) -> Floats:
    """Measure `(M, N)` angles in radians, which the tangent of the half angle gives without loss of digits."""
    difference, total = (np.linalg.norm(vectors, axis=-1) for vectors in (points - place, points + place))
    found: Floats = 2 * np.arctan2(difference, total)
    return found


def _step(points: Floats, share: Floats, place: Floats) -> tuple[Floats, Floats]:
    """Compute the `(N, 3)` step in the tangent plane and its `(N,)` length in radians.

    An answer at the place itself, which would hold it there for ever, is left out.
    """
    angle = _angle(place, points)  # (M, N)
    separate = angle > CLOSE_RAD
    flat = points - np.sum(points * place, axis=-1, keepdims=True) * place
    direction = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), CLOSE_RAD)  # (M, N, 3) unit tangents
    pull = np.where(separate, share[:, None], 0.0)  # (M, N)
    inverse = np.sum(pull / np.maximum(angle, CLOSE_RAD), axis=0)
    step = np.sum(pull[..., None] * direction, axis=0) / np.maximum(inverse, CLOSE_RAD)[:, None]
    return step, np.linalg.norm(step, axis=-1)


def _walk(place: Floats, step: Floats) -> Floats:
    """Go `(N, 3)` steps along great circles."""
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    moved = np.cos(length) * place + np.sinc(length / np.pi) * step
    found: Floats = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
    return found


def combined_candidates(
    candidates: Sequence[pd.DataFrame], predictions: Sequence[pd.DataFrame], weights: Sequence[float]
) -> pd.DataFrame:
    """Add up what several models think of the landmarks that any of them has among its candidates.

    The scores of different heads have no common scale, so each model's are standardised with the mean and the standard
    deviation of its answers' scores on val. A landmark that is not among a model's candidates for a record gets the
    lowest of its scores there: it is at most that.

    Args:
        candidates: of each model, `record_id`, `landmark` and `score`, each landmark at most once for a record.
        predictions: of each model, rows of predictions.parquet, of which `split` and `score` are used.
        weights: `(M,)` what each model counts, above 0.

    Returns:
        Columns `record_id`, `place` (1 is the best), `landmark`, `score` (weighted mean of the standardised scores);
        by record and place, equals by landmark.
    """
    standard = pd.concat(
        [
            table.set_index(["record_id", "landmark"])["score"].pipe(_standardised, rows).rename(member)
            for member, (table, rows) in enumerate(zip(candidates, predictions, strict=True))
        ],
        axis=1,
    )
    lowest = standard.groupby(level="record_id").transform("min")
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    score = (standard.fillna(lowest) * share).sum(axis=1, skipna=False).rename("score").reset_index()
    ranked: pd.DataFrame = score.sort_values(
        ["record_id", "score", "landmark"], ascending=[True, False, True], ignore_index=True
    )
    ranked["place"] = ranked.groupby("record_id").cumcount() + 1
    return ranked[["record_id", "place", "landmark", "score"]]


def _standardised(scores: "pd.Series[float]", predictions: pd.DataFrame) -> "pd.Series[float]":
    of_val = predictions.loc[predictions["split"] == "val", "score"].dropna()
    deviation = of_val.std(ddof=0) if len(of_val) else 0.0
    return (scores - (of_val.mean() if len(of_val) else 0.0)) / (deviation or 1.0)


def combined_ranks(candidates: pd.DataFrame, predictions: Sequence[pd.DataFrame]) -> "pd.Series[int]":
    """Rank the best-placed true landmark of each record.

    Args:
        candidates: what `combined_candidates` gave.
        predictions: of each model, rows of predictions.parquet for the same records in the same order.

    Returns:
        `(N,)` place among the candidates; where no true landmark is among them, the best rank that a model gave one,
        which is behind the candidates of each; null where no model knows a true one, or the record has none.
    """
    first = predictions[0]
    truths = first[["record_id", "landmarks"]].explode("landmarks").rename(columns={"landmarks": "landmark"})
    placed = truths.merge(candidates, on=["record_id", "landmark"]).groupby("record_id")["place"].min()
    among = first["record_id"].map(placed).astype("Int64")
    known = pd.concat([rows["rank"].astype("Int64").reset_index(drop=True) for rows in predictions], axis=1).min(axis=1)
    return among.reset_index(drop=True).fillna(known).astype("Int64")
