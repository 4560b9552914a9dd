"""Maps that need no network: outlines and places in longitude and latitude, true to shape in the middle of the map."""

from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from waymark.report.geometry import Coordinates, Frame, frame, rings
from waymark.report.theme import DISTANCE_SCALE, INK, LAND, QUIET, SPLIT_COLOURS, figure, note_figure, plain, thinned

MOST_POINTS = 10_000
MOST_CELLS = 6_000
PALE = "#d3d9dd"  # edge of a cell that is nearly white

# Upper ends of the classes of training records per cell; the last class is open.
_CLASS_ENDS = (0, 1, 3, 9, 29, 99)
_CLASS_COLOURS = ("#f1f3f4", "#d6e6ee", "#aecfdf", "#7fb2cb", "#4c8fb3", "#256a94", "#123f63")


def error_map(
    predictions: pd.DataFrame,
    region: gpd.GeoDataFrame | None = None,
    *,
    title: str | None = None,
    split: str = "test",
    worst: int = 25,
) -> go.Figure:
    """Records at their true place, coloured by how far off the answer is, with lines to the worst answers.

    Args:
        predictions: columns of `predictions.parquet`; rows without a place or an answer are left out, and of more
            than 10,000 the worst and evenly chosen others are drawn.
        region: outline in any CRS, or None.
        title: text above the map.
        split: the split that is drawn.
        worst: number of answers that are drawn with a line at first; a button draws all.
    """
    known = predictions[predictions["split"] == split]
    known = known.dropna(subset=["latitude", "longitude", "predicted_latitude", "predicted_longitude", "distance_km"])
    known = known.sort_values(["distance_km", "record_id"], ascending=[False, True])
    if known.empty:
        return note_figure(f"No {split} record has a place, so there is no map.", title=title)
    if len(known) > MOST_POINTS:
        rest = np.linspace(worst, len(known) - 1, MOST_POINTS - worst).astype(int)
        known = known.iloc[np.unique(np.concatenate([np.arange(worst), rest]))]
    region = in_degrees(region)
    view = frame(region, known["latitude"].to_numpy(dtype=float), known["longitude"].to_numpy(dtype=float))
    drawn = blank_map(view, title)
    add_region(drawn, region, view, fillcolor="#f6f7f8")
    _add_answers(drawn, known.head(worst), view, name=f"worst {min(worst, len(known))}", visible=True)
    _add_answers(drawn, known, view, name="all", visible=False)
    drawn.add_trace(_error_points(known.iloc[::-1], view))  # the worst last, on top
    _add_line_buttons(drawn, min(worst, len(known)))
    return drawn


def _add_answers(drawn: go.Figure, known: pd.DataFrame, view: Frame, *, name: str, visible: bool) -> None:
    """Lines from the true places to the answers, with a small cross at the answer."""
    x = view.unroll(known["longitude"])
    # Along the shorter way, also across the antimeridian.
    answer_x = x + (known["predicted_longitude"].to_numpy(dtype=float) - x + 180) % 360 - 180
    gap = np.full(len(known), np.nan)
    lines_y = [known["latitude"].to_numpy(dtype=float), known["predicted_latitude"].to_numpy(dtype=float), gap]
    drawn.add_scatter(
        x=narrowed(np.stack([x, answer_x, gap], axis=1).ravel()),
        y=narrowed(np.stack(lines_y, axis=1).ravel()),
        mode="lines+markers",
        line={"color": INK, "width": 0.8},
        marker={"symbol": "x-thin", "size": 5, "line": {"color": INK, "width": 1}},
        opacity=0.75 if len(known) <= 100 else 0.35,
        name=name,
        visible=visible,
        hoverinfo="skip",
        showlegend=False,
    )


