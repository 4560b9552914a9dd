"""Regions: the outline of a country, a file, or the extent of the data. Works offline."""

import logging
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pycountry
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj.exceptions import ProjError
from shapely.geometry import MultiPolygon, Polygon, box

from waymark.errors import RegionError, nearest_name
from waymark.geo.crs import smallest_arc

log = logging.getLogger(__name__)

OUTLINES = Path(__file__).parent / "outlines" / "countries.parquet"
WGS84 = "EPSG:4326"
MARGIN_DEG = 0.05  # about 5 km: room for further records next to the outermost ones


def load_region(region: str | Path) -> gpd.GeoDataFrame:
    """Load the outline of a country by its code, or polygons from a file.

    Outlines are Natural Earth 1:10m (see `outlines/ORIGIN.md`): a coast is accurate to about 300 m, islets are missing,
    and a country excludes the parts that have a code of their own (France without Réunion). Longitudes stay within
    -180 to 180, so a country across the antimeridian has polygons at both ends.

    Args:
        region: an ISO 3166-1 alpha-3 code such as `HRV` (and `XKX`, Kosovo), or the path of a vector file that
            geopandas reads: GeoPackage, GeoJSON, zipped Shapefile, GeoParquet. Of several layers the first is read.

    Returns:
        One or more rows of valid polygons in EPSG:4326; with `code` and `name` if it is a country.

    Raises:
        RegionError: the code is unknown or has no outline; or the file is missing, unreadable, without CRS, without
            polygons, or not on Earth.

    >>> load_region("HRV")["name"].tolist()
    ['Croatia']
    """
    if isinstance(region, str):
        outlines = _outlines()
        found = outlines[outlines["code"] == region]
        if len(found):
            return found.reset_index(drop=True)
    path = Path(region)
    if region != "" and path.exists():
        return _read_file(path)
    if isinstance(region, Path) or path.suffix or len(path.parts) > 1:
        raise RegionError(f"region file {path} does not exist; name a vector file, or a code such as HRV")
    raise RegionError(_explain_unknown(region))


def load_land() -> gpd.GeoDataFrame:
    """Return all outlines of land, including shapes without a code (`code` is null)."""
    return _outlines().copy()


def extent_region(lat_lon: ArrayLike, *, margin_deg: float = MARGIN_DEG) -> gpd.GeoDataFrame:
    """Make a region of the extent of the data: the smallest box of latitude and longitude, with a margin.

    A box and not a convex hull, because a box and its squares stay the same as long as new records are inside; cells
    without records cost nothing. A box across the antimeridian is two polygons. One point is enough.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees.
        margin_deg: margin in degrees of latitude; in longitude it is widened to the same distance.

    Returns:
        One row in EPSG:4326.

    Raises:
        RegionError: there is no point.

    >>> extent_region([[45.0, 16.0]]).total_bounds.round(3).tolist()
    [15.929, 44.95, 16.071, 45.05]
    """
    points = np.asarray(lat_lon, dtype=np.float64).reshape(-1, 2)
    if not len(points) or not np.isfinite(points).all():
        raise RegionError("the data have no coordinates to derive a region from; set region to a code such as HRV")
    south, north = max(points[:, 0].min() - margin_deg, -90), min(points[:, 0].max() + margin_deg, 90)
    # Rounded, because the last bits of a cosine depend on the CPU.
    widened_deg = min(round(margin_deg / max(np.cos(np.radians(np.abs(points[:, 0]).max())), 1e-3), 6), 180.0)
    west, east = smallest_arc(points[:, 1])
    west, east = west - widened_deg, east + widened_deg
    if east - west >= 360:
        west, east = -180, 180
    parts = [
        box(max(west + turn, -180), south, min(east + turn, 180), north)
        for turn in (-360, 0, 360)
        if west + turn < 180 and east + turn > -180
    ]
    return gpd.GeoDataFrame({"name": ["extent of the data"]}, geometry=[MultiPolygon(parts)], crs=WGS84)


