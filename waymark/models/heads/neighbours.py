"""Heads without a gradient: they keep what the training records look like, and compare."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.decoding import best_position, geometric_median, mean_position
from waymark.models.heads.adapter import AtOnce, Place, PlaceHead, PlaceOptions, TrainingPlaces, to_lat_lon
from waymark.models.heads.cells import CellHead
from waymark.models.heads.landmarks import LandmarkHead, LandmarkOptions
from waymark.models.neighbours import class_prototypes, fit_whitening
from waymark.options.kinds import Few
from waymark.options.named import STRICT

Temperature = Annotated[float, Field(ge=0.0001, le=100)]
Shrinkage = Annotated[float, Field(ge=0, le=1000)]


class Looks(nn.Module):
    """Features as they are compared: whitened if wanted, and of unit length; see `waymark.models.neighbours`.

    Args:
        width: number of features.
        whitening: shrinkage of the whitening; None compares the features as they are.
    """

    centre: Tensor  # (width,)
    components: Tensor  # (width, width), with zeros for directions in which the training records do not vary

    def __init__(self, width: int, whitening: float | None) -> None:
        super().__init__()
        self.whitening = whitening
        if whitening is not None:
            self.register_buffer("centre", torch.zeros(width))
            self.register_buffer("components", torch.zeros(width, width))

    def learn(self, features: Tensor) -> None:
        """Learn the whitening from `(N, width)` features of training records.

        Raises:
            ModelError: there is one record, which has no directions.
        """
        if self.whitening is None:
            return
        if len(features) < 2:
            raise ModelError("whitening needs two training records or more; set it to null")
        looks = F.normalize(features, dim=1)
        found = fit_whitening(looks.numpy())
        scaled = found.components.T / found.deviation(self.whitening)
        self.centre.copy_(torch.from_numpy(found.mean))
        self.components[:, : scaled.shape[1]].copy_(torch.from_numpy(scaled))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, width)` of unit length."""
        looks = F.normalize(features, dim=1)
        if self.whitening is None:
            return looks
        return F.normalize((looks - self.centre) @ self.components, dim=1)


@dataclass(frozen=True, config=STRICT)
class Neighbours(PlaceOptions):
    """Head `neighbours`: the place between the training records that look most alike.

    Hays and Efros 2008, IM2GPS; Vo et al. 2017, Revisiting IM2GPS in the Deep Learning Era, weigh them.

    Args:
        neighbours: how many are asked.
        temperature: a neighbour weighs exp(cosine / temperature); the lower, the more the nearest counts.
        answer: made of the neighbours' places and weights: their `median`, `mean`, or the `best` alone.
        whitening: shrinkage of the whitening before they are compared; null for the features as they are.
    """

    by_gradient: ClassVar[bool] = False
    by_records: ClassVar[bool] = True

    name: Literal["neighbours"] = "neighbours"
    neighbours: Few = 10
    temperature: Temperature = 0.1
    answer: Literal["median", "mean", "best"] = "median"
    whitening: Shrinkage | None = None

    def build(self, width: int, *, cells: int, crs: str) -> "NeighboursHead":
        """Build the head; its cells are the training records."""
        return NeighboursHead(width, cells, crs, self)


class NeighboursHead(AtOnce, CellHead):
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
        self.count = min(options.neighbours, records)
        self.looks = Looks(width, options.whitening)
        self.register_buffer("cell_ids", torch.full((records,), -1))  # they are no cells of a grid
        self.register_buffer("positions_m", torch.zeros(records, 2, dtype=torch.float64))
        self.register_buffer("references", torch.zeros(records, width))

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
        whitening: as of `neighbours`.
    """

    by_gradient: ClassVar[bool] = False

    name: Literal["prototypes"] = "prototypes"
    whitening: Shrinkage | None = None

    def build(self, width: int, *, landmarks: int) -> "PrototypesHead":
        """Build the head for so many features and landmarks."""
        return PrototypesHead(width, landmarks, self)


class PrototypesHead(AtOnce, LandmarkHead):
    """Scores are cosines to the mean of each landmark's training records.

    Args:
        width: number of features.
        classes: number of landmarks.
        options: of the head.
    """

    prototypes: Tensor  # (outputs, D) of unit length

    def __init__(self, width: int, classes: int, options: Prototypes) -> None:
        super().__init__(classes, options)
        self.looks = Looks(width, options.whitening)
        self.register_buffer("prototypes", torch.zeros(self.outputs, width))

    def learn(self, features: Tensor, landmark: Tensor) -> None:
        """Average how the training records of each landmark look, and of those without any if they count."""
        self.looks.learn(features)
        number = torch.where(landmark < 0, self.classes, landmark)
        means = class_prototypes(self.looks(features).numpy(), number.numpy(), self.outputs)
        self.prototypes.copy_(torch.from_numpy(means))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into the `(B, outputs)` cosines."""
        cosines: Tensor = self.looks(features) @ self.prototypes.T
        return cosines

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(output.float(), target)
