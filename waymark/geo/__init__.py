"""Geography: coordinate reference systems, regions, and grids of cells."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waymark.geo.cells import assign_cells, empty_grid
    from waymark.geo.crs import check_crs, describe_crs, project, resolve_crs, unproject
    from waymark.geo.grid import build_grid
    from waymark.geo.quadtree import build_quadtree
    from waymark.geo.regions import extent_region, load_land, load_region, region_lat_lon

MODULES = {
    "assign_cells": "cells",
    "build_grid": "grid",
    "build_quadtree": "quadtree",
    "check_crs": "crs",
    "describe_crs": "crs",
    "empty_grid": "cells",
    "extent_region": "regions",
    "load_land": "regions",
    "load_region": "regions",
    "project": "crs",
    "region_lat_lon": "regions",
    "resolve_crs": "crs",
    "unproject": "crs",
}
__all__ = [
    "assign_cells",
    "build_grid",
    "build_quadtree",
    "check_crs",
    "describe_crs",
    "empty_grid",
    "extent_region",
    "load_land",
    "load_region",
    "project",
    "region_lat_lon",
    "resolve_crs",
    "unproject",
]


def __getattr__(name: str) -> Any:
    """Import a module on first use, so that projecting does not depend on how cells are built."""
    if name in MODULES:
        return getattr(import_module(f"waymark.geo.{MODULES[name]}"), name)
    raise AttributeError(name)
