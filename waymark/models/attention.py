"""The attention branch: where in the picture to look, learnt by saying the class from there."""

from typing import Literal, NamedTuple

from timm.models.resnet import Bottleneck
from torch import Tensor, nn

Apply = Literal["residual", "product"]

MOST_RESPONSES = 512  # of the branch; a map for each of 81,313 classes would fill any memory


class BranchOutput(NamedTuple):
    """What the branch says of each picture."""

    logits: Tensor  # (N, classes)
    map: Tensor  # (N, 1, h, w), 0 to 1


class AttentionBranch(nn.Module):
    """Attention branch of Fukui et al. 2019, Attention Branch Network.

    A residual block, batch norm, a 1 x 1 convolution to a response of each class, batch norm and ReLU; from these a
    3 x 3 convolution, batch norm and sigmoid make the map, and a 1 x 1 convolution and the mean over the map make
    the logits, as in the authors' code. The mean is taken first here, which gives the same logits and needs no map
    of each class. More than 512 classes share 512 responses.

    Args:
        channels: of the map that comes in.
        classes: number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        responses = min(classes, MOST_RESPONSES)
        self.block = Bottleneck(channels, channels // Bottleneck.expansion)
        self.responses = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, responses, 1, bias=False),
            nn.BatchNorm2d(responses),
            nn.ReLU(),
        )
        self.map = nn.Sequential(nn.Conv2d(responses, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1), nn.Sigmoid())
        self.classify = nn.Linear(responses, classes)

    def forward(self, maps: Tensor) -> BranchOutput:
        """Look at `(N, channels, h, w)` maps of features."""
        responses: Tensor = self.responses(self.block(maps))  # (N, responses, h, w)
        return BranchOutput(self.classify(responses.mean(dim=(2, 3))), self.map(responses))


def attend(maps: Tensor, attention: Tensor, apply: Apply) -> Tensor:
    """Weigh maps of features with the map of attention.

    `residual` is (1 + M) x, `product` is M x, both of which Fukui et al. 2019 compare.

    Args:
        maps: `(N, C, h, w)`.
        attention: `(N, 1, h, w)`.
        apply: how.

    Returns:
        `(N, C, h, w)`.
    """
    return attention * maps if apply == "product" else (1 + attention) * maps
