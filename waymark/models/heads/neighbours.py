"""Heads without a gradient: they keep what the training records look like, and compare."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.decoding import best_position, geometric_median, mean_position
from waymark.models.heads.adapter import Place, PlaceHead, PlaceOptions, TrainingPlaces, to_lat_lon
from waymark.models.heads.cells import CellHead
from waymark.models.heads.landmarks import LandmarkHead, LandmarkOptions
from waymark.options.kinds import Few, Width
from waymark.options.named import STRICT

Temperature = Annotated[float, Field(ge=0.0001, le=100)]


class Looks(nn.Module):
    """Features as they are compared: whitened if wanted, and of unit length.

    Whitening is that of Jégou and Chum 2012, Negative evidences and co-occurrences in image retrieval, section 3:
    principal components that each vary by 1, so that what all pictures share does not count.

    Args:
        width: number of features.
        whiten: number of principal components; None compares the features as they are.
    """

    centre: Tensor  # (width,)
    components: Tensor  # (width, whiten)

    def __init__(self, width: int, whiten: int | None) -> None:
        super().__init__()
        self.width, self.whiten = width if whiten is None else whiten, whiten
        if whiten is not None:
            if whiten > width:
                raise ModelError(f"whiten is {whiten}, and there are {width} features; set it to {width} or less")
            self.register_buffer("centre", torch.zeros(width))
            self.register_buffer("components", torch.zeros(width, whiten))

    def learn(self, features: Tensor) -> None:
        """Learn the whitening from `(N, width)` features of training records.

        Raises:
            ModelError: there are fewer records than components.
        """
        if self.whiten is None:
            return
        if len(features) <= self.whiten:
            raise ModelError(
                f"whiten is {self.whiten}, and there are {len(features)} training records; set it lower, or to null"
            )
        found = PCA(self.whiten, whiten=True, svd_solver="full").fit(features.double().numpy())
        scaled = found.components_.T / np.sqrt(found.explained_variance_)
        self.centre.copy_(torch.from_numpy(found.mean_))
        self.components.copy_(torch.from_numpy(scaled))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, D)` of unit length."""
        if self.whiten is not None:
            features = (features - self.centre) @ self.components
        return F.normalize(features, dim=1)


@dataclass(frozen=True, config=STRICT)
class Neighbours(PlaceOptions):
    """Head `neighbours`: the place between the training records that look most alike.

    Hays and Efros 2008, IM2GPS; Vo et al. 2017, Revisiting IM2GPS in the Deep Learning Era, weigh them.

    Args:
        count: of neighbours.
        temperature: a neighbour weighs exp(cosine / temperature); the lower, the more the nearest counts.
        answer: made of the neighbours' places and weights: their `median`, `mean`, or the `best` alone.
        whiten: number of principal components in which they are compared; null for the features as they are.
    """

    by_gradient: ClassVar[bool] = False
    by_records: ClassVar[bool] = True

    name: Literal["neighbours"] = "neighbours"
    count: Few = 10
    temperature: Temperature = 0.1
    answer: Literal["median", "mean", "best"] = "median"
    whiten: Width | None = None

    def build(self, width: int, *, cells: int, crs: str) -> "NeighboursHead":
        """Build the head; its cells are the training records."""
        return NeighboursHead(width, cells, crs, self)


class NeighboursHead(CellHead):
    """Answers between the nearest training records, each of which is a cell with a place of its own.

    Args:
        width: number of features.
        records: of training.
        crs: of their places.
        options: of the head.
    """

    references: Tensor  # (records, D) of unit length

    def __init__(self, width: int, records: int, crs: str, options: Neighbours) -> None:
        PlaceHead.__init__(self)
        self.crs, self.chosen = crs, options
        self.count = min(options.count, records)
        self.looks = Looks(width, options.whiten)
        self.register_buffer("cell_ids", torch.full((records,), -1))  # they are no cells of a grid
        self.register_buffer("positions_m", torch.zeros(records, 2, dtype=torch.float64))
        self.register_buffer("references", torch.zeros(records, self.looks.width))

    def adapt(self, places: TrainingPlaces) -> None:
        """Learn where the training records are."""
        self.positions_m.copy_(torch.from_numpy(places.xy_m))

    def learn(self, features: Tensor, landmark: Tensor) -> None:
        """Keep how the training records look, in the order of their places."""
        self.looks.learn(features)
        self.references.copy_(self.looks(features))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, 2 count)`: cosines of the nearest records, and their numbers."""
        found = (self.looks(features) @ self.references.T).topk(self.count, dim=1)
        return torch.cat([found.values, found.indices.to(found.values.dtype)], dim=1)

    def logits(self, output: Tensor) -> Tensor:
        """Compute the `(B, count)` logits of the neighbours."""
        return output[:, : self.count] / self.chosen.temperature

    def cells_m(self, output: Tensor) -> Tensor:
        """Look up the `(B, count, 2)` places of the neighbours in metres."""
        return self.positions_m[output[:, self.count :].long()]

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute nothing: no gradient teaches this head."""
        return output.sum() * 0

    def known(self, batch: Batch) -> Tensor:
        """Mark the records that have coordinates."""
        return ~batch.lat_lon.isnan().any(dim=1)

    def place(self, output: Tensor) -> Place:
        """Answer with what the places of the neighbours make."""
        decode = {"mean": mean_position, "best": best_position, "median": geometric_median}[self.chosen.answer]
        xy_m = decode(self.probabilities(output.detach()), self.cells_m(output))
        nearest = output[:, self.count].long().cpu()
        return Place(to_lat_lon(xy_m, self.crs), nearest)


@dataclass(frozen=True, config=STRICT)
class Prototypes(LandmarkOptions):
    """Head `prototypes`: the landmark whose training pictures look most alike on average.

    Snell, Swersky and Zemel 2017, Prototypical Networks for Few-shot Learning, equation 1, by cosine.

    Args:
        whiten: as of `neighbours`.
    """

    by_gradient: ClassVar[bool] = False

    name: Literal["prototypes"] = "prototypes"
    whiten: Width | None = None

    def build(self, width: int, *, landmarks: int) -> "PrototypesHead":
        """Build the head for so many features and landmarks."""
        return PrototypesHead(width, landmarks, self)


class PrototypesHead(LandmarkHead):
    """Scores are cosines to the mean of each landmark's training records.

    Args:
        width: number of features.
        classes: number of landmarks.
        options: of the head.
    """

    prototypes: Tensor  # (outputs, D) of unit length

    def __init__(self, width: int, classes: int, options: Prototypes) -> None:
        super().__init__(classes, options)
        self.looks = Looks(width, options.whiten)
        self.register_buffer("prototypes", torch.zeros(self.outputs, self.looks.width))

    def learn(self, features: Tensor, landmark: Tensor) -> None:
        """Average how the training records of each landmark look, and of those without any if they count."""
        self.looks.learn(features)
        looks = self.looks(features)
        number = torch.where(landmark < 0, self.classes, landmark)
        for chosen in torch.unique(number).tolist():
            if chosen < self.outputs:
                self.prototypes[chosen] = F.normalize(looks[number == chosen].mean(dim=0), dim=0)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into the `(B, outputs)` cosines."""
        cosines: Tensor = self.looks(features) @ self.prototypes.T
        return cosines

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(output.float(), target)
