"""Cosines of features and landmarks, learnt with a margin."""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.models.heads.landmarks import LandmarkHead, LandmarkOptions
from waymark.models.losses import (
    adacos_scale,
    arcface_logits,
    cosface_logits,
    dynamic_margins,
    sphereface_logits,
    subcentre_cosines,
)
from waymark.options.kinds import Few, Scale
from waymark.options.named import STRICT

Angle = Annotated[float, Field(ge=0, le=math.pi / 2)]
Cosine = Annotated[float, Field(ge=0, le=2)]
Multiple = Annotated[float, Field(ge=1, le=4)]


@dataclass(frozen=True, config=STRICT)
class MarginOptions(LandmarkOptions):
    """Options of all heads with a margin.

    Args:
        scale: what cosines are multiplied with to be logits; null follows the number of classes, see `adacos_scale`.
        centres: of each landmark, of which the nearest counts.
    """

    usual: ClassVar[float]  # the margin where none is given
    none: ClassVar[float] = 0.0  # the margin that changes nothing

    scale: Scale | None = 30.0
    centres: Few = 1

    @property
    @abstractmethod
    def margins(self) -> tuple[float, float]:
        """The margins of the landmarks with the most and the fewest pictures."""

    @abstractmethod
    def logits(self, cosine: Tensor, target: Tensor, margins: Tensor, scale: float) -> Tensor:
        """Scale `(B, C)` cosines to logits, with the margin of its class on each target."""

    def build(self, width: int, *, landmarks: int) -> "MarginHead":
        """Build the head for so many features and landmarks."""
        return MarginHead(width, landmarks, self)


class _Dynamic(MarginOptions):
    """Margins that may depend on the number of pictures."""

    margin: float | Literal["dynamic"] | None
    margin_low: float
    margin_high: float

    def __post_init__(self) -> None:
        if self.margin_low > self.margin_high:
            raise ValueError(
                f"margin_low {self.margin_low} is above margin_high {self.margin_high}; make it that or less"
            )

    @property
    def margins(self) -> tuple[float, float]:
        """The margins of the landmarks with the most and the fewest pictures."""
        if self.margin == "dynamic":
            return self.margin_low, self.margin_high
        margin = self.usual if self.margin is None else self.margin
        return margin, margin


@dataclass(frozen=True, config=STRICT)
class ArcFace(_Dynamic):
    """Head `arcface`: a margin on the angle.

    Args:
        margin: in radians, or dynamic: the larger, the fewer pictures a landmark has, see `dynamic_margins`;
            null is 0.3.
        margin_low: of the dynamic ones, of the landmark with the most pictures.
        margin_high: of the dynamic ones, of that with the fewest.
    """

    usual: ClassVar[float] = 0.3

    name: Literal["arcface"] = "arcface"
    margin: Angle | Literal["dynamic"] | None = None
    margin_low: Angle = 0.05
    margin_high: Angle = 0.5

    def logits(self, cosine: Tensor, target: Tensor, margins: Tensor, scale: float) -> Tensor:
        """Scale cosines, with the margin added to the angle of the target."""
        return arcface_logits(cosine, target, scale=scale, margin_rad=margins)


@dataclass(frozen=True, config=STRICT)
class CosFace(_Dynamic):
    """Head `cosface`: a margin on the cosine, as of `arcface`; null is 0.35."""

    usual: ClassVar[float] = 0.35

    name: Literal["cosface"] = "cosface"
    margin: Cosine | Literal["dynamic"] | None = None
    margin_low: Cosine = 0.05
    margin_high: Cosine = 0.5

    def logits(self, cosine: Tensor, target: Tensor, margins: Tensor, scale: float) -> Tensor:
        """Scale cosines, with the margin taken from that of the target."""
        return cosface_logits(cosine, target, scale=scale, margin=margins)


@dataclass(frozen=True, config=STRICT)
class SphereFace(MarginOptions):
    """Head `sphereface`: the angle of the record's own landmark times `margin`; null is 1.5."""

    usual: ClassVar[float] = 1.5
    none: ClassVar[float] = 1.0

    name: Literal["sphereface"] = "sphereface"
    margin: Multiple | None = None

    @property
    def margins(self) -> tuple[float, float]:
        """The margin of all landmarks."""
        margin = self.usual if self.margin is None else self.margin
        return margin, margin

    def logits(self, cosine: Tensor, target: Tensor, margins: Tensor, scale: float) -> Tensor:
        """Scale cosines, with the angle of the target multiplied."""
        return sphereface_logits(cosine, target, scale=scale, margin=margins)


class MarginHead(LandmarkHead):
    """Cosine of the features with each landmark's centre, which the true one has to win by a margin.

    The raw output are the cosines, without any margin; it is in the loss alone, and what shows no landmark has
    none. A landmark may have several centres, of which the nearest counts.

    Args:
        width: number of features.
        classes: number of landmarks.
        options: of the head.
    """

    margins: Tensor  # (outputs,), NaN where dynamic ones are not known yet

    def __init__(self, width: int, classes: int, options: MarginOptions) -> None:
        super().__init__(classes, options)
        self.options = options
        self.scale = adacos_scale(classes) if options.scale is None else options.scale
        low, high = options.margins
        margins = torch.full((self.outputs,), low if low == high else math.nan)
        margins[classes:] = options.none
        self.register_buffer("margins", margins)
        centres = torch.randn(self.outputs, options.centres, width) / math.sqrt(width)  # about of length 1
        self.centres = nn.Parameter(centres)

    def adapt(self, counts: NDArray[np.int64]) -> None:
        """Learn dynamic margins from the `(classes,)` numbers of training images.

        Raises:
            ModelError: they are of other classes.
        """
        super().adapt(counts)
        low, high = self.options.margins
        if low < high:
            self.margins[: self.classes] = dynamic_margins(torch.from_numpy(counts), low=low, high=high)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, outputs)` cosines."""
        return subcentre_cosines(features, self.centres)

    def logits(self, output: Tensor) -> Tensor:
        """Scale the scores, without any margin."""
        return self.scale * self.scores(output)

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        if self.margins.isnan().any():
            raise ModelError("dynamic margins are not known yet; adapt the head to the numbers of training images")
        return self._cross_entropy(self.options.logits(output, target, self.margins, self.scale), target)
