"""Where a model errs: its figures by cell and by region."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from waymark.errors import RegionError
from waymark.geo.containment import holding
from waymark.geo.regions import load_land, load_region
from waymark.metrics.intervals import statistic_interval

ELSEWHERE = "elsewhere"
SHORE_DEG = 0.25  # a record off a coarse shore belongs to the region that is nearest, up to some 25 km

RESAMPLES = 1000  # for each row of a table that may have thousands
FEWEST = 5  # records that an interval is drawn from; of fewer, a bootstrap promises more than it keeps

COLUMNS = ("records", "mean_km", "mean_low_km", "mean_high_km", "median_km")


def errors_by(predictions: pd.DataFrame, key: "pd.Series[str] | pd.Series[int]", name: str) -> pd.DataFrame:
    """Sum up the errors of each cell or region, the worst mean first within each split.

    Args:
        predictions: `(N,)` rows of predictions.parquet.
        key: `(N,)` cell or region of each row; rows without one, or without an error, are left out.
        name: heading of the key's column.

    Returns:
        Columns `split`, the key's, `records`, `mean_km`, its 95 % bootstrap interval `mean_low_km` and `mean_high_km`
        (NaN for fewer than 5 records), `median_km`.
    """
    rows = pd.DataFrame(
        {
            "split": predictions["split"].reset_index(drop=True),
            name: key.reset_index(drop=True),
            "km": predictions["distance_km"].reset_index(drop=True),
        }
    ).dropna()
    table = [
        {"split": split, name: place, **_summary(group["km"].to_numpy(dtype=np.float64))}
        for (split, place), group in rows.groupby(["split", name], sort=True)
    ]
    columns = ["split", name, *COLUMNS]
    return pd.DataFrame(table, columns=columns).sort_values(
        ["split", "mean_km", name], ascending=[True, False, True], ignore_index=True
    )


def _summary(km: NDArray[np.float64]) -> dict[str, float | int]:
    interval = statistic_interval(km, resamples=RESAMPLES) if len(km) >= FEWEST else None
    low, high = interval or (np.nan, np.nan)
    mean, median = float(km.mean()), float(np.median(km))
    return dict(zip(COLUMNS, (len(km), mean, low, high, median), strict=True))


def named_regions(path: str | Path | None) -> gpd.GeoDataFrame:
    """Load regions with their names: countries, or a vector file of one's own.

    Args:
        path: vector file with a column `name` (in any case), such as counties; None for the packaged countries.

    Returns:
        Columns `name` and `geometry` in EPSG:4326.

    Raises:
        RegionError: the file is missing, unreadable, without CRS, without polygons, or without names.
    """
    if path is None:
        return load_land()[["name", "geometry"]]
    path = Path(path)
    load_region(path)  # refuses what is no region, and says what to do about it
    table = gpd.read_parquet(path) if path.suffix in {".parquet", ".geoparquet"} else gpd.read_file(path)
    columns = [str(column) for column in table.columns if column != table.geometry.name]
    named = [column for column in columns if column.casefold() == "name"]
    if not named:
        raise RegionError(
            f"regions file {path} has no column name, which says what each region is called;"
            f" rename one of {', '.join(columns) or 'no columns'}"
        )
    regions = gpd.GeoDataFrame({"name": table[named[0]].astype(str)}, geometry=table.geometry)
    return regions[regions.geom_type.isin(["Polygon", "MultiPolygon"])].to_crs("EPSG:4326").reset_index(drop=True)


def region_of(lat_lon: NDArray[np.float64], regions: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """Name the region of each place.

    A place in several regions belongs to the first of them. One in none belongs to the nearest within a quarter of a
    degree (coasts are coarse), else to `elsewhere`; across the antimeridian nothing is near.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.
        regions: what `named_regions` returned.

    Returns:
        `(N,)` names; None for an unknown place.
    """
    region = holding(lat_lon, shapely.make_valid(regions.geometry.to_numpy()), shore_deg=SHORE_DEG)
    names = np.append(regions["name"].to_numpy(dtype=object), ELSEWHERE)  # which -1 takes
    found: NDArray[np.object_] = names[region]
    found[~np.isfinite(lat_lon).all(axis=1)] = None
    return found


def with_shapes(table: pd.DataFrame, cells: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Add the shapes of the cells to the rows of `errors_by`.

    Args:
        table: with the column `cell`.
        cells: with the columns `cell` and `geometry`.
    """
    shapes = cells.set_index("cell").geometry.reindex(table["cell"].astype("int64"))
    return gpd.GeoDataFrame(table, geometry=shapes.to_numpy(), crs=cells.crs)
