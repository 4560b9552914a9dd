"""What every head for landmarks offers, and the options that they share."""

from abc import abstractmethod
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.heads.adapter import Head, HeadOptions, HeadParts
from waymark.options.kinds import AtLeastOne, Share, Weight, Width
from waymark.options.named import STRICT

NO_LANDMARK = -2  # label of a record that is known to show no landmark; -1 is one without any truth


# Not strict: behind the name of a union pydantic takes YAML's lists for Python's, which are no tuples.
Hidden = Annotated[tuple[Width, ...], Field(strict=False, max_length=16)]


@dataclass(frozen=True, config=STRICT)
class LandmarkOptions(HeadOptions):
    """Options of all heads for landmarks.

    Args:
        least_images: training records that make a landmark a class of the head; one with fewer is
            recognised by its pictures in the retrieval index alone.
        label_smoothing: share of each label that all classes share (Szegedy et al. 2016, Rethinking the
            Inception Architecture, section 7).
        background: weight in the loss of a record that shows no landmark, where one that does has 1. Such records
            get a class of their own, with which a landmark's score is compared; 0 leaves them out.
    """

    least_images: AtLeastOne = 1
    label_smoothing: Share = 0.0
    background: Weight = 0.0

    @abstractmethod
    def build(self, width: int, *, landmarks: int) -> "LandmarkHead":
        """Build the head for so many features and landmarks."""

    def parts(self) -> HeadParts:
        """List the head."""
        return HeadParts(None, self, {"landmark": 1.0})


class LandmarkHead(Head):
    """Turns features into raw output, and that into a loss or a score for each landmark.

    Args:
        classes: number of landmarks.
        options: of the head.
    """

    def __init__(self, classes: int, options: LandmarkOptions) -> None:
        super().__init__()
        self.classes, self.label_smoothing, self.background = classes, options.label_smoothing, options.background
        self.outputs = classes + (options.background > 0)  # the last one is what shows no landmark

    def scores(self, output: Tensor) -> Tensor:
        """Compute `(B, classes)` float32 scores that do not saturate, where known above that of no landmark."""
        raw = self._own(output).float()
        return raw[:, : self.classes] - raw[:, self.classes :] if self.background else raw

    def logits(self, output: Tensor) -> Tensor:
        """Compute the `(B, classes)` logits, whose softmax are probabilities among landmarks."""
        return self.scores(output)

    def _own(self, output: Tensor) -> Tensor:
        """Take the `(B, outputs)` that answer from the raw output."""
        return output

    def adapt(self, counts: NDArray[np.int64]) -> None:
        """Learn from the `(classes,)` numbers of training images; most heads have no use for them.

        Raises:
            ModelError: they are of other classes.
        """
        if len(counts) != self.classes:
            raise ModelError(f"the head has {self.classes} classes, and counts come for {len(counts)}; give each one")

    def known(self, batch: Batch) -> Tensor:
        """Mark the records whose landmark is a class."""
        return batch.landmark >= 0

    def weight(self, batch: Batch) -> Tensor:
        """Count records that show no landmark as the option `background` says."""
        return self.known(batch) + self.background * (batch.landmark == NO_LANDMARK).float()

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the weighted mean loss over records with a class and, by `background`, those without."""
        weight = self.weight(batch)
        counted = weight > 0
        if not counted.any():
            return output.sum() * 0
        landmark = batch.landmark[counted]
        target = torch.where(landmark == NO_LANDMARK, self.classes, landmark)
        losses = self._losses(output[counted], target)
        return (losses * weight[counted]).sum() / weight.sum()

    @abstractmethod
    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the `(B,)` losses of records by their class, `classes` itself for what shows no landmark."""

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing, reduction="none")
