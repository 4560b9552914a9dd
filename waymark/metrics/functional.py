"""The metrics of the field as pure functions of tensors."""

import torch
from torch import Tensor

from waymark.errors import ParameterError
from waymark.geo.sphere import EARTH_RADIUS_KM as EARTH_RADIUS_KM  # for those who have it from here

GEOSCORE_SCALE_KM = 1492.7  # GeoGuessr's world map; Haas et al. 2023 (PIGEON), section 4
GEOSCORE_MAX = 5000.0


def haversine_km(predicted: Tensor, target: Tensor) -> Tensor:
    """Measure great-circle distances on a sphere of radius 6371.0088 km.

    The half chord h of the haversine formula (Sinnott 1984) comes from products of sines, and
    the angle from atan2(sqrt(h), sqrt(1 - h)), so that neither equal nor antipodal points lose
    their digits in float32; 1 - h is itself summed from squares rather than subtracted. Both
    roots are taken as norms, whose gradient at zero is zero: it is finite for equal points too.

    Args:
        predicted: `(..., 2)` latitude, longitude in degrees.
        target: `(..., 2)` latitude, longitude in degrees.

    Returns:
        `(...)` kilometres.

    >>> haversine_km(torch.tensor([45.815, 15.982]), torch.tensor([43.508, 16.440])).round(decimals=1)
    tensor(259.1000)
    """
    delta = torch.deg2rad(target - predicted) / 2
    mean = torch.deg2rad(target[..., 0] + predicted[..., 0]) / 2
    d_latitude, d_longitude = delta[..., 0], delta[..., 1]
    sine, cosine = torch.sin(d_longitude), torch.cos(d_longitude)
    near = torch.stack([torch.sin(d_latitude) * cosine, torch.cos(mean) * sine], dim=-1)  # (..., 2)
    far = torch.stack([torch.cos(d_latitude) * cosine, torch.sin(mean) * sine], dim=-1)  # (..., 2)
    half_angle = torch.atan2(torch.linalg.vector_norm(near, dim=-1), torch.linalg.vector_norm(far, dim=-1))
    return 2 * EARTH_RADIUS_KM * half_angle


def geoscore(distance_km: Tensor) -> Tensor:
    """Compute the points that GeoGuessr's world map gives for a distance: 5000 exp(-d / 1492.7).

    Args:
        distance_km: `(...)` kilometres.

    Returns:
        `(...)` points from 0 to 5000, unrounded.

    >>> geoscore(torch.tensor([0.0, 1492.7])).round()
    tensor([5000., 1839.])
    """
    return GEOSCORE_MAX * torch.exp(-distance_km / GEOSCORE_SCALE_KM)


def within_km(distance_km: Tensor, threshold_km: float) -> Tensor:
    """Compute the share of distances up to a threshold.

    Args:
        distance_km: `(N,)` kilometres, at least one.
        threshold_km: distances equal to it count as within.

    >>> within_km(torch.tensor([0.5, 1.0, 3.0, 4.0]), 1.0)
    tensor(0.5000)
    """
    return (distance_km <= threshold_km).to(distance_km.dtype).mean()


def global_average_precision(scores: Tensor, correct: Tensor, relevant: int) -> Tensor:
    """Rank the answers to all queries by their score, and average the precision at each right one: GAP or micro-AP.

    GAP = 1/M * sum over ranks i of P(i) rel(i), where P(i) is the precision of the first i answers, rel(i) says whether
    answer i is right, and M queries have a landmark (Perronnin, Liu and Renders 2009, A Family of Contextual Measures
    of Similarity between Distributions, micro-AP; Weyand et al. 2020, Google Landmarks Dataset v2, on its metrics).
    Ties are ordered as in the dataset's own `GlobalAveragePrecision` (tensorflow/models, research/delf,
    google_landmarks_dataset/metrics.py). A query gets one answer or none; one without a landmark lengthens the ranking
    when it gets one.

    Args:
        scores: `(N,)` of the answers, in ascending order of the queries' ids; equal scores keep this order.
        correct: `(N,)` whether the answer is one of the query's landmarks.
        relevant: M, number of queries that have a landmark, answered or not.

    Returns:
        Scalar float64 from 0 to 1; NaN where no query has a landmark.

    Raises:
        ParameterError: scores and correct differ in shape or are no vectors, a score is NaN, or more answers are right
            than queries have a landmark.

    >>> scores = torch.tensor([0.8, 0.8, 0.6, 0.9])  # of a, b, c and d, which has no landmark
    >>> global_average_precision(scores, torch.tensor([True, True, False, False]), relevant=3)
    tensor(0.3889, dtype=torch.float64)
    """
    right = correct.to(torch.float64)
    _check_ranking(scores, right, relevant)
    if relevant == 0:
        return torch.tensor(torch.nan, dtype=torch.float64, device=scores.device)
    right = right[scores.argsort(descending=True, stable=True)]
    answered = torch.arange(1, len(right) + 1, dtype=torch.float64, device=right.device)
    return (right.cumsum(0) / answered * right).sum() / relevant


def _check_ranking(scores: Tensor, right: Tensor, relevant: int) -> None:
    if scores.ndim != 1 or scores.shape != right.shape:
        raise ParameterError(
            f"scores {tuple(scores.shape)} and correct {tuple(right.shape)} do not fit:"
            " give two vectors of one length, an entry for each answer"
        )
    unknown = int(scores.isnan().sum())
    if unknown:
        raise ParameterError(
            f"{unknown} of {len(scores)} scores are NaN and have no rank; leave out what got no answer"
        )
    if relevant < 0 or (relevant and right.sum() > relevant):
        raise ParameterError(
            f"{int(right.sum())} right answers cannot come from {relevant} relevant queries;"
            " count every query that has a landmark, and give one answer for each query"
        )
