"""From the features of each view to those of a record."""

from typing import Literal

import torch
from torch import Tensor, nn

from waymark.errors import ModelError

Views = Literal["concat", "mean", "attention"]

HIDDEN = 128  # features of the gate, as in Ilse et al.


class Join(nn.Module):
    """Joins the features of the views that are there.

    Joined by `concat`, a view that is not there is zeros; by `mean` it does not count; by
    `attention` it has no weight, and the others share what it would have had.

    Args:
        views: how.
        width: features of a view.
        slots: views of a record.
    """

    def __init__(self, views: Views, width: int, slots: int) -> None:
        super().__init__()
        self.views = views
        self.width = width * slots if views == "concat" else width
        self.attention = Attention(width, slots) if views == "attention" else None

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """Join `(B, V, C)` features, zero where `(B, V)` present is not, to `(B, width)`."""
        if self.attention is not None:
            joined: Tensor = self.attention(features, present)
            return joined
        if self.views == "concat":
            return features.flatten(1)  # (B, V*C)
        return features.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)  # (B, C)

    def weights(self, features: Tensor, present: Tensor) -> Tensor:
        """Weigh each view: `(B, V)`, which add up to 1, or to 0 without any view.

        Raises:
            ModelError: views joined by `concat` are not weighed against each other.
        """
        if self.attention is not None:
            return self.attention.weights(features, present)
        if self.views == "concat":
            raise ModelError("views joined by concat have no weights; set views to attention or mean")
        return present / present.sum(dim=1, keepdim=True).clamp(min=1)


class Attention(nn.Module):
    """Gated attention over views, which knows the slot of each.

    The weights are those of Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance
    Learning" (2018), equation 9. Theirs is a bag without any order; here an embedding of the
    slot is added to what the gate sees, and each slot scales the features in its own way, so
    that the same sea counts otherwise in the west than in the east.

    Args:
        width: features of a view.
        slots: views of a record.
    """

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(slots, width) * 0.02)  # as of positions in vision transformers
        self.gain = nn.Parameter(torch.ones(slots, width))
        self.content = nn.Linear(width, HIDDEN)
        self.gate = nn.Linear(width, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """Join `(B, V, C)` features to `(B, C)`, zeros for a record without any view."""
        there = _blank(features, present)
        return (self.weights(there, present)[..., None] * there * self.gain).sum(dim=1)

    def weights(self, features: Tensor, present: Tensor) -> Tensor:
        """Weigh the views: `(B, V)`, exactly 0 where a view is not there."""
        seen = _blank(features, present) + self.embedding
        gated = torch.tanh(self.content(seen)) * torch.sigmoid(self.gate(seen))  # (B, V, HIDDEN)
        score: Tensor = self.score(gated).squeeze(2)  # (B, V)
        score = score.masked_fill(~present, torch.finfo(score.dtype).min)  # -inf would make no view at all NaN
        return score.softmax(dim=1) * present


def _blank(features: Tensor, present: Tensor) -> Tensor:
    """Put zeros where no view is: a product with 0 would keep what is no number."""
    return features.masked_fill(~present[..., None], 0)
