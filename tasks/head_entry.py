"""What a model learns: the section `head` of an entry of `models:`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.stage import STRICT

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Cells:
    """Head `cells`.

    Args:
        answer: mean of the cells weighted with their probabilities, the best cell, the geometric
            median, or the place with the highest expected score.
        position: of a cell: the mean of its training records, or its clipped centre.
        smoothing_km: distance over which the label fades into neighbouring cells; null is a hard label.
        score_km: scale of the score; null is a tenth of the diagonal of the training records.
    """

    name: Literal["cells"]
    answer: Literal["mean", "best", "median", "score"] = "mean"
    position: Literal["training", "centre"] = "training"
    smoothing_km: Positive | None = None
    score_km: Positive | None = None


@dataclass(frozen=True, config=STRICT)
class Hybrid:
    """Head `hybrid`: a cell, and where inside it.

    Args:
        answer: as of `cells`.
        position: of a cell, from which the offset counts, as of `cells`.
        smoothing_km: as of `cells`.
        score_km: as of `cells`.
        offset_weight: what the loss of the offset counts beside that of the cell.
    """

    name: Literal["hybrid"]
    answer: Literal["mean", "best", "median", "score"] = "mean"
    position: Literal["training", "centre"] = "training"
    smoothing_km: Positive | None = None
    score_km: Positive | None = None
    offset_weight: NotNegative = 1.0


@dataclass(frozen=True, config=STRICT)
class Coordinates:
    """Head `coordinates`.

    Args:
        space: that of the CRS, the unit sphere, or cosine-transformed degrees.
        scaling: one scale for both axes, or each axis to 0-1; null is isotropic, and all that the sphere takes.
    """

    name: Literal["coordinates"]
    space: Literal["crs", "sphere", "cosine"] = "crs"
    scaling: Literal["isotropic", "per_axis"] | None = None
