"""Project the places to the metric reference system in which grids and models work."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic.dataclasses import dataclass

from tasks.common.geography import Crs, Region
from tasks.common.outputs import whole_folder
from tasks.common.stage import STRICT, Stage
from waymark.data.filters import coordinates
from waymark.data.records import read_records, write_table
from waymark.geo.crs import describe_crs, project, resolve_crs
from waymark.geo.regions import load_region, region_lat_lon

logger = logging.getLogger(__name__)

RECORDS = Path("data/filtered/records.parquet")
PROJECTED = Path("data/projected")


@dataclass(frozen=True, config=STRICT)
class Project:
    """The shared keys `crs` and `region` of params.yaml.

    Args:
        crs: a metric coordinate reference system such as EPSG:3765, or `auto`.
        region: what `auto` must cover in addition to the places; null for only these.
    """

    crs: Crs
    region: Region | None


STAGE = Stage("project", Project, section="", shared=("crs", "region"))


def project_places(settings: Project) -> None:
    """Project the places to the metric reference system in which grids and models work."""
    records = read_records(RECORDS)
    lat_lon = coordinates(records)
    known = ~np.isnan(lat_lon[:, 0])
    served = (
        [lat_lon[known]] if settings.region is None else [lat_lon[known], region_lat_lon(load_region(settings.region))]
    )
    crs = resolve_crs(settings.crs, np.concatenate(served))
    xy_m = project(lat_lon[known], crs)
    places = pa.table(
        {
            "record_id": records["record_id"].filter(pa.array(known)).combine_chunks(),
            "latitude": lat_lon[known, 0],
            "longitude": lat_lon[known, 1],
            "x_m": xy_m[:, 0],
            "y_m": xy_m[:, 1],
        }
    )
    with whole_folder(PROJECTED) as folder:
        write_table(places.replace_schema_metadata({"crs": crs}), folder / "places.parquet")
    logger.info("%d of %d records have a place, in %s", known.sum(), len(known), describe_crs(crs))


if __name__ == "__main__":
    STAGE.main(project_places)
