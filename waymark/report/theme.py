"""Colours, type and plain text that all pictures of the report share."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

INK = "#22303c"
QUIET = "#6b7780"
RULE = "#dfe4e8"
LAND = "#b3bdc4"
WARM = "#c8553d"

# One for each model or split, in order; distinct in print and for the colour-blind as far as eight hues can be.
PALETTE = ("#1f5f8b", "#c8553d", "#3a7d44", "#8a5a9e", "#b8860b", "#0f8b8d", "#a23b72", "#4a4e69")

SPLIT_COLOURS = {"train": "#9fb4c3", "val": "#c99a1e", "test": "#c8553d", "unused": "#d5d9dc"}

# From near to far: cool to warm and always darker at the ends, so that it also reads in grey.
DISTANCE_SCALE = [[0.0, "#16557e"], [0.3, "#58a39b"], [0.55, "#e6b84a"], [0.8, "#cf4a3c"], [1.0, "#6e1530"]]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"

_AXIS = {
    "gridcolor": RULE,
    "linecolor": LAND,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": LAND,
    "ticklen": 4,
    "title": {"standoff": 10, "font": {"size": 13, "color": QUIET}},
    "automargin": True,
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "title": {"font": {"size": 16}, "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "pad": {"l": 8, "t": 14}},
        "colorway": list(PALETTE),
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": LAND, "font": {"color": INK}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 64, "r": 24, "t": 56, "b": 56},
        "hovermode": "closest",
    }
)


def colour(index: int) -> str:
    """Colour of the model at a place of the list, beginning again after eight."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> str:
    """Dash of a line, so that the ninth model differs from the first of the same colour."""
    return ("solid", "dash", "dot", "dashdot")[index // len(PALETTE) % 4]


def plain(text: object, *, longest: int = 80) -> str:
    """Text that Plotly shows as it stands: Plotly reads tags and entities in names and hover texts.

    >>> plain("<b>Zadar</b> & <a href='x'>more</a>")
    "&lt;b&gt;Zadar&lt;/b&gt; &amp; &lt;a href='x'&gt;more&lt;/a&gt;"
    """
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    if len(line) > longest:
        line = line[: longest - 1] + "…"
    return escape(line, quote=False)


def thinned(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Choose rows evenly, the first and the last among them, where there are more than a plot can show."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))] if len(rows) > most else rows


def log_ticks(low: float, high: float) -> dict[str, list[float] | list[str]]:
    """Ticks of a logarithmic axis at 1, 2 and 5, or at the powers of ten alone where these are many.

    >>> log_ticks(3, 120)["ticktext"]
    ['5', '10', '20', '50', '100']
    """
    steps = [(power, digit) for power in range(-6, 10) for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    if len(steps) > 10:
        steps = [(power, digit) for power, digit in steps if digit == 1]
    values = [float(f"{digit}e{power}") for power, digit in steps]
    return {"tickvals": values, "ticktext": [f"{value:,.10g}" for value in values]}


def figure(*, title: str | None = None, height: int = 420) -> go.Figure:
    """Empty figure in the report's dress; it takes the width of the page."""
    empty = go.Figure()
    empty.update_layout(template=TEMPLATE, height=height)
    if title:
        empty.update_layout(title_text=plain(title, longest=160))
    return empty


def note_figure(note: str, *, title: str | None = None) -> go.Figure:
    """Figure that says in words why there is nothing to draw."""
    said = figure(title=title, height=180)
    said.add_annotation(text=plain(note, longest=200), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    said.update_annotations(font={"color": QUIET, "size": 14})
    said.update_xaxes(visible=False)
    said.update_yaxes(visible=False)
    return said
