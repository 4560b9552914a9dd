"""Convert the outlines of all countries once into a small GeoParquet file.

    npm pack world-atlas@2.0.2 && tar -xzf world-atlas-2.0.2.tgz
    python scripts/outlines.py package/countries-10m.json

`waymark/geo/outlines/ORIGIN.md` describes the changes to the shapes.
"""

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pycountry
import shapely
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

log = logging.getLogger("outlines")

OUTLINES = Path(__file__).parent.parent / "waymark" / "geo" / "outlines" / "countries.parquet"

# 2**-12 degrees moves a point by less than 14 m at most; the source's own step is 0.0036 by 0.0017 degrees. As a power
# of two it leaves most bits of a float64 zero, which Brotli after a byte stream split compresses best: 1.4 MB, while
# five decimals as WKB take more than 2.5 MB.
STEP_DEG = 2.0**-12
FLOAT_COLUMNS = [f"geometry.list.element.list.element.list.element.{axis}" for axis in "xy"]

# Shapes without a numeric code that have an alpha-3 code in wide use (XKX is user-assigned, not in ISO 3166).
CODES_BY_NAME = {"Kosovo": "XKX"}

# Territories with an ISO code of their own that the source draws as part of another shape: name of that shape, and
# boxes west, south, east, north that contain them and nothing else of it.
CARVED = {
    "BES": ("Netherlands", [(-69.0, 11.5, -62.0, 18.0)]),
    "BVT": ("Norway", [(3.0, -55.0, 4.0, -54.0)]),
    "CCK": ("Indian Ocean Ter.", [(96.0, -13.0, 97.5, -11.0)]),
    "CXR": ("Indian Ocean Ter.", [(105.0, -11.0, 106.5, -10.0)]),
    "GLP": ("France", [(-62.0, 15.8, -60.9, 16.6)]),
    "GUF": ("France", [(-55.0, 2.0, -51.0, 6.0)]),
    "MTQ": ("France", [(-61.5, 14.3, -60.7, 15.0)]),
    "MYT": ("France", [(44.9, -13.1, 45.4, -12.5)]),
    "REU": ("France", [(55.1, -21.5, 56.0, -20.8)]),
    "SJM": ("Norway", [(-10.0, 70.5, -7.0, 71.5), (5.0, 74.0, 35.0, 82.0)]),
}


def decode_arcs(topology: dict[str, Any]) -> list[np.ndarray]:
    """Undo the delta coding: each arc as `(N, 2)` longitude, latitude in degrees on the step of the file."""
    scale, origin = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    arcs = [np.cumsum(arc, axis=0) * scale + origin for arc in topology["arcs"]]
    return [np.round(arc / STEP_DEG) * STEP_DEG for arc in arcs]


def join_ring(indices: list[int], arcs: list[np.ndarray]) -> np.ndarray:
    """Join arcs to a ring (a negative index is the reversed arc) whose longitude never jumps by 360 degrees."""
    parts = [arcs[index] if index >= 0 else arcs[~index][::-1] for index in indices]
    ring = np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
    ring[:, 0] = np.unwrap(ring[:, 0], period=360)
    if ring[0, 0] != ring[-1, 0]:  # goes round the pole: Antarctica
        pole = np.array([[ring[-1, 0], -90.0], [ring[0, 0], -90.0]])
        ring = np.concatenate([ring, pole, ring[:1]])
    return ring


def split_at_antimeridian(shape: BaseGeometry) -> BaseGeometry:
    """Move what is beyond 180 degrees to the other side."""
    west, _, east, _ = shape.bounds
    if west >= -180 and east <= 180:
        return shape
    parts = [translate(shape.intersection(box(turn - 180, -90, turn + 180, 90)), xoff=-turn) for turn in (-360, 0, 360)]
    return shapely.union_all(parts)


def polygons(shape: BaseGeometry) -> list[Polygon]:
    """Yield the polygons among the parts of a shape."""
    return [part for part in shapely.get_parts(shape) if isinstance(part, Polygon) and not part.is_empty]


def decode_shape(geometry: dict[str, Any], arcs: list[np.ndarray]) -> MultiPolygon:
    """Make one valid multipolygon, without rings that collapsed to a line."""
    found = []
    for rings in geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]:
        shell, *holes = [join_ring(ring, arcs) for ring in rings]
        if len(shell) < 4:
            continue
        holes = [hole for hole in holes if len(hole) >= 4]
        valid = shapely.make_valid(Polygon(shell, holes), method="structure", keep_collapsed=False)
        found.extend(polygons(split_at_antimeridian(valid)) if not valid.is_empty else [])
    united = shapely.make_valid(MultiPolygon(found), method="structure", keep_collapsed=False)
    return MultiPolygon(polygons(united))


def alpha_3(geometry: dict[str, Any]) -> str | None:
    """Return the ISO 3166-1 alpha-3 code of a shape of the source."""
    if "id" in geometry:
        return str(pycountry.countries.get(numeric=geometry["id"]).alpha_3)
    return CODES_BY_NAME.get(geometry["properties"]["name"])


def carve(name: str, code: str | None, shape: MultiPolygon) -> Iterator[tuple[str | None, str, MultiPolygon]]:
    """Split territories with a code of their own from their shape; the rest keeps the name."""
    rest = list(shape.geoms)
    for own_code, (host, boxes) in CARVED.items():
        if host == name:
            inside = [part for part in rest if any(box(*bounds).contains(part) for bounds in boxes)]
            rest = [part for part in rest if part not in inside]
            yield own_code, pycountry.countries.get(alpha_3=own_code).name, MultiPolygon(inside)
    yield code, name, MultiPolygon(rest)


def convert(topology: dict[str, Any]) -> gpd.GeoDataFrame:
    """Read all non-empty shapes of the source, sorted by code, then those without a code by name."""
    arcs = decode_arcs(topology)
    rows: dict[tuple[bool, str, str], tuple[str | None, str, MultiPolygon]] = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        shape = decode_shape(geometry, arcs)
        for code, name, part in carve(geometry["properties"]["name"], alpha_3(geometry), shape):
            key = (code is None, code or "", name if code is None else "")
            if key in rows:  # Ashmore and Cartier Islands have Australia's code
                log.info("%s joins %s", name, rows[key][1])
                part, name = MultiPolygon([*rows[key][2].geoms, *part.geoms]), rows[key][1]
            rows[key] = (code, name, part)
    for code, name, _ in (row for row in rows.values() if row[2].is_empty):
        log.info("%s (%s) is empty and left out", name, code)
    kept = [rows[key] for key in sorted(rows) if not rows[key][2].is_empty]
    table = pd.DataFrame({"code": [row[0] for row in kept], "name": [row[1] for row in kept]}, dtype="str")
    return gpd.GeoDataFrame(table, geometry=[row[2].normalize() for row in kept], crs="EPSG:4326")


def main() -> None:
    """Read the TopoJSON file named on the command line and write the outlines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topojson", type=Path, help="countries-10m.json of the npm package world-atlas")
    parser.add_argument("--output", type=Path, default=OUTLINES)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    outlines = convert(json.loads(arguments.topojson.read_text()))
    outlines.to_parquet(
        arguments.output,
        index=False,
        geometry_encoding="geoarrow",
        use_dictionary=False,
        use_byte_stream_split=FLOAT_COLUMNS,
        compression="brotli",
        compression_level=11,
    )
    log.info("%d outlines, %d bytes in %s", len(outlines), arguments.output.stat().st_size, arguments.output)


if __name__ == "__main__":
    main()
