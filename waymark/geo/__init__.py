from waymark.geo.crs import describe_crs, project, resolve_crs, unproject
from waymark.geo.grid import assign_cells, build_grid
from waymark.geo.regions import extent_region, load_land, load_region

__all__ = [
    "assign_cells",
    "build_grid",
    "describe_crs",
    "extent_region",
    "load_land",
    "load_region",
    "project",
    "resolve_crs",
    "unproject",
]
