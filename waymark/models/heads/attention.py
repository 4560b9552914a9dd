"""The head of an attention branch network: two classifiers, one of which says where to look."""

from collections.abc import Sequence

import torch
from torch import Tensor

from waymark.models.attention import Apply, checked
from waymark.models.heads.landmarks import LandmarkHead
from waymark.models.heads.softmax import build_classifier


class AttentionHead(LandmarkHead):
    """Perception branch, and the loss of both branches.

    Loss = alpha cross-entropy of the attention branch + beta that of the perception branch (Fukui et al. 2019,
    Attention Branch Network, where both are 1). The raw output holds both branches' logits side by
    side; the scores are the perception's.

    Args:
        width: number of features after attention.
        classes: number of landmarks.
        stage: of the backbone, after which the attention branch looks: -1 is the last, -2 the one before.
        apply: how the map weighs the features, see `attend`.
        alpha: weight of the attention branch.
        beta: weight of the perception branch.
        hidden: see `SoftmaxHead`.
        dropout: see `SoftmaxHead`.
        label_smoothing: see `LandmarkHead`.
        background: see `LandmarkHead`.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        stage: int = -1,
        apply: Apply = "residual",
        alpha: float = 1.0,
        beta: float = 1.0,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        background: float = 0.0,
    ) -> None:
        super().__init__(classes, label_smoothing=label_smoothing, background=background)
        self.stage, self.apply_as, self.alpha, self.beta = stage, checked(apply), alpha, beta
        self.classifier = build_classifier(width, self.outputs, hidden, dropout)

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
        return self.alpha * self._cross_entropy(attention, target) + self.beta * self._cross_entropy(perception, target)
