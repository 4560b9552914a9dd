"""What a report says of a model that names landmarks, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from waymark.report.picture import Picture


@dataclass(frozen=True)
class Confusion:
    """Records of one landmark that were answered as another.

    Attributes:
        true: the landmark they show.
        true_name: its readable name.
        answered: the landmark they were taken for.
        answered_name: its readable name.
        count: how many were.
        pictures: one of these records, and a training picture of the landmark it was taken for.
    """

    true: str
    true_name: str
    answered: str
    answered_name: str
    count: int
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class LandmarkGuess:
    """One answer of a model to look at.

    Attributes:
        record_id: which record.
        truth: names of the landmarks it shows; none where it shows no landmark.
        answered: name of the landmark the model says, None where it says that there is none.
        score: of the answer, higher is more certain.
        right: whether that is so, None where nobody can tell.
        pictures: of the record.
        confidence: 0 to 1, how probable the model calls it; None where unknown.
    """

    record_id: str
    truth: Sequence[str]
    answered: str | None
    score: float
    right: bool | None
    pictures: Sequence[Picture] = ()
    confidence: float | None = None


@dataclass(frozen=True)
class Recognition:
    """How a model names landmarks, on test. Its figures stand among those of the model.

    Attributes:
        relevant: which queries count: `all` with a landmark, or those whose landmark is `known` to training.
        facts: short facts in words by name (`{"weight of retrieval": "0.4"}`).
        parts: columns `part` (head, middle, tail), `landmarks`, `training_images`, `queries`, `top1`, `top5`, `gap`.
        confusions: the pairs that are confused most often, the most frequent first.
        best: right answers, the surest first.
        worst: wrong answers, the surest first, with pictures without a landmark that were given one.
        curve: columns `threshold`, `answered`, `precision`, `recall` (shares) and `confidence`: what answering from a
            score on means.
        threshold: the calibrated one, None where the model never refuses.
        attention: pictures under the model's attention map, already drawn; none where it has no such map.
    """

    relevant: str = "all"
    facts: Mapping[str, str] = field(default_factory=dict)
    parts: pd.DataFrame | None = None
    confusions: Sequence[Confusion] = ()
    best: Sequence[LandmarkGuess] = ()
    worst: Sequence[LandmarkGuess] = ()
    curve: pd.DataFrame | None = None
    threshold: float | None = None
    attention: Sequence[Picture] = ()
