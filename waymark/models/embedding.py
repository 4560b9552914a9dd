"""Features of pictures through a frozen backbone, computed once for all models that learn from them."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from waymark.images.transforms import normalise, shrink
from waymark.models.backbones import Backbone, exact_convolutions
from waymark.models.pooling import Mean, PoolingOptions
from waymark.models.weights import weights_licence, weights_normalisation
from waymark.options.kinds import Batch, PathText, SizePx, Text
from waymark.options.named import STRICT, ByName

BATCH_SIZE = 64


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EmbeddingOptions:
    """One entry of `embeddings:`: what the pictures are sent through.

    Args:
        backbone: name of a model of timm.
        weights: none, default, bundled, or the path of a state dict.
        size_px: side of the pictures that the backbone sees; null for that of the shards.
        pooling: how its maps become features.
        flip: whether the mirrored picture is embedded, too; a training then draws one of the two.
        batch_size: pictures that go through the backbone at once.
    """

    backbone: Text
    weights: PathText
    size_px: SizePx | None = None
    pooling: Annotated[PoolingOptions, ByName()] = Mean()
    flip: bool = False
    batch_size: Batch = BATCH_SIZE


class Embedder:
    """A frozen backbone and the way its pictures are prepared.

    Args:
        options: what to build.
        shard_px: side of the squares that pictures are brought to first.

    Raises:
        ModelError: the weights cannot be had, or the options do not fit together.
    """

    def __init__(self, options: EmbeddingOptions, shard_px: int) -> None:
        self.options = options
        self.size_px = options.size_px or shard_px
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(0)  # of what no weights set, such as a pooling that would learn
        backbone = Backbone(options.backbone, options.weights, options.pooling, self.size_px)
        self.backbone = backbone.eval().requires_grad_(False)
        self.prepared = weights_normalisation(options.backbone)
        self.width = self.backbone.width

    def embed(self, pictures: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float16]]:
        """Turn `(H, H, 3)` pictures of the shards into their `(width,)` features, in order.

        The features of a picture do not depend on those beside it: all batches have one size, filled up with the
        last picture.
        """
        exact_convolutions()
        self.backbone.to(self.device)
        mean, std = (torch.tensor(value, device=self.device) for value in self.prepared[:2])
        waiting = iter(pictures)
        while batch := list(islice(waiting, self.options.batch_size)):
            scaled = [shrink(picture, self.size_px, self.prepared.interpolation) for picture in batch]
            filled = list(chain(scaled, repeat(scaled[-1], self.options.batch_size - len(scaled))))
            pixels = torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(self.device)
            with torch.inference_mode():
                features = self.backbone(normalise(pixels, mean, std))
            yield from features[: len(batch)].half().cpu().numpy()

    def describe(self) -> dict[str, Any]:
        """Say what made the features: what is written to `backbone.json`."""
        options = self.options
        return {
            "backbone": options.backbone,
            "weights": options.weights,
            "sha256": state_digest(self.backbone),
            "licence": weights_licence(options.backbone, options.weights),
            "pooling": options.pooling.name,
            "size_px": self.size_px,
            "width": self.width,
            **self.prepared._asdict(),
        }


def state_digest(backbone: Backbone) -> str:
    """Hash the numbers of a backbone (SHA-256)."""
    digest = hashlib.sha256()
    for value in backbone.state_dict().values():
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def mirrored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirror an `(H, W, 3)` picture, left for right."""
    return np.ascontiguousarray(pixels[:, ::-1])
