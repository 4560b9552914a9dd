"""What every head for places offers."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from waymark.images.datamodule import Batch


class Place(NamedTuple):
    """Where a head believes each record to be."""

    xy_m: Tensor  # (B, 2) float64, metres in the CRS
    choice: Tensor  # (B,) int64, most probable class, -1 for heads without classes


class Head(nn.Module, ABC):
    """Turns features into raw output, and that into a loss or a place."""

    @abstractmethod
    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Give the mean loss over the records that have the truth which the head learns."""

    @abstractmethod
    def known(self, batch: Batch) -> Tensor:
        """Mark the `(B,)` records that have the truth which the head learns."""

    @abstractmethod
    def place(self, output: Tensor) -> Place:
        """Answer for each record of the output."""
