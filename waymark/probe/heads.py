"""Heads that a probe tries: each answers for new records from the features of training records."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from waymark.models.neighbours import (
    Features,
    Floats,
    Spread,
    class_prototypes,
    median_place,
    mixed,
    neighbour_spread,
)
from waymark.models.recognition import LandmarkIndex

Setting = Mapping[str, Any]
ITERATIONS = 200
RECORDS_IN_CELL = (20, 8)  # training records for each cell, of which the better is chosen
MOST_CELLS = 100


class Training(NamedTuple):
    """What a head learns from: N training records.

    Attributes:
        features: `(N, D)` of unit length.
        target: `(N,)` numbers of landmarks, or `(N, 2)` metres.
        seed: of the cells.
    """

    features: Features
    target: NDArray[Any]
    seed: int


class Head(NamedTuple):
    """A way to answer.

    Attributes:
        name: as in `models:` of params.yaml.
        settings: of which inner cross-validation chooses.
        answer: from training records, `(B, D)` features and settings to an answer for each setting: `(B,)` numbers of
            landmarks, or `(B, 2)` metres.
    """

    name: str
    settings: tuple[Setting, ...]
    answer: Callable[[Training, Features, Sequence[Setting]], list[NDArray[Any]]]


def _grid(**choices: Sequence[Any]) -> tuple[Setting, ...]:
    """Combine all choices.

    >>> _grid(k=(1, 5))
    ({'k': 1}, {'k': 5})
    """
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def _nearest_scores(training: Training, features: Features, classes: int) -> Floats:
    index = LandmarkIndex(training.features, training.target, classes)
    return index.highest_cosines(torch.from_numpy(features))


def _nearest(training: Training, features: Features, settings: Sequence[Setting]) -> list[NDArray[Any]]:
    scores = _nearest_scores(training, features, int(training.target.max()) + 1)
    return [scores.argmax(axis=1)] * len(settings)


def _prototypes(training: Training, features: Features, settings: Sequence[Setting]) -> list[NDArray[Any]]:
    present, label = np.unique(training.target, return_inverse=True)
    cosine = features @ class_prototypes(training.features, label, len(present)).T
    return [present[cosine.argmax(axis=1)]] * len(settings)


def _softmax(training: Training, features: Features, settings: Sequence[Setting]) -> list[NDArray[Any]]:
    """Mix the logits of a linear probe with the cosine to the nearest record of each landmark.

    Both have mean 0 and deviation 1 over the landmarks of a record, so that no record needs another one.
    """
    present, label = np.unique(training.target, return_inverse=True)
    if len(present) == 1:
        return [np.full(len(features), present[0])] * len(settings)
    cosine = _over_classes(_nearest_scores(training._replace(target=label), features, len(present)))
    logits = {}
    for penalty in {setting["C"] for setting in settings}:
        probe = LogisticRegression(C=penalty, max_iter=ITERATIONS).fit(training.features, label)
        found = probe.decision_function(features)
        logits[penalty] = _over_classes(np.stack([-found, found], axis=1) if found.ndim == 1 else found)
    weights = [(setting["C"], setting["retrieval_weight"]) for setting in settings]
    return [present[((1 - weight) * logits[penalty] + weight * cosine).argmax(axis=1)] for penalty, weight in weights]


def _over_classes(scores: Floats) -> Floats:
    centred: Floats = scores - scores.mean(axis=1, keepdims=True)
    scaled: Floats = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)
    return scaled


def _neighbours(training: Training, features: Features, settings: Sequence[Setting]) -> list[NDArray[Any]]:
    return [
        median_place(neighbour_spread(features, training.features, training.target, **setting)) for setting in settings
    ]


def _cells(training: Training, features: Features, settings: Sequence[Setting]) -> list[NDArray[Any]]:
    return [median_place(cell_spread(training, features, **setting)) for setting in settings]


def _mixed(training: Training, features: Features, settings: Sequence[Setting]) -> list[NDArray[Any]]:
    near = neighbour_spread(features, training.features, training.target, neighbours=10, temperature=0.1)
    cells = cell_spread(training, features, records_in_cell=RECORDS_IN_CELL[1], C=10.0)
    return [median_place(mixed(near, cells, setting["cells"])) for setting in settings]


def cell_spread(training: Training, features: Features, *, records_in_cell: int, C: float) -> Spread:
    """Weigh cells with the probabilities of a linear probe; the cells are clusters of the training places (k-means).

    Args:
        training: records with places.
        features: `(B, D)`.
        records_in_cell: so many in the mean.
        C: inverse of the strength of the regularisation.
    """
    places = np.unique(training.target, axis=0)
    number = int(np.clip(len(training.target) // records_in_cell, 2, MOST_CELLS))
    clusters = KMeans(min(number, len(places)), n_init=3, random_state=training.seed).fit(training.target)
    if len(set(clusters.labels_)) == 1:
        weights = np.ones((len(features), 1))
    else:
        probe = LogisticRegression(C=C, max_iter=ITERATIONS).fit(training.features, clusters.labels_)
        weights = probe.predict_proba(features).astype(np.float64)
    centres = clusters.cluster_centers_[: weights.shape[1]].astype(np.float64)
    return Spread(weights, np.broadcast_to(centres, (len(features), *centres.shape)).copy())


LANDMARK_HEADS = (
    Head("nearest", ({},), _nearest),
    Head("prototypes", ({},), _prototypes),
    Head("softmax", _grid(C=(3.0, 30.0), retrieval_weight=(0.0, 0.5)), _softmax),
)
PLACE_HEADS = (
    Head(
        "neighbours",
        (
            {"neighbours": 1, "temperature": 0.1},
            *_grid(neighbours=(5, 15), temperature=(0.05, 0.2)),
        ),
        _neighbours,
    ),
    Head("cells", _grid(records_in_cell=RECORDS_IN_CELL, C=(10.0,)), _cells),
    Head("neighbours and cells", _grid(cells=(0.3, 0.6)), _mixed),
)
