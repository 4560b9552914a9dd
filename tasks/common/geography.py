"""Kinds of parameters that say where on Earth."""

from typing import Annotated

from pydantic import Field

from tasks.common.kinds import checked_by
from waymark.geo.crs import check_crs
from waymark.geo.regions import load_region
from waymark.options.kinds import PathText

Region = Annotated[
    PathText, Field(description="a code such as HRV, or the path of a vector file"), checked_by(load_region)
]
Crs = Annotated[str, Field(max_length=20_000, description="a code such as EPSG:3765, or auto"), checked_by(check_crs)]
