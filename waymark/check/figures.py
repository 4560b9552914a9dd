"""Figures of a check: a map of the records by the state of their coordinates, and the sizes of their pictures."""

from itertools import pairwise

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import pyarrow.compute as pc
import shapely

from waymark.check.coordinates import Places
from waymark.check.survey import Survey
from waymark.geo.regions import load_land
from waymark.report.geometry import Frame, frame, rings
from waymark.report.theme import LAND, PALETTE, QUIET, figure, plain

FATES = {
    "in place": PALETTE[0],
    "far off": PALETTE[4],
    "outside": PALETTE[1],
    "swapped": PALETTE[6],
    "null island": PALETTE[7],
}
MOST_POINTS = 10_000
SIDES_PX = (0, 64, 128, 224, 448, 1024, 2048)


def fate_map(survey: Survey, places: Places, region: gpd.GeoDataFrame | None) -> go.Figure | None:
    """Plot the records at their coordinates, coloured by the state of these; None if none has any.

    The map shows the region, or the records in place; zooming out shows the rest. Of more than 10,000 records in
    place an evenly spaced sample is drawn.
    """
    good = places.rows("in place")
    shown = survey.lat_lon[good if len(good) else np.flatnonzero(places.fate != "no coordinates")]
    shown = shown[(np.abs(shown) <= (90, 180)).all(axis=1)]
    if not len(shown):
        return None
    view = frame(region, shown[:, 0], shown[:, 1])
    wide = (view.east - view.west) / max(view.north - view.south, 1e-9) / view.stretch
    drawn = figure(height=int(np.clip(900 / wide, 380, 620)))
    axis = {"ticksuffix": "°", "title": None, "nticks": 8, "showgrid": False, "constrain": "range"}
    drawn.update_xaxes(range=[view.west, view.east], **axis)
    drawn.update_yaxes(range=[view.south, view.north], scaleanchor="x", scaleratio=view.stretch, **axis)
    drawn.update_layout(margin={"l": 48, "r": 16, "b": 36, "t": 56}, dragmode="pan", legend={"itemsizing": "constant"})
    if len(land := _land(view) if region is None else region.geometry.to_numpy()):
        x, y = rings(land, view)
        outline = {"color": LAND if region is None else QUIET, "width": 1}
        drawn.add_scatter(x=x.astype(np.float32), y=y.astype(np.float32), mode="lines", line=outline, fill="toself",
                          fillcolor="#f6f7f8", hoverinfo="skip", showlegend=False)  # fmt: skip
    for fate, tint in FATES.items():
        rows = places.rows(fate)
        if not len(rows):
            continue
        some = rows[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(int)] if len(rows) > MOST_POINTS else rows
        drawn.add_scatter(
            x=np.round(view.unroll(survey.lat_lon[some, 1]), 5),
            y=np.round(survey.lat_lon[some, 0], 5),
            mode="markers",
            marker={"size": 9 if fate != "in place" else 6 if len(some) < 1000 else 4, "color": tint, "opacity": 0.8},
            name=f"{fate} ({len(rows):,})",
            text=[plain(survey.ids[row]) for row in some],
            hovertemplate="%{text}<br>%{y:.4f}, %{x:.4f}<extra></extra>",
        )
    drawn.update_layout(showlegend=True)
    return drawn


def _land(view: Frame) -> npt.NDArray[np.object_]:
    """Clip and simplify the outlines of the countries in and around the view."""
    width, height = view.east - view.west, view.north - view.south
    shapes = load_land().geometry.to_numpy()
    if view.east <= 180 and view.west >= -180:  # across the antimeridian the outlines stay whole
        around = (view.west - 2 * width, view.south - height, view.east + 2 * width, view.north + height)
        shapes = shapely.clip_by_rect(shapes, *around)
    shapes = shapely.simplify(shapes, width / 800)
    kept: npt.NDArray[np.object_] = shapes[~shapely.is_empty(shapes)]
    return kept


def side_counts(survey: Survey) -> dict[str, int]:
    """Count records by the shorter side of their first picture, in the order of the sides."""
    shorter = pc.min_element_wise(survey.records["width"], survey.records["height"]).drop_null().to_numpy()
    if not len(shorter):
        return {}
    counts = {
        f"{low:,} to {high - 1:,} px" if low else f"below {high:,} px": int(((shorter >= low) & (shorter < high)).sum())
        for low, high in pairwise(SIDES_PX)
    }
    counts[f"{SIDES_PX[-1]:,} px or more"] = int((shorter >= SIDES_PX[-1]).sum())
    filled = [place for place, count in enumerate(counts.values()) if count]
    return dict(list(counts.items())[filled[0] : filled[-1] + 1])
