"""Heads: from features to a loss, and to an answer."""

from collections.abc import Mapping
from typing import Any

from waymark.errors import ModelError, nearest_name
from waymark.models.heads.adapter import Head, Place
from waymark.models.heads.cells import CellHead, CellsHead
from waymark.models.heads.coordinates import CoordinatesHead
from waymark.models.heads.hybrid import HybridHead

__all__ = ["HEADS", "CellHead", "CellsHead", "CoordinatesHead", "Head", "HybridHead", "Place", "build_head"]

HEADS = ("cells", "hybrid", "coordinates")


def build_head(name: str, width: int, *, classes: int, crs: str, options: Mapping[str, Any]) -> Head:
    """Build a head by name.

    Args:
        name: one of `HEADS`.
        width: number of features.
        classes: number of cells, for heads that have any.
        crs: in which the model answers.
        options: of the head, by the names of its arguments.

    Raises:
        ModelError: there is no such head.
    """
    if name == "cells":
        return CellsHead(width, classes, crs, **options)
    if name == "hybrid":
        return HybridHead(width, classes, crs, **options)
    if name == "coordinates":
        return CoordinatesHead(width, crs, **options)
    raise ModelError(f"unknown head {name!r}; {nearest_name(name, HEADS)}")
