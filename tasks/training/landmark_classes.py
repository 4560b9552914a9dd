"""Which landmarks a model tells apart, and what its records show of them; learnt on train alone."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.errors import ModelError
from waymark.models.heads import NO_LANDMARK

NAMES = Path("data/split/landmarks.parquet")
UNKNOWN = -1  # as in waymark.images.batches.Batch


class LandmarkClasses(NamedTuple):
    """The classes of a landmark head, in the order of their ids."""

    landmarks: tuple[str, ...]
    names: tuple[str, ...]
    counts: NDArray[np.int64]  # (C,) training records of each


def first_landmark(table: pd.DataFrame) -> "pd.Series[str]":
    """Return the landmark that each record is trained on, the first of its own; None where it has none."""
    return pd.Series(
        [landmarks[0] if len(landmarks) else None for landmarks in table["landmarks"]], index=table.index, dtype=object
    )


def learn_classes(table: pd.DataFrame, model: str, least_images: int) -> LandmarkClasses:
    """Make classes of the landmarks that enough training records show.

    Args:
        table: records of all splits.
        model: name of the entry, for errors.
        least_images: training records that make a landmark a class.

    Raises:
        ModelError: fewer than two landmarks have so many, or no val record shows any.
    """
    counts = first_landmark(table[table["split"] == "train"]).value_counts().sort_index()
    counts = counts[counts >= least_images]
    if len(counts) < 2:
        raise ModelError(
            f"{model} learns landmarks, but {len(counts)} of them have {least_images} training records or more; add"
            " landmarks to the source, lower filter.min_images or head.least_images, or take it out of models"
        )
    if not first_landmark(table[table["split"] == "val"]).isin(counts.index).any():
        raise ModelError(
            f"{model} learns landmarks, but no val record shows one of training; raise the second of split.fractions,"
            " or set split.by to stratified"
        )
    names = pd.read_parquet(NAMES).set_index("landmark")["name"]
    landmarks = tuple(counts.index)
    return LandmarkClasses(landmarks, tuple(names[list(landmarks)]), counts.to_numpy(dtype=np.int64))


def landmark_labels(table: pd.DataFrame, landmarks: tuple[str, ...]) -> NDArray[np.int64]:
    """Compute the `(N,)` class of each record's landmark, -1 where it is no class, -2 where the record shows none."""
    place = {landmark: number for number, landmark in enumerate(landmarks)}
    return np.array(
        [NO_LANDMARK if landmark is None else place.get(landmark, UNKNOWN) for landmark in first_landmark(table)],
        dtype=np.int64,
    )


def balanced_chances(label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute `(N,)` chances with which each landmark is drawn equally often.

    Records without a class keep the share that they have, but come no more often than the others together.

    >>> balanced_chances(np.array([0, 0, 1, -2, -2, -2, -2, -2])).round(3).tolist()
    [0.125, 0.125, 0.25, 0.1, 0.1, 0.1, 0.1, 0.1]
    """
    known = label >= 0
    share = max(known.mean(), 0.5)
    chances = np.full(len(label), (1 - share) / max(1, (~known).sum()))
    classes, number, counts = np.unique(label[known], return_inverse=True, return_counts=True)
    chances[known] = share / (len(classes) * counts[number])
    normalised: NDArray[np.float64] = chances / chances.sum()
    return normalised
