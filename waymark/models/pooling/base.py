"""What every pooling offers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from waymark.options.named import Named


class PoolingOptions(Named, ABC):
    """How maps of features become one vector.

    The module that is built turns the `(N, C, h, w)` of the last map into `(N, C, s, s)`, or with `all_levels` a
    sequence of the last map at each resolution into `(N, width)`.
    """

    kind = "pooling"
    all_levels: ClassVar[bool] = False

    @abstractmethod
    def build(self, channels: Sequence[int]) -> nn.Module:
        """Build the module for maps with so many channels: those of the last one, or of each level."""

    def width(self, channels: Sequence[int]) -> int:
        """Count the features that come of such maps: one for each channel, unless a pooling has its own way."""
        return channels[-1]
