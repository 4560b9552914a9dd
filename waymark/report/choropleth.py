"""A map of where a model errs: cells coloured by the mean error of their records."""

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from waymark.report.geometry import Frame, frame
from waymark.report.maps import MOST_CELLS, add_region, add_shapes, blank_map, in_degrees, narrowed
from waymark.report.theme import DISTANCE_SCALE, INK, QUIET, note_figure, plain

# Ends of the classes of mean error in km; those that no cell reaches are left out.
STEPS_KM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
FINE_STEPS_KM = (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000, 10_000)
MOST_CLASSES = 8
FEW_RECORDS = 5  # a cell with fewer is drawn paler


def error_cells(errors: gpd.GeoDataFrame, region: gpd.GeoDataFrame | None = None) -> go.Figure:
    """Cells coloured by the mean error of the test records in them; of a cell without any, nothing is known.

    Args:
        errors: columns `cell`, `records`, `mean_km`, `median_km`, `geometry`; of more than 6000 the worst are drawn.
        region: outline in any CRS, or None.
    """
    if errors.empty:
        return note_figure("No test record lies in a cell.")
    errors, region = in_degrees(errors.head(MOST_CELLS)), in_degrees(region)
    points = errors.geometry.representative_point()
    outline = errors if region is None else gpd.GeoDataFrame(geometry=[*region.geometry, *errors.geometry])
    view = frame(outline, points.y, points.x)
    drawn = blank_map(view, None)
    mean_km = errors["mean_km"].to_numpy(dtype=float)
    steps = FINE_STEPS_KM if np.ptp(np.searchsorted(FINE_STEPS_KM, mean_km)) < MOST_CLASSES else STEPS_KM
    rank = np.searchsorted(steps, mean_km, side="left")
    first, last = int(rank.min()), int(rank.max())
    for step in range(first, last + 1):
        share = 0.5 if first == last else (step - first) / (last - first)
        fill = sample_colorscale(DISTANCE_SCALE, [share])[0]
        _add_class(drawn, errors[rank == step], _class_name(step, steps), fill, view)
    add_region(drawn, region, view, fillcolor="rgba(0,0,0,0)")
    drawn.add_scatter(
        x=narrowed(view.unroll(points.x)), y=narrowed(points.y.to_numpy(dtype=float)), mode="markers",
        marker={"size": 4, "color": INK, "opacity": 0.5}, showlegend=False,
        text=[f"<b>cell {plain(cell)}</b><br>{count:,} test records<br>mean {mean:,.1f} km, median {median:,.1f} km"
              for cell, count, mean, median in
              zip(errors["cell"], errors["records"], mean_km, errors["median_km"], strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    drawn.update_layout(legend={"title": {"text": "mean error, km", "font": {"size": 12, "color": QUIET}}})
    return drawn


def _class_name(rank: int, steps: Sequence[float]) -> str:
    lower = steps[rank - 1] if rank else 0
    return f"over {lower:,g}" if rank == len(steps) else f"{lower:,g}–{steps[rank]:,g}"


def _add_class(drawn: go.Figure, cells: gpd.GeoDataFrame, name: str, fill: str, view: Frame) -> None:
    """Fill the cells of a class, paler those with few records."""
    few = (cells["records"] < FEW_RECORDS).to_numpy()
    pale = fill.replace("rgb(", "rgba(").replace(")", ", 0.4)")
    for chosen, tint in ((cells[~few], fill), (cells[few], pale)):
        add_shapes(drawn, chosen.geometry.to_numpy(), view, name, tint)
    drawn.data[-1].update(showlegend=False)
