"""Poolings: from maps of features to one vector. Import a new one here, and it can be chosen."""

from waymark.models.pooling.base import PoolingOptions
from waymark.models.pooling.levels import Levels, LevelsPooling
from waymark.models.pooling.mean import GeM, GeMPooling, Grid, Mean

__all__ = ["GeM", "GeMPooling", "Grid", "Levels", "LevelsPooling", "Mean", "PoolingOptions"]
