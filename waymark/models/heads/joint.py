"""Two heads on one backbone."""

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from waymark.models.heads.adapter import HeadOptions, HeadParts, PlaceOptions
from waymark.models.heads.landmarks import LandmarkOptions
from waymark.options.kinds import Weight
from waymark.options.named import STRICT, ByName


@dataclass(frozen=True, config=STRICT)
class Joint(HeadOptions):
    """Head `joint`: places and landmarks; each record trains the heads for which it has a truth.

    Args:
        place: a head for places.
        landmark: a head for landmarks.
        place_weight: weight of the loss of places.
        landmark_weight: weight of the loss of landmarks.
    """

    place: Annotated[PlaceOptions, ByName()]
    landmark: Annotated[LandmarkOptions, ByName()]
    name: Literal["joint"] = "joint"
    place_weight: Weight = 1.0
    landmark_weight: Weight = 1.0

    def parts(self) -> HeadParts:
        """List both heads."""
        return HeadParts(self.place, self.landmark, {"place": self.place_weight, "landmark": self.landmark_weight})
