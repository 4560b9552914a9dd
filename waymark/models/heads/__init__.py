"""Heads: from features to a loss, and to an answer."""

from collections.abc import Mapping
from typing import Any

from waymark.errors import ModelError, nearest_name
from waymark.models.heads.adapter import Head, Place, PlaceHead
from waymark.models.heads.attention import AttentionHead
from waymark.models.heads.cells import CellHead, CellsHead
from waymark.models.heads.coordinates import CoordinatesHead
from waymark.models.heads.hybrid import HybridHead
from waymark.models.heads.landmarks import NO_LANDMARK, LandmarkHead
from waymark.models.heads.margins import MarginHead
from waymark.models.heads.softmax import SoftmaxHead

__all__ = [
    "LANDMARK_HEADS",
    "NO_LANDMARK",
    "PLACE_HEADS",
    "AttentionHead",
    "CellHead",
    "CellsHead",
    "CoordinatesHead",
    "Head",
    "HybridHead",
    "LandmarkHead",
    "MarginHead",
    "Place",
    "PlaceHead",
    "SoftmaxHead",
    "build_landmark_head",
    "build_place_head",
]

MARGINS = ("arcface", "cosface", "sphereface")
PLACE_HEADS = ("cells", "hybrid", "coordinates")
LANDMARK_HEADS = ("softmax", *MARGINS, "attention")


def build_place_head(name: str, width: int, *, cells: int, crs: str, options: Mapping[str, Any]) -> PlaceHead:
    """Build a head for places by name.

    Args:
        name: one of `PLACE_HEADS`.
        width: number of features.
        cells: number of cells, for heads that have any.
        crs: in which the model answers.
        options: of the head, by the names of its arguments.

    Raises:
        ModelError: there is no such head.
    """
    if name == "cells":
        return CellsHead(width, cells, crs, **options)
    if name == "hybrid":
        return HybridHead(width, cells, crs, **options)
    if name == "coordinates":
        return CoordinatesHead(width, crs, **options)
    raise ModelError(f"unknown head {name!r}; {nearest_name(name, PLACE_HEADS)}")


def build_landmark_head(name: str, width: int, *, landmarks: int, options: Mapping[str, Any]) -> LandmarkHead:
    """Build a head for landmarks by name.

    Args:
        name: one of `LANDMARK_HEADS`.
        width: number of features.
        landmarks: number of classes.
        options: of the head, by the names of its arguments.

    Raises:
        ModelError: there is no such head.
    """
    if name == "softmax":
        return SoftmaxHead(width, landmarks, **options)
    if name in MARGINS:
        return MarginHead(width, landmarks, kind=name, **options)
    if name == "attention":
        return AttentionHead(width, landmarks, **options)
    raise ModelError(f"unknown head {name!r}; {nearest_name(name, LANDMARK_HEADS)}")
