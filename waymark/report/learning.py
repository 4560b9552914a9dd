"""How models learnt, epoch by epoch."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from waymark.report.theme import TEMPLATE, colour, dash, note_figure, plain


class _Panel(NamedTuple):
    """One panel: its title, its height in pixels, and the columns in it with the dash of their lines."""

    title: str
    height: int
    columns: dict[str, str | None]


_RATE = "learning_rate"
_PANELS = (
    _Panel("val mean error, km", 230, {"val_mean_km": None}),
    _Panel("val GAP (dots: top 1)", 230, {"val_gap": None, "val_top1": "dot"}),
    _Panel("loss (dots: train)", 140, {"val_loss": None, "train_loss": "dot"}),
    _Panel("rate", 60, {_RATE: None}),
)

# What names the best epoch where the curves do not: the first that was measured, and whether low or high is good.
_GOALS = {"val_mean_km": "low", "val_gap": "high", "val_top1": "high", "val_loss": "low"}

_MOST_MARKED = 60  # epochs; of more, points would hide the line


def learning_curves(curves: pd.DataFrame) -> go.Figure:
    """Validation figures and losses by epoch; the epoch whose weights were kept bears a star.

    Args:
        curves: columns `model`, `epoch` and any of `val_mean_km`, `val_gap`, `val_top1`, `val_loss`, `train_loss`,
            `learning_rate`, one row for each epoch of each model; null where it was not measured, and a panel without
            any number is left out. A column `kept` (bool) says which epoch was kept; without it, it is the one with
            the least mean error, or else the highest GAP, the highest top 1, the least loss.
    """
    panels = _measured(curves)
    if not panels:
        return note_figure("No epoch has been trained.")
    drawn = make_subplots(
        rows=len(panels),
        shared_xaxes=True,
        vertical_spacing=0.06 if len(panels) > 1 else 0,
        row_heights=[panel.height for panel in panels],
    )
    goal = next((column for column in _GOALS if any(column in panel.columns for panel in panels)), None)
    for index, (model, epochs) in enumerate(curves.groupby("model", sort=False)):
        for row, panel in enumerate(panels, start=1):
            for rank, column in enumerate(panel.columns):
                trace = _curve(epochs.sort_values("epoch"), column, plain(model), index)
                trace.line.dash = panel.columns[column] or trace.line.dash
                drawn.add_trace(trace.update(showlegend=row == 1 and rank == 0), row=row, col=1)
            if goal is not None and goal in panel.columns:
                drawn.add_trace(_kept_epoch(epochs, goal, plain(model), index), row=row, col=1)
    _dress(drawn, panels, curves)
    return drawn


def _measured(curves: pd.DataFrame) -> list[_Panel]:
    """Panels with the columns that hold a number; a rate that never changes says nothing."""
    known = {name for name in curves if curves[name].notna().any()} if len(curves) else set()
    if _RATE in known and curves[_RATE].groupby(curves["model"]).nunique().max() == 1:
        known.discard(_RATE)
    panels = [
        panel._replace(columns={name: dash for name, dash in panel.columns.items() if name in known})
        for panel in _PANELS
    ]
    return [panel for panel in panels if panel.columns]


def _dress(drawn: go.Figure, panels: list[_Panel], curves: pd.DataFrame) -> None:
    several = curves["model"].nunique() > 1
    drawn.update_layout(template=TEMPLATE, height=110 + sum(panel.height for panel in panels), showlegend=several)
    if not several:
        drawn.update_layout(margin={"t": 16})
    for row, panel in enumerate(panels, start=1):
        drawn.update_yaxes(title_text=panel.title, row=row)
        if {"val_mean_km", "val_gap", "val_top1"} & set(panel.columns):
            drawn.update_yaxes(rangemode="tozero", row=row)
    drawn.update_xaxes(title_text="epoch", row=len(panels))
    if _RATE in panels[-1].columns:
        rates = curves[_RATE][curves[_RATE] > 0]
        ends = {"tickvals": [rates.min(), rates.max()], "ticktext": [f"{rates.min():.2g}", f"{rates.max():.2g}"]}
        drawn.update_yaxes(type="log", row=len(panels), **ends)


def _curve(epochs: pd.DataFrame, column: str, name: str, index: int) -> go.Scatter:
    line = {"color": colour(index), "width": 1.5 if column == "train_loss" else 2, "dash": dash(index)}
    if column == _RATE:
        line |= {"shape": "hv"}
    marked = column in ("val_mean_km", "val_gap") and len(epochs) <= _MOST_MARKED
    return go.Scatter(
        x=epochs["epoch"].to_numpy(),
        y=epochs[column].to_numpy(dtype=float),
        mode="lines+markers" if marked else "lines",
        line=line,
        marker={"size": 5},
        name=name,
        legendgroup=name,
        hovertemplate=f"{name}, epoch %{{x}}<br>{column.replace('_', ' ')} %{{y:.4~g}}<extra></extra>",
    )


def _kept_epoch(epochs: pd.DataFrame, goal: str, name: str, index: int) -> go.Scatter:
    if "kept" in epochs:
        best = epochs[epochs["kept"].astype(bool)]
    else:
        best = epochs.nsmallest(1, goal) if _GOALS[goal] == "low" else epochs.nlargest(1, goal)
    return go.Scatter(
        x=best["epoch"].to_numpy(),
        y=best[goal].to_numpy(dtype=float),
        mode="markers",
        marker={"symbol": "star", "size": 13, "color": colour(index), "line": {"color": "#ffffff", "width": 1}},
        legendgroup=name,
        showlegend=False,
        hovertemplate=f"{name}: best epoch %{{x}}<br>{goal.replace('_', ' ')} %{{y:.4~g}}<extra></extra>",
    )
