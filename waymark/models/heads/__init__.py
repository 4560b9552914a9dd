"""Heads: from features to a loss, and to an answer. Import a module of a new head here, and it can be chosen."""

from waymark.models.heads.adapter import Head, HeadOptions, HeadParts, Place, PlaceHead, PlaceOptions, TrainingPlaces
from waymark.models.heads.attention import Attention, AttentionHead
from waymark.models.heads.cells import CellHead, Cells, CellsHead
from waymark.models.heads.coordinates import Coordinates, CoordinatesHead
from waymark.models.heads.hybrid import Hybrid, HybridHead
from waymark.models.heads.landmarks import NO_LANDMARK, LandmarkHead, LandmarkOptions
from waymark.models.heads.margins import ArcFace, CosFace, MarginHead, SphereFace
from waymark.models.heads.neighbours import Neighbours, NeighboursHead, Prototypes, PrototypesHead
from waymark.models.heads.softmax import Softmax, SoftmaxHead

from waymark.models.heads.joint import Joint  # isort: skip  # last, for it joins those that are known by then

__all__ = [
    "NO_LANDMARK",
    "ArcFace",
    "Attention",
    "AttentionHead",
    "CellHead",
    "Cells",
    "CellsHead",
    "Coordinates",
    "CoordinatesHead",
    "CosFace",
    "Head",
    "HeadOptions",
    "HeadParts",
    "Hybrid",
    "HybridHead",
    "Joint",
    "LandmarkHead",
    "LandmarkOptions",
    "MarginHead",
    "Neighbours",
    "NeighboursHead",
    "Place",
    "PlaceHead",
    "PlaceOptions",
    "Prototypes",
    "PrototypesHead",
    "Softmax",
    "SoftmaxHead",
    "SphereFace",
    "TrainingPlaces",
]