def region_lat_lon(region: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Return the `(N, 2)` vertices of the outline of a region, latitude, longitude in degrees."""
    vertices: NDArray[np.float64] = shapely.get_coordinates(region.geometry.to_numpy())[:, ::-1]
    return vertices


def only_polygons(shape: Any) -> MultiPolygon:
    """Make a shape valid, and drop its points and lines."""
    valid = shapely.make_valid(shape, method="structure", keep_collapsed=False)
    return MultiPolygon(list(_polygons(valid)))


def _polygons(shape: Any) -> Iterator[Polygon]:
    for part in shapely.get_parts(shape):
        if isinstance(part, Polygon):
            if not part.is_empty:
                yield part
        elif hasattr(part, "geoms"):
            yield from _polygons(part)


@cache
def _outlines() -> gpd.GeoDataFrame:
    return gpd.read_parquet(OUTLINES)


def _read_file(path: Path) -> gpd.GeoDataFrame:
    read = gpd.read_parquet if path.suffix in {".parquet", ".geoparquet"} else gpd.read_file
    try:
        table = read(path)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].split(";")[0].rstrip(".")
        raise RegionError(
            f"region file {path} cannot be read ({reason}); use GeoPackage, GeoJSON or GeoParquet"
        ) from error
    if not isinstance(table, gpd.GeoDataFrame) or not len(table):
        raise RegionError(f"region file {path} is empty; use a file with at least one polygon")
    if table.crs is None:
        raise RegionError(f"region file {path} has no CRS; set one, for example with set_crs('EPSG:4326') in geopandas")
    return _clean(table, path)


def _clean(table: gpd.GeoDataFrame, path: Path) -> gpd.GeoDataFrame:
    """Convert to degrees, rounded because the last bits of PROJ vary, to valid polygons only."""
    try:
        degrees = table.geometry.force_2d().to_crs(WGS84)
    except ProjError as error:
        raise RegionError(f"region file {path} cannot be converted to degrees ({error}); check its CRS") from error
    shapes = [
        only_polygons(shapely.transform(shape, lambda xy: np.round(xy, 9))) for shape in degrees if shape is not None
    ]
    shapes = [shape for shape in shapes if not shape.is_empty]
    if not shapes:
        kinds = ", ".join(sorted(set(table.geom_type.dropna()))) or "nothing"
        raise RegionError(f"region file {path} has no polygon, only {kinds}; draw the outline as a polygon")
    region = gpd.GeoDataFrame(geometry=shapes, crs=WGS84)
    west, south, east, north = region.total_bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise RegionError(
            f"region file {path} extends from {west:g}, {south:g} to {east:g}, {north:g} degrees, beyond the Earth; "
            f"its CRS is {table.crs.to_string()}: correct that, or split it at the antimeridian"
        )
    return region


def _explain_unknown(region: str) -> str:
    """Suggest the code that was probably meant: by case, by the name of the country, or by similarity."""
    codes = set(_outlines()["code"].dropna())
    if region.upper() in codes:
        return f"region {region!r} is unknown: did you mean {region.upper()!r}?"
    country = pycountry.countries.get(alpha_3=region.upper())
    if country is not None:
        return f"region {region!r} ({country.name}) has no outline here; name a file, or set region: null"
    names = _codes_by_name()
    near = get_close_matches(region.casefold(), names, n=1, cutoff=0.8)
    if near:
        return f"region {region!r} is unknown: did you mean {names[near[0]]!r}? Or name a file"
    near_code = nearest_name(region.upper(), codes)
    remedy = f"{near_code} Or" if near_code.startswith("did you mean") else "use an alpha-3 code such as HRV, or"
    return f"region {region!r} is unknown: {remedy} name a file"


def _codes_by_name() -> dict[str, str]:
    """Map names and alpha-2 codes of countries to their alpha-3 codes with an outline."""
    outlines = _outlines().dropna(subset="code")
    codes = dict(zip(outlines["name"].str.casefold(), outlines["code"], strict=True))
    for country in pycountry.countries:
        if country.alpha_3 in codes.values():
            for key in ("name", "official_name", "common_name", "alpha_2"):
                if hasattr(country, key):
                    codes.setdefault(getattr(country, key).casefold(), country.alpha_3)
    return codes
