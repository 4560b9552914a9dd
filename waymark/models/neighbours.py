"""What frozen features know without any gradient: whitening, nearest training records, prototypes of classes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from waymark.models.calibration import unit_length
from waymark.models.decoding import geometric_median, row_chunks

Floats = NDArray[np.float64]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Whitening:
    """Principal components of training features, D of them wide.

    Args:
        mean: `(D,)` of the training features.
        components: `(d, D)` directions, those of most variance first.
        variance: `(d,)` along each.
    """

    mean: Features
    components: Features
    variance: Features

    def apply(self, features: Features, shrinkage: float) -> Features:
        """Turn `(N, D)` features into `(N, d)` of unit length, along all directions of about the same variance.

        Plain whitening divides by the standard deviation, which blows up the noise in directions that hardly vary.
        Here the mean variance times `shrinkage` is added to each before: 0 is plain, and the larger, the more the
        features stay as they are (Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance
        matrices, shrink towards the same multiple of the identity).

        Args:
            features: `(N, D)`, of training or of new records.
            shrinkage: 0 or more.
        """
        turned = (features - self.mean) @ self.components.T  # (N, d)
        return unit_length(torch.from_numpy(turned / self.deviation(shrinkage)))

    def deviation(self, shrinkage: float) -> Features:
        """Compute the `(d,)` numbers by which each direction is divided."""
        found: Features = np.sqrt(self.variance + shrinkage * self.variance.mean())
        return np.maximum(found, np.finfo(np.float32).tiny)


def fit_whitening(features: Features, dimensions: int | None = None) -> Whitening:
    """Learn principal components from `(N, D)` training features, of at least two records.

    Jégou and Chum 2012, Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening.

    Args:
        features: of the training records, and of no others.
        dimensions: how many are kept; None for all, one less than records or one for each feature.
    """
    most = min(len(features) - 1, features.shape[1])
    kept = most if dimensions is None else min(dimensions, most)
    solver = "covariance_eigh" if len(features) > features.shape[1] else "full"
    found = PCA(kept, svd_solver=solver).fit(features)
    mean, components, variance = found.mean_, found.components_, found.explained_variance_
    return Whitening(*(part.astype(np.float32) for part in (mean, components, variance)))


def class_prototypes(features: Features, label: NDArray[np.int64], classes: int) -> Features:
    """Average the features of each class (Snell et al. 2017, Prototypical Networks, equation 1, on unit vectors).

    Args:
        features: `(N, D)` of unit length.
        label: `(N,)` number of the class.
        classes: how many there are; of one without a record, the prototype is 0, which is near to nothing.

    Returns:
        `(classes, D)` of unit length.

    >>> (class_prototypes(np.eye(2, dtype=np.float32), np.array([1, 1]), 2) * 2**0.5).round().tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    total = np.zeros((classes, features.shape[1]), np.float32)
    np.add.at(total, label, features)
    return unit_length(torch.from_numpy(total))


class Spread(NamedTuple):
    """Where each of B records may lie."""

    weights: Floats  # (B, K) that add up to 1
    positions_m: Floats  # (B, K, 2) metres


def neighbour_spread(
    features: Features, training: Features, xy_m: Floats, *, neighbours: int, temperature: float
) -> Spread:
    """Weigh the places of the training records that look most alike (Hays and Efros 2008, Im2GPS).

    Args:
        features: `(B, D)` of unit length.
        training: `(N, D)` of unit length.
        xy_m: `(N, 2)` metres, of the training records.
        neighbours: how many are asked, or all where there are fewer.
        temperature: by which the cosines are divided before their softmax; the larger, the more even the weights.
    """
    search = NearestNeighbors(n_neighbors=min(neighbours, len(training)), algorithm="brute").fit(training)
    distance, found = search.kneighbors(features)  # (B, k)
    cosine = 1 - distance**2 / 2  # of unit vectors
    weights = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
    return Spread(weights / weights.sum(axis=1, keepdims=True), xy_m[found])


def median_place(spread: Spread) -> Floats:
    """Find the `(B, 2)` places, in metres, with the smallest expected distance: the weighted geometric medians."""
    found = np.empty((len(spread.weights), 2))
    for rows in row_chunks(len(found), 8 * spread.weights.shape[1]):
        weights, positions = (torch.from_numpy(part[rows]) for part in spread)
        found[rows] = geometric_median(weights, positions).numpy()
    return found


def mixed(first: Spread, second: Spread, share: float) -> Spread:
    """Mix two spreads of the same records, with so large a share of the second."""
    weights = [(1 - share) * first.weights, share * second.weights]
    return Spread(np.hstack(weights), np.concatenate([first.positions_m, second.positions_m], axis=1))
