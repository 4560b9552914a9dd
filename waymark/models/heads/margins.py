"""Cosines of features and landmarks, learnt with a margin."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.models.heads.landmarks import LandmarkHead
from waymark.models.losses import (
    adacos_scale,
    arcface_logits,
    cosface_logits,
    dynamic_margins,
    sphereface_logits,
    subcentre_cosines,
)

MARGINS = {"arcface": 0.3, "cosface": 0.35, "sphereface": 1.5}  # by kind, where none is given
RANGES = {"arcface": (0.0, math.pi / 2), "cosface": (0.0, 2.0), "sphereface": (1.0, 4.0)}  # what a margin may be


class MarginHead(LandmarkHead):
    """Cosine of the features with each landmark's centre, which the true one has to win by a margin.

    The raw output are the cosines, without any margin; it is in the loss alone, and what shows no landmark has
    none. A landmark may have several centres, of which the nearest counts.

    Args:
        width: number of features.
        classes: number of landmarks.
        kind: `arcface` adds the margin to the angle, `cosface` takes it from the cosine, `sphereface` multiplies
            the angle with it.
        scale: what cosines are multiplied with to be logits; None chooses by the number of classes, see
            `adacos_scale`.
        margin: in radians for `arcface`; `dynamic` gives each class its own, see `dynamic_margins`; None is
            that of `MARGINS`.
        margin_low: of the most frequent class, for `dynamic`.
        margin_high: of the rarest class, for `dynamic`.
        centres: of each landmark.
        label_smoothing: see `LandmarkHead`.
        background: see `LandmarkHead`.

    Raises:
        ModelError: the kind is unknown, or an option out of its range.
    """

    margins: Tensor  # (outputs,), NaN where dynamic ones are not known yet

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        kind: str,
        scale: float | None = 30.0,
        margin: float | Literal["dynamic"] | None = None,
        margin_low: float = 0.05,
        margin_high: float = 0.5,
        centres: int = 1,
        label_smoothing: float = 0.0,
        background: float = 0.0,
    ) -> None:
        super().__init__(classes, label_smoothing=label_smoothing, background=background)
        margin = MARGINS.get(kind, math.nan) if margin is None else margin
        ends = (margin_low, margin_high) if margin == "dynamic" else (margin, margin)
        _check(kind, scale, ends, centres)
        self.kind, self.margin, self.margin_low, self.margin_high = kind, margin, margin_low, margin_high
        self.scale = adacos_scale(classes) if scale is None else scale
        margins = torch.full((self.outputs,), math.nan if margin == "dynamic" else float(margin))
        margins[classes:] = RANGES[kind][0]  # none
        self.register_buffer("margins", margins)
        self.centres = nn.Parameter(torch.randn(self.outputs, centres, width) / math.sqrt(width))  # about of length 1

    def remember(self, counts: NDArray[np.int64]) -> None:
        """Learn dynamic margins from the `(classes,)` numbers of training images.

        Raises:
            ModelError: they are of other classes.
        """
        super().remember(counts)
        if self.margin == "dynamic":
            found = dynamic_margins(torch.from_numpy(counts), low=self.margin_low, high=self.margin_high)
            self.margins[: self.classes] = found

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, outputs)` cosines."""
        return subcentre_cosines(features, self.centres)

    def logits(self, output: Tensor) -> Tensor:
        """Scale the scores, without any margin."""
        return self.scale * self.scores(output)

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        if self.margins.isnan().any():
            raise ModelError("dynamic margins are not known yet; tell the head the numbers of training images first")
        if self.kind == "arcface":
            logits = arcface_logits(output, target, scale=self.scale, margin_rad=self.margins)
        elif self.kind == "cosface":
            logits = cosface_logits(output, target, scale=self.scale, margin=self.margins)
        else:
            logits = sphereface_logits(output, target, scale=self.scale, margin=self.margins)
        return self._cross_entropy(logits, target)


def _check(kind: str, scale: float | None, margins: tuple[float, float], centres: int) -> None:
    if kind not in RANGES:
        raise ModelError(f"unknown kind {kind!r}; known: {', '.join(RANGES)}")
    least, most = RANGES[kind]
    if not least <= margins[0] <= margins[1] <= most:
        told = f"{margins[0]} to {margins[1]}" if margins[0] != margins[1] else str(margins[0])
        raise ModelError(f"the margin of {kind} is {told}; set it from {least:.4g} up to {most:.4g}")
    if scale is not None and not scale > 0:
        raise ModelError(f"scale is {scale}; set it above 0, or to null, which chooses by the number of classes")
    if centres < 1:
        raise ModelError(f"centres is {centres}; set it to 1 or more")
