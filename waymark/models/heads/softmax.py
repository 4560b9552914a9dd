"""Softmax over landmarks, behind fully connected layers if wanted."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from waymark.models.heads.landmarks import Hidden, LandmarkHead, LandmarkOptions
from waymark.options.kinds import Share
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Softmax(LandmarkOptions):
    """Head `softmax`.

    Args:
        hidden: widths of fully connected layers before the classes'; VGG has 4096, 4096.
        dropout: share of values that training hides, after each of them.
    """

    name: Literal["softmax"] = "softmax"
    hidden: Hidden = ()
    dropout: Share = 0.5

    def build(self, width: int, *, landmarks: int) -> "SoftmaxHead":
        """Build the head for so many features and landmarks."""
        return SoftmaxHead(width, landmarks, self)


class SoftmaxHead(LandmarkHead):
    """Cross-entropy over the landmarks; the scores are the logits.

    As in VGG (Simonyan and Zisserman 2015, section 2.1), each hidden layer is fully connected and followed by ReLU
    and dropout. Without any, the dropout is of the features, as in EfficientNet.

    Args:
        width: number of features.
        classes: number of landmarks.
        options: of the head.
    """

    def __init__(self, width: int, classes: int, options: Softmax) -> None:
        super().__init__(classes, options)
        self.classifier = build_classifier(width, self.outputs, options.hidden, options.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, outputs)` logits: probabilities would saturate."""
        logits: Tensor = self.classifier(features)
        return logits

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(output.float(), target)


def build_classifier(width: int, classes: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Build hidden layers, dropout and the layer of the classes, as `SoftmaxHead` says."""
    layers: list[nn.Module] = [] if hidden else [nn.Dropout(dropout)]
    for before, after in pairwise([width, *hidden]):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([width, *hidden][-1], classes))
