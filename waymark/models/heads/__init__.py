"""Heads: from features to a loss, and to an answer."""

from waymark.models.heads.adapter import Head, Place
from waymark.models.heads.cells import CellsHead
from waymark.models.heads.coordinates import CoordinatesHead

__all__ = ["CellsHead", "CoordinatesHead", "Head", "Place"]
