"""The page of grids to choose from: a table, curves of what finer cells cost and bring, and a map of each grid."""

from collections.abc import Sequence

import geopandas as gpd
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from waymark.report.data import Grid
from waymark.report.maps import grid_map
from waymark.report.templates import embedded, template
from waymark.report.theme import TEMPLATE, colour, log_ticks

_SYMBOLS = {"squares": "circle", "quadtree": "diamond"}
_ANSWERS = {"centre": "cell's centre", "training": "mean of its training records"}


def grids_page(grids: Sequence[Grid], figures: pd.DataFrame, *, enough: int, measured: str,
               region: gpd.GeoDataFrame | None = None) -> str:  # fmt: skip
    """Grids next to each other as one page.

    Args:
        grids: each with its cells and training counts.
        figures: what `waymark.commands.grid_preview.preview_table` returned, in the same order.
        enough: images that a cell should have.
        measured: over which records the errors were taken, in words.
        region: outline in any CRS, or None.

    Returns:
        HTML that loads nothing from elsewhere; the same bytes for the same grids.
    """
    drawn = [
        {"content": grid, "map": embedded(_small_map(grid, region), f"plot-grid-{rank}", height="440px")}
        for rank, grid in enumerate(grids, start=1)
    ]
    return template("grids.html").render(
        title="Grids to choose from",
        rows=figures.to_dict("records"),
        grids=drawn,
        curves=embedded(grid_curves(figures), "plot-curves", height="620px"),
        enough=enough,
        measured=measured,
    )


def _small_map(grid: Grid, region: gpd.GeoDataFrame | None) -> go.Figure:
    drawn = grid_map(grid.cells, grid.training_counts, region)
    drawn.update_traces(selector={"mode": "markers"}, showlegend=False, marker={"size": 3})
    drawn.update_layout(
        height=440, margin={"l": 40, "r": 8, "t": 64, "b": 30}, legend={"font": {"size": 11}, "title": None}
    )
    return drawn


def grid_curves(figures: pd.DataFrame) -> go.Figure:
    """Oracle error, and images per cell, against the number of cells with training records.

    Squares and quadtrees stand on the same axis: one is better than the other where it errs less with as many classes.

    Args:
        figures: what `waymark.commands.grid_preview.preview_table` returned.
    """
    drawn = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.55, 0.45])
    for rank, (kind, rows) in enumerate(figures.groupby("kind", sort=False)):
        rows = rows.sort_values("classes")
        for answer, name in _ANSWERS.items():
            drawn.add_trace(_error_line(rows, str(kind), answer, name, rank), row=1, col=1)
        drawn.add_trace(_images_line(rows, str(kind), rank), row=2, col=1)
    drawn.update_layout(template=TEMPLATE, height=620, legend={"y": 1.02})
    low, high = figures["classes"].min() / 1.3, figures["classes"].max() * 1.3
    drawn.update_xaxes(type="log", **log_ticks(low, high))
    drawn.update_xaxes(title_text="cells with training records (classes)", row=2)
    drawn.update_yaxes(title_text="oracle error, mean km", rangemode="tozero", row=1)
    images = figures[["images_min", "images_max"]].to_numpy()
    drawn.update_yaxes(title_text="images per cell: median, range", type="log", row=2)
    drawn.update_yaxes(row=2, **log_ticks(images.min(), images.max()))
    return drawn


def _error_line(rows: pd.DataFrame, kind: str, answer: str, name: str, rank: int) -> go.Scatter:
    return go.Scatter(
        x=rows["classes"].to_numpy(),
        y=rows[f"{answer}_mean_km"].to_numpy(dtype=float),
        mode="lines+markers+text" if answer == "centre" else "lines+markers",
        text=rows["grid"].to_numpy(),
        textposition="top right",
        textfont={"size": 11},
        line={"color": colour(rank), "width": 2, "dash": "solid" if answer == "centre" else "dot"},
        marker={"size": 8, "symbol": _SYMBOLS[kind]},
        name=f"{kind}: {name}",
        cliponaxis=False,
        hovertemplate="%{text}<br>%{x:,} classes<br>%{y:.2f} km<extra></extra>",
    )


def _images_line(rows: pd.DataFrame, kind: str, rank: int) -> go.Scatter:
    median = rows["images_median"].to_numpy(dtype=float)
    return go.Scatter(
        x=rows["classes"].to_numpy(),
        y=median,
        mode="lines+markers",
        error_y={
            "array": rows["images_max"].to_numpy() - median,
            "arrayminus": median - rows["images_min"].to_numpy(),
            "thickness": 1,
            "width": 4,
        },
        text=rows["grid"].to_numpy(),
        line={"color": colour(rank), "width": 2},
        marker={"size": 8, "symbol": _SYMBOLS[kind]},
        showlegend=False,
        hovertemplate="%{text}<br>%{x:,} classes<br>median %{y:,.0f} images<extra></extra>",
    )
