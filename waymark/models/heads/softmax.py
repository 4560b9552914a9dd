"""Softmax over landmarks, behind fully connected layers if wanted."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.models.heads.landmarks import LandmarkHead


class SoftmaxHead(LandmarkHead):
    """Cross-entropy over the landmarks; the scores are the logits.

    As in VGG (Simonyan and Zisserman 2015, section 2.1), each hidden layer is fully connected and followed by ReLU
    and dropout. Without any, the dropout is of the features, as in EfficientNet.

    Args:
        width: number of features.
        classes: number of landmarks.
        hidden: width of each hidden layer; VGG has (4096, 4096).
        dropout: share of values that training hides.
        label_smoothing: see `LandmarkHead`.
        background: see `LandmarkHead`.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        hidden: Sequence[int] = (),
        dropout: float = 0.5,
        label_smoothing: float = 0.0,
        background: float = 0.0,
    ) -> None:
        super().__init__(classes, label_smoothing=label_smoothing, background=background)
        self.classifier = build_classifier(width, self.outputs, hidden, dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, outputs)` logits: probabilities would saturate."""
        logits: Tensor = self.classifier(features)
        return logits

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(output.float(), target)


def build_classifier(width: int, classes: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Build hidden layers, dropout and the layer of the classes, as `SoftmaxHead` says.

    Raises:
        ModelError: the dropout would hide less than nothing, or everything.
    """
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout is {dropout}; set it to 0 or more, and below 1")
    layers: list[nn.Module] = [] if hidden else [nn.Dropout(dropout)]
    for before, after in pairwise([width, *hidden]):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([width, *hidden][-1], classes))
