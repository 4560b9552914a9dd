"""The head of an attention branch network: two classifiers, one of which says where to look."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from waymark.models.attention import Apply
from waymark.models.heads.landmarks import Hidden, LandmarkHead, LandmarkOptions
from waymark.models.heads.softmax import build_classifier
from waymark.options.kinds import Share, Weight
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Attention(LandmarkOptions):
    """Head `attention`: an attention branch network.

    Args:
        stage: of the backbone after which the branch looks: -1 the last, -2 the one before.
        apply: how the map weighs the features: residual, (1 + M) x, or product, M x.
        alpha: weight of the attention branch's loss.
        beta: weight of the perception branch's loss.
        hidden: as of `softmax`.
        dropout: as of `softmax`.
    """

    name: Literal["attention"] = "attention"
    stage: Annotated[int, Field(ge=-1000, lt=0)] = -1
    apply: Apply = "residual"
    alpha: Weight = 1.0
    beta: Weight = 1.0
    hidden: Hidden = ()
    dropout: Share = 0.0

    def build(self, width: int, *, landmarks: int) -> "AttentionHead":
        """Build the head for so many features and landmarks."""
        return AttentionHead(width, landmarks, self)


class AttentionHead(LandmarkHead):
    """Perception branch, and the loss of both branches.

    Loss = alpha cross-entropy of the attention branch + beta that of the perception branch (Fukui et al. 2019,
    Attention Branch Network, where both are 1). The raw output holds both branches' logits side by
    side; the scores are the perception's.

    Args:
        width: number of features after attention.
        classes: number of landmarks.
        options: of the head.
    """

    def __init__(self, width: int, classes: int, options: Attention) -> None:
        super().__init__(classes, options)
        self.options = options
        self.classifier = build_classifier(width, self.outputs, options.hidden, options.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into the perception's `(B, outputs)` logits."""
        logits: Tensor = self.classifier(features)
        return logits

    def join(self, perception: Tensor, attention: Tensor) -> Tensor:
        """Lay both branches' `(B, outputs)` logits side by side: the raw output `(B, 2 outputs)`."""
        return torch.cat([perception, attention], dim=1)

    def _own(self, output: Tensor) -> Tensor:
        return output[:, : self.outputs]

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        perception, attention = torch.split(output.float(), self.outputs, dim=1)
        losses = self._cross_entropy(attention, target), self._cross_entropy(perception, target)
        return self.options.alpha * losses[0] + self.options.beta * losses[1]
