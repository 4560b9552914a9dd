"""An answer as a page: the pictures, the figures, and a map with the probability over cells."""

from base64 import b64encode
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import plotly.graph_objects as go
import shapely
from markupsafe import Markup
from shapely.geometry import box

from waymark.errors import ParameterError
from waymark.report.circles import circle
from waymark.report.geometry import Frame, frame, rings
from waymark.report.maps import PALE, add_region, add_shapes, blank_map, narrowed
from waymark.report.templates import embedded, template
from waymark.report.theme import INK, WARM, plain
from waymark.report.wording import Answer, facts

# Upper ends of the classes of probability; the last class is open.
_ENDS = (0.001, 0.01, 0.03, 0.1, 0.3)
_NAMES = ("below 0.1 %", "0.1–1 %", "1–3 %", "3–10 %", "10–30 %", "30 % or more")
_COLOURS = ("#f1f3f4", "#d6e6ee", "#aecfdf", "#7fb2cb", "#4c8fb3", "#123f63")
_MOST_HOVERS = 500


def answer_page(answers: Sequence[Answer], model: str, land: gpd.GeoDataFrame) -> str:
    """Answers as one page that loads nothing from elsewhere.

    Args:
        answers: one or several, each with a map of its own.
        model: name of the model.
        land: outlines of land in EPSG:4326.
    """
    shown = [
        {
            "content": answer,
            "facts": facts(answer),
            "rows": [
                {"label": label, "pictures": ["data:image/jpeg;base64," + b64encode(jpeg).decode() for jpeg in jpegs]}
                for label, jpegs in (("view", answer.jpegs), ("attention to view", answer.attention))
            ],
            "map": _embedded_map(answer, land, number),
        }
        for number, answer in enumerate(answers, start=1)
    ]
    title = answers[0].name if len(answers) == 1 else f"{len(answers)} answers"
    return template("answer.html").render(title=title, model=model, answers=shown, named=any(map(_is_named, answers)))


def _is_named(answer: Answer) -> bool:
    return any(place is not None for place in (answer.place, *(other.place for other in answer.candidates)))


def _embedded_map(answer: Answer, land: gpd.GeoDataFrame, number: int) -> Markup | None:
    """The map as HTML; None where the model answers no places."""
    if answer.latitude is None or answer.longitude is None:
        return None
    return embedded(answer_map(answer, land), f"plot-answer-{number}", height="560px")


def answer_map(answer: Answer, land: gpd.GeoDataFrame) -> go.Figure:
    """The answer, its radii, and how probable each cell is.

    Raises:
        ParameterError: the answer holds no place.
    """
    if answer.latitude is None or answer.longitude is None:
        raise ParameterError(f"{answer.name} was answered without a place; ask a model with a place head for a map")
    latitude, longitude = answer.latitude, answer.longitude
    circles = {
        share: circle(latitude, longitude, km)
        for share, km in ((90, answer.radius_90_km), (50, answer.radius_50_km))
        if km is not None
    }
    shapes = [*circles.values()]
    if answer.cells is not None:
        shapes += list(answer.cells.geometry)
    outline = gpd.GeoDataFrame(geometry=shapes, crs="EPSG:4326") if shapes else None
    view = frame(outline, np.array([latitude]), np.array([longitude]))
    drawn = blank_map(view, None)
    near = _within(land, view)
    add_region(drawn, near, view, fillcolor="#f6f7f8")
    if answer.cells is not None:
        _add_cells(drawn, answer.cells, view)
        add_region(drawn, near, view, fillcolor="rgba(0,0,0,0)")
        _add_hovers(drawn, answer.cells.head(_MOST_HOVERS), view)
    for share, shape in circles.items():
        x, y = rings(np.array([shape]), view)
        line = {"color": WARM, "width": 1.5, "dash": "solid" if share == 50 else "dash"}
        drawn.add_scatter(x=narrowed(x), y=narrowed(y), mode="lines", line=line, name=f"{share} %", hoverinfo="skip")
    _add_point(drawn, answer.name, latitude, longitude, view)
    return drawn


def _within(land: gpd.GeoDataFrame, view: Frame) -> gpd.GeoDataFrame:
    """Cut land to the map and as much around it, which a wide page shows; Plotly leaves larger shapes unfilled."""
    parts = shapely.get_parts(land.geometry.to_numpy())
    wide, high = view.east - view.west, view.north - view.south
    west, east, south, north = view.west - wide, view.east + wide, view.south - high, view.north + high
    windows = [box(west + turn, south, east + turn, north) for turn in (-360, 0, 360)]
    seen = [shapely.intersection(parts[shapely.intersects(parts, window)], window) for window in windows]
    pieces = shapely.get_parts(np.concatenate(seen))
    return gpd.GeoDataFrame(geometry=pieces[shapely.get_dimensions(pieces) == 2], crs="EPSG:4326")


def _add_cells(drawn: go.Figure, cells: gpd.GeoDataFrame, view: Frame) -> None:
    """Cells in classes of probability; those whose outline is unknown as points."""
    classes = np.searchsorted(_ENDS, cells["probability"].to_numpy(dtype=float), side="right")
    shapes = cells.geometry.to_numpy()
    for rank in np.unique(classes):
        chosen = shapes[classes == rank]
        if shapely.get_dimensions(chosen).max() < 2:
            drawn.add_scatter(
                x=view.unroll(shapely.get_x(chosen)), y=shapely.get_y(chosen), mode="markers", name=_NAMES[rank],
                marker={"color": _COLOURS[rank], "size": 9, "line": {"color": INK, "width": 0.5}}, hoverinfo="skip",
            )  # fmt: skip
        else:
            edge = "#ffffff" if rank else PALE
            add_shapes(drawn, chosen, view, _NAMES[rank], _COLOURS[rank], edge=edge)


def _add_hovers(drawn: go.Figure, cells: gpd.GeoDataFrame, view: Frame) -> None:
    drawn.add_scatter(
        x=narrowed(view.unroll(cells["longitude"])),
        y=narrowed(cells["latitude"].to_numpy(dtype=float)),
        mode="markers",
        marker={"size": 12, "opacity": 0},
        text=[
            f"<b>cell {cell}</b><br>{100 * chance:.2f} %"
            for cell, chance in zip(cells["cell"], cells["probability"], strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _add_point(drawn: go.Figure, name: str, latitude: float, longitude: float, view: Frame) -> None:
    drawn.add_scatter(
        x=narrowed(view.unroll([longitude])),
        y=[latitude],
        mode="markers",
        marker={"symbol": "star", "size": 15, "color": WARM, "line": {"color": "#ffffff", "width": 1}},
        name="answer",
        text=[f"<b>{plain(name)}</b>"],
        hovertemplate="%{text}<br>%{y:.5f}, %{x:.5f}<extra></extra>",
    )
