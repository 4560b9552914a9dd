"""What every head for landmarks offers."""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.heads.adapter import Head

NO_LANDMARK = -2  # label of a record that is known to show no landmark; -1 is one without any truth


class LandmarkHead(Head):
    """Turns features into raw output, and that into a loss or a score for each landmark.

    Args:
        classes: number of landmarks.
        label_smoothing: share of each label that all classes get alike (Szegedy et al. 2016, Rethinking the
            Inception Architecture, section 7).
        background: what a record that shows no landmark counts in the loss beside one that does. These
            get a class of their own, with which a landmark's score is compared; 0 learns nothing from them.

    Raises:
        ModelError: an option is out of its range.
    """

    def __init__(self, classes: int, *, label_smoothing: float = 0.0, background: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ModelError(f"label_smoothing is {label_smoothing}; set it to 0 or more, and below 1")
        if background < 0:
            raise ModelError(f"background is {background}; set it to 0 or more")
        self.classes, self.label_smoothing, self.background = classes, label_smoothing, background
        self.outputs = classes + (background > 0)  # the last one is what shows no landmark

    def scores(self, output: Tensor) -> Tensor:
        """Give `(B, classes)` float32 scores that do not saturate, where known above that of no landmark."""
        raw = self._own(output).float()
        return raw[:, : self.classes] - raw[:, self.classes :] if self.background else raw

    def logits(self, output: Tensor) -> Tensor:
        """Give the `(B, classes)` logits, whose softmax are probabilities among landmarks."""
        return self.scores(output)

    def _own(self, output: Tensor) -> Tensor:
        """Take the `(B, outputs)` that answer from the raw output."""
        return output

    def remember(self, counts: NDArray[np.int64]) -> None:
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
        """Give the weighted mean loss over records with a class and, by `background`, those without; 0 for neither."""
        weight = self.weight(batch)
        taught = weight > 0
        if not taught.any():
            return output.sum() * 0
        landmark = batch.landmark[taught]
        target = torch.where(landmark == NO_LANDMARK, self.classes, landmark)
        losses = self._losses(output[taught], target)
        return (losses * weight[taught]).sum() / weight.sum()

    @abstractmethod
    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the `(B,)` losses of records by their class, `classes` itself for what shows no landmark."""

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing, reduction="none")