def _error_points(known: pd.DataFrame, view: Frame) -> go.Scatter:
    distance = known["distance_km"].to_numpy(dtype=float)
    radius = known["radius_90_km"].to_numpy(dtype=float)
    low, high = 1.0, float(max(distance.max(), 10.0))
    ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if tick <= high]
    return go.Scatter(
        x=narrowed(view.unroll(known["longitude"])),
        y=narrowed(known["latitude"].to_numpy(dtype=float)),
        mode="markers",
        marker={
            "size": 8 if len(known) <= 2000 else 4,
            "color": np.round(np.log10(np.clip(distance, low, high)), 3),
            "colorscale": DISTANCE_SCALE,
            "cmin": np.log10(low),
            "cmax": np.log10(high),
            "line": {"color": "#ffffff", "width": 0.6},
            "colorbar": {
                "title": {"text": "error, km", "side": "top", "font": {"size": 12, "color": QUIET}},
                "tickvals": [float(np.log10(tick)) for tick in ticks],
                "ticktext": [f"{tick:,}" for tick in ticks],
                "thickness": 12,
                "len": 0.75,
                "outlinewidth": 0,
            },
        },
        text=[
            f"<b>{plain(name)}</b><br>off by {off:,.1f} km<br>"
            + (f"90 % radius {reach:,.1f} km" if np.isfinite(reach) else "no radius")
            for name, off, reach in zip(known["record_id"], distance, radius, strict=True)
        ],
        hovertemplate="%{text}<br>%{y:.4f}, %{x:.4f}<extra></extra>",
        showlegend=False,
    )


def _add_line_buttons(drawn: go.Figure, worst: int) -> None:
    lines = [len(drawn.data) - 3, len(drawn.data) - 2]
    choices = {f"{worst} worst answers": [True, False], "all answers": [False, True], "places only": [False, False]}
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": shown}, lines]} for label, shown in choices.items()
    ]
    dress = {"bgcolor": "#ffffff", "bordercolor": LAND, "font": {"size": 12}, "pad": {"t": 0, "b": 0}}
    place = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"}
    drawn.update_layout(updatemenus=[{**place, **dress, "buttons": buttons, "showactive": True}])


def grid_map(
    cells: gpd.GeoDataFrame,
    training_counts: Mapping[int, int],
    region: gpd.GeoDataFrame | None = None,
    *,
    title: str | None = None,
) -> go.Figure:
    """Cells shaded by their number of training records, with their centres; those moved to the land are hollow.

    Args:
        cells: columns `cell`, `geometry`, `area_km2`, `clipped`, `latitude`, `longitude`; of more than 6000 only
            those with training records are drawn.
        training_counts: number of training records by cell; absent cells have none.
        region: outline in any CRS, or None.
        title: text above the map.
    """
    counts = np.array([training_counts.get(int(cell), 0) for cell in cells["cell"]], dtype=int)
    if len(cells) > MOST_CELLS:
        cells, counts = cells[counts > 0], counts[counts > 0]
    if cells.empty:
        return note_figure("There is no cell to draw.", title=title)
    cells, region = in_degrees(cells), in_degrees(region)
    latitude, longitude = cells["latitude"].to_numpy(dtype=float), cells["longitude"].to_numpy(dtype=float)
    outline = cells if region is None else gpd.GeoDataFrame(geometry=[*region.geometry, *cells.geometry])
    view = frame(outline, latitude, longitude)
    drawn = blank_map(view, title)
    classes = np.searchsorted(_CLASS_ENDS, counts, side="left")
    for rank in np.unique(classes):
        shapes = cells.geometry.to_numpy()[classes == rank]
        add_shapes(drawn, shapes, view, _class_of_counts(rank), _CLASS_COLOURS[rank], edge="#ffffff" if rank else PALE)
    add_region(drawn, region, view, fillcolor="rgba(0,0,0,0)")
    for clipped in (False, True):
        chosen = cells["clipped"].to_numpy(dtype=bool) == clipped
        if chosen.any():
            _add_centres(drawn, cells[chosen], counts[chosen], view, clipped=clipped)
    drawn.update_layout(legend={"title": {"text": "training records", "font": {"size": 12, "color": QUIET}}})
    return drawn


def _class_of_counts(rank: int) -> str:
    lower = _CLASS_ENDS[rank - 1] + 1 if rank else 0
    if rank == len(_CLASS_ENDS):
        return f"{lower} or more"
    return f"{lower}" if lower == _CLASS_ENDS[rank] else f"{lower}–{_CLASS_ENDS[rank]}"


def _add_centres(drawn: go.Figure, cells: gpd.GeoDataFrame, counts: npt.NDArray[np.int_], view: Frame, *,
                 clipped: bool) -> None:  # fmt: skip
    many = len(cells) > 1500
    mark = {"size": 2 if many else 5, "symbol": "circle-open" if clipped else "circle", "color": INK}
    drawn.add_scatter(
        x=narrowed(view.unroll(cells["longitude"])),
        y=narrowed(cells["latitude"].to_numpy(dtype=float)),
        mode="markers",
        marker={**mark, "opacity": 0.4 if many else 0.75},
        name="centre moved to the land" if clipped else "centre",
        text=[
            f"<b>cell {cell}</b><br>{count:,} training records<br>{area:,.1f} km² of land"
            for cell, count, area in zip(cells["cell"], counts, cells["area_km2"], strict=True)
        ],
        hovertemplate="%{text}<br>%{y:.4f}, %{x:.4f}<extra></extra>",
    )


