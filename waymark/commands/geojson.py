"""Answers as GeoJSON (RFC 7946): longitude first, cut at the antimeridian."""

from collections.abc import Iterator, Sequence
from typing import Any

import geopandas as gpd
import shapely

from waymark.inference.answering import LANDMARK
from waymark.models.areas import SHARES
from waymark.report.circles import circle, cut
from waymark.report.wording import Answer

DECIMALS = 1e-6  # of a degree: a tenth of a metre


def feature_collection(answers: Sequence[Answer], model: str) -> dict[str, Any]:
    """Convert answers to features: cells, areas, radii and place of each, distinguished by `kind`.

    The place also has the landmark; it has no geometry if the model answers no places.
    """
    features = [feature for answer in answers for feature in _features(answer, model)]
    return {"type": "FeatureCollection", "features": features}


def _features(answer: Answer, model: str) -> Iterator[dict[str, Any]]:
    if answer.cells is not None:
        for row in answer.cells.itertuples():
            cell = {"kind": "cell", "name": answer.name, "cell": int(row.cell), "probability": float(row.probability)}
            yield _feature(row.geometry if row.geometry.geom_type == "Point" else cut(row.geometry), cell)
        yield from _areas(answer, answer.cells)
    for share, km in ((90, answer.radius_90_km), (50, answer.radius_50_km)):
        if km is not None and answer.latitude is not None and answer.longitude is not None:
            radius = {"kind": "radius", "name": answer.name, "share": share / 100, "radius_km": km}
            yield _feature(circle(answer.latitude, answer.longitude, km), radius)
    names = ("name", "radius_50_km", "radius_90_km", "cell", "probability", "place", "region", "country", *LANDMARK)
    place = {"kind": "answer", **{name: getattr(answer, name) for name in names}, "model": model}
    placed = answer.latitude is not None and answer.longitude is not None
    yield _feature(shapely.Point(answer.longitude, answer.latitude) if placed else None, place)


def _areas(answer: Answer, cells: gpd.GeoDataFrame) -> Iterator[dict[str, Any]]:
    """Join the cells of each area."""
    for share in reversed(SHARES):
        inside = cells[cells[f"in_area_{share}"]] if f"in_area_{share}" in cells else cells.head(0)
        if len(inside):
            area = {"kind": "area", "name": answer.name, "share": share / 100, "cells": len(inside)}
            yield _feature(cut(inside.geometry.union_all()), area)


def _feature(shape: Any, properties: dict[str, Any]) -> dict[str, Any]:
    """Make a feature; without a shape it is unlocated (RFC 7946, section 3.2)."""
    if shape is None:
        return {"type": "Feature", "geometry": None, "properties": properties}
    rounded = shapely.set_precision(shape, DECIMALS)
    return {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(shapely.orient_polygons(rounded)),
        "properties": properties,
    }
