"""How sure a model is: what validation says of its probabilities, distances and scores."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from waymark.metrics.functional import haversine_km
from waymark.models.decoding import row_chunks
from waymark.system.untrusted import CLOSED

TEMPERATURES = (0.05, 20.0)
Length = Annotated[float, Field(ge=0)]
FLOOR_SHARE = 0.05  # of the median difficulty: no radius shrinks to nothing


def fit_temperature(logits: Tensor, label: Tensor) -> float:
    """Find the temperature that makes probabilities honest: lowest cross-entropy on validation.

    Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.

    Args:
        logits: `(N, K)`.
        label: `(N,)` class, -1 where the record has none.

    Returns:
        What logits are divided by; 1 where no record has a class.
    """
    known = label >= 0
    if not known.any():
        return 1.0
    logits, label = logits[known].double(), label[known]

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), label))

    low, high = map(math.log, TEMPERATURES)
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)


def expected_distance_km(
    probabilities: Tensor, positions: NDArray[np.float64], answer: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weigh the distances from an answer to all cells with the cells' probabilities.

    Args:
        probabilities: `(N, K)` of the cells.
        positions: `(K, 2)` latitude, longitude of the cells in degrees, or `(N, K, 2)` for each record.
        answer: `(N, 2)` latitude, longitude in degrees.

    Returns:
        `(N,)` kilometres.
    """
    places, cells = torch.from_numpy(answer), torch.from_numpy(positions)
    expected_km = torch.empty(len(places), dtype=torch.float64)
    for rows in row_chunks(*probabilities.shape):
        distance_km = haversine_km(places[rows, None], cells if cells.ndim == 2 else cells[rows])  # (n, K)
        expected_km[rows] = (probabilities[rows].double() * distance_km).sum(dim=1)
    return expected_km.numpy()


@dataclass(frozen=True)
class RetrievalIndex:
    """Training records by what the network sees in them.

    Args:
        embedding: `(N, D)` of unit length.
        lat_lon: `(N, 2)` degrees, NaN where unknown.
        landmark: `(N,)` which one each shows, None where it shows none; None where no head asks.
    """

    embedding: NDArray[np.float32]
    lat_lon: NDArray[np.float64]
    landmark: NDArray[np.object_] | None = None

    def spread_km(self, embedding: Tensor, answer: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
        """Measure how far from an answer the records lie that look most alike, in the mean.

        Args:
            embedding: `(M, D)`.
            answer: `(M, 2)` latitude, longitude in degrees.
            neighbours: how many records with coordinates are asked, or all where there are fewer.

        Returns:
            `(M,)` kilometres.
        """
        placed = ~np.isnan(self.lat_lon).any(axis=1)
        search = NearestNeighbors(n_neighbors=min(neighbours, int(placed.sum())), algorithm="brute")
        found = search.fit(self.embedding[placed]).kneighbors(unit_length(embedding), return_distance=False)  # (M, k)
        places = torch.from_numpy(self.lat_lon[placed][found])  # (M, k, 2)
        spread: NDArray[np.float64] = haversine_km(torch.from_numpy(answer)[:, None], places).mean(dim=1).numpy()
        return spread


def unit_length(embedding: Tensor) -> NDArray[np.float32]:
    """Scale `(N, D)` embeddings to length 1, so that their distance is an angle."""
    scaled: NDArray[np.float32] = F.normalize(embedding.float(), dim=1).numpy()
    return scaled


@dataclass(frozen=True)
class Radii:
    """Split-conformal radii: a share of new records lies within, whatever the model.

    The score of a validation record is its error divided by its difficulty (Lei et al. 2018,
    Distribution-Free Predictive Inference for Regression, section 5.2, locally weighted), and
    the radius of a new one is its difficulty times a quantile of the scores.

    Args:
        factor_50: quantile of the scores for 50 %, None where validation is too small to promise it.
        factor_90: quantile of the scores for 90 %, likewise.
        floor_km: added to every difficulty.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    factor_50: Length | None
    factor_90: Length | None
    floor_km: Length

    def at(self, difficulty_km: NDArray[np.float64], factor: float | None) -> NDArray[np.float64]:
        """Compute the `(N,)` radii in km for a factor; NaN without one."""
        return (difficulty_km + self.floor_km) * (math.nan if factor is None else factor)


def fit_radii(error_km: NDArray[np.float64], difficulty_km: NDArray[np.float64]) -> Radii:
    """Learn the radii from `(N,)` errors and difficulties of validation records."""
    floor_km = FLOOR_SHARE * float(np.median(difficulty_km)) + 1e-3
    scores = error_km / (difficulty_km + floor_km)
    return Radii(conformal_quantile(scores, 0.5), conformal_quantile(scores, 0.9), floor_km)


@dataclass(frozen=True)
class Confidence:
    """From a score without bounds to the probability that the answer is right: a logistic curve, which never falls.

    Args:
        slope: of the curve, at least 0.
        intercept: its log-odds at score 0.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    slope: Annotated[float, Field(ge=0)]
    intercept: float

    def at(self, score: ArrayLike) -> NDArray[np.float64]:
        """Compute the probabilities of scores of any shape, from 0 to 1; NaN stays NaN."""
        found: NDArray[np.float64] = expit(self.slope * np.asarray(score, dtype=np.float64) + self.intercept)
        return found


def fit_confidence(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Confidence:
    """Learn from `(N,)` scores of answers on validation, and whether they are right, how probable that is.

    Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2.2: the lowest cross-entropy with targets
    (n+ + 1) / (n+ + 2) and 1 / (n- + 2) in the place of 1 and 0, so that few answers, be they all right, give no
    certainty. A curve that would fall is level.

    >>> always = fit_confidence(np.array([1.0, 2.0, 3.0]), np.array([True, True, True]))
    >>> always.at(np.array([2.0])).round(2).tolist()
    [0.8]
    """
    count = int(right.sum())
    target = np.where(right, (count + 1) / (count + 2), 1 / (len(right) - count + 2))
    centre, spread = float(scores.mean()), float(scores.std()) or 1.0
    standard = (scores - centre) / spread

    def loss(curve: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_odds = curve[0] * standard + curve[1]
        excess = (expit(log_odds) - target) / len(target)
        value = float((np.logaddexp(0, log_odds) - target * log_odds).mean())
        return value, np.array([excess @ standard, excess.sum()])

    slope, intercept = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return Confidence(float(slope / spread), float(intercept - slope * centre / spread))


def conformal_quantile(scores: NDArray[np.float64], share: float) -> float | None:
    """Return the smallest score that a new one exceeds with a chance of at most 1 - share.

    Of n scores it is the ceil((n + 1) share)-th smallest; None where n is too small for one.

    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9)
    9.0
    >>> conformal_quantile(np.arange(1.0, 9.0), 0.9) is None
    True
    """
    rank = math.ceil(round((len(scores) + 1) * share, 9))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None