def split_map(places: pd.DataFrame, region: gpd.GeoDataFrame | None = None, *, title: str | None = None) -> go.Figure:
    """Places coloured by their split, test on top.

    Args:
        places: columns `latitude`, `longitude` in degrees and `split`; rows without a place are left out, and of
            more than 10,000 evenly chosen ones are drawn.
        region: outline in any CRS, or None.
        title: text above the map.
    """
    known = places.dropna(subset=["latitude", "longitude"])
    if known.empty:
        return note_figure("No record has a place, so there is no map.", title=title)
    totals = known["split"].value_counts()
    known = thinned(known, MOST_POINTS)
    region = in_degrees(region)
    view = frame(region, known["latitude"].to_numpy(dtype=float), known["longitude"].to_numpy(dtype=float))
    drawn = blank_map(view, title)
    add_region(drawn, region, view, fillcolor="#f6f7f8")
    order = {name: rank for rank, name in enumerate(("unused", "train", "val", "test"))}
    for split in sorted(totals.index, key=lambda name: (order.get(name, -1), name)):
        chosen = known[known["split"] == split]
        drawn.add_scatter(
            x=narrowed(view.unroll(chosen["longitude"])),
            y=narrowed(chosen["latitude"].to_numpy(dtype=float)),
            mode="markers",
            marker={"size": 5 if len(known) <= 3000 else 3.5, "color": SPLIT_COLOURS.get(split, INK), "opacity": 0.85},
            name=f"{plain(split)} ({totals[split]:,})",
            hovertemplate=f"{plain(split)}<br>%{{y:.4f}}, %{{x:.4f}}<extra></extra>",
        )
    drawn.update_layout(legend={"itemsizing": "constant"})
    return drawn


def add_region(drawn: go.Figure, region: gpd.GeoDataFrame | None, view: Frame, *, fillcolor: str) -> None:
    """Draw the outline of a region in degrees, if there is one."""
    if region is not None:
        add_shapes(drawn, region.geometry.to_numpy(), view, None, fillcolor, edge="#8d989f", width=1)
        drawn.data[-1].update(showlegend=False)


def add_shapes(
    drawn: go.Figure,
    shapes: npt.NDArray[np.object_],
    view: Frame,
    name: str | None,
    fill: str,
    *,
    edge: str = "#ffffff",
    width: float = 0.6,
) -> None:
    """Fill polygons in degrees with one colour; without any, the name still stands in the legend."""
    x, y = rings(shapes, view)
    drawn.add_scatter(
        x=narrowed(x) if len(x) else [None], y=narrowed(y) if len(y) else [None], mode="lines", fill="toself",
        fillcolor=fill, line={"color": edge, "width": width}, name=name, legendgroup=name, hoverinfo="skip",
    )  # fmt: skip


def blank_map(view: Frame, title: str | None) -> go.Figure:
    """Empty map; its height suits a page of ordinary width."""
    wide = (view.east - view.west) / max(view.north - view.south, 1e-9) / view.stretch
    drawn = figure(title=title, height=int(np.clip(900 / wide, 380, 700)))
    axis = {"ticksuffix": "°", "title": None, "nticks": 8, "showgrid": False, "constrain": "range"}
    drawn.update_xaxes(range=[view.west, view.east], **axis)
    drawn.update_yaxes(range=[view.south, view.north], scaleanchor="x", scaleratio=view.stretch, **axis)
    drawn.update_layout(margin={"l": 48, "r": 16, "b": 36, "t": 92 if title else 56}, dragmode="pan")
    return drawn


def in_degrees(shapes: gpd.GeoDataFrame | None) -> gpd.GeoDataFrame | None:
    """Bring shapes to EPSG:4326, which those without a CRS are in."""
    return shapes if shapes is None or shapes.crs is None else shapes.to_crs("EPSG:4326")


def narrowed(degrees: Coordinates) -> npt.NDArray[np.float32]:
    """Half the bytes; a metre on the ground at most."""
    return degrees.astype(np.float32)
