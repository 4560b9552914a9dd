from waymark.geo.cells import assign_cells, empty_grid
from waymark.geo.crs import check_crs, describe_crs, project, resolve_crs, unproject
from waymark.geo.grid import build_grid
from waymark.geo.quadtree import build_quadtree
from waymark.geo.regions import extent_region, load_land, load_region, region_lat_lon

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
