"""Plots of whether a model knows what it does not know. Each takes figures and returns a Plotly figure."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from waymark.metrics.reliability import Reliability
from waymark.metrics.risk import RiskCoverage
from waymark.report.theme import LAND, QUIET, WARM, colour, figure, log_ticks, note_figure, plain, thinned
from waymark.report.wording import confidence_in_words

_MOST_POINTS = 2000
_MOST_STEPS = 400
_LEAST_KM = 0.01


def reliability_plot(measured: Reliability) -> go.Figure:
    """How often the named cell is right against how probable the model called it; on the line it is calibrated."""
    curve = measured.curve
    drawn = _promise_plot(curve, "probability", "accuracy", "records in which the named cell is right")
    drawn.update_xaxes(title_text="probability of the named cell")
    top = min(1.02, float(max(curve["probability"].max(), curve["high"].max())) * 1.1)
    drawn.update_xaxes(range=[0, top])
    drawn.update_yaxes(range=[0, top])
    return drawn


def radius_coverage_plot(radii: pd.DataFrame) -> go.Figure:
    """Share of the records that a radius holds against the share that it promises to.

    Args:
        radii: what `waymark.metrics.reliability.radius_coverage` gave.
    """
    if radii.empty:
        return note_figure("Val is too small to promise any radius.")
    drawn = _promise_plot(radii, "promised", "covered", "records within the radius")
    drawn.update_xaxes(title_text="share that the radius promises", range=[0, 1.02])
    drawn.update_yaxes(range=[0, 1.02])
    return drawn


def _promise_plot(curve: pd.DataFrame, promised: str, kept: str, title: str) -> go.Figure:
    drawn = figure(height=340)
    drawn.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": LAND, "dash": "dash"}, hoverinfo="skip")
    y = curve[kept].to_numpy(dtype=float)
    drawn.add_scatter(
        x=curve[promised].to_numpy(dtype=float), y=y, mode="lines+markers",
        line={"color": colour(0), "width": 1.5}, marker={"size": 8},
        error_y={"array": curve["high"].to_numpy(dtype=float) - y, "arrayminus": y - curve["low"].to_numpy(dtype=float),
                 "thickness": 1.2, "width": 4},
        text=[f"{count:,} records" for count in curve["records"]],
        hovertemplate=f"{promised} %{{x:.1%}}<br>{kept} %{{y:.1%}}<br>%{{text}}<extra></extra>",
    )  # fmt: skip
    drawn.update_layout(showlegend=False, margin={"t": 16})
    drawn.update_xaxes(tickformat=".0%")
    drawn.update_yaxes(tickformat=".0%", title_text=title)
    return drawn


def risk_coverage_plot(risk: RiskCoverage) -> go.Figure:
    """Mean error over the share of records that a model is most certain of, between chance and the oracle."""
    curve = thinned(risk.curve, _MOST_STEPS)
    drawn = figure(height=380)
    lines = (
        ("mean_km", f"by radius, mean {risk.aurc_km:,.1f} km", {"color": colour(0), "width": 2.5}),
        ("oracle_km", f"by the error itself, {risk.oracle_km:,.1f} km", {"color": QUIET, "width": 1.5, "dash": "dot"}),
    )
    ends = {"x": [0, 1], "y": [risk.random_km, risk.random_km]}
    drawn.add_scatter(
        **ends, mode="lines", name=f"by chance, {risk.random_km:,.1f} km", hoverinfo="skip",
        line={"color": QUIET, "width": 1.5, "dash": "dash"},
    )  # fmt: skip
    for column, name, line in lines:
        drawn.add_scatter(
            x=curve["share"].to_numpy(dtype=float), y=curve[column].to_numpy(dtype=float), mode="lines", name=name,
            line=line, hovertemplate="the most certain %{x:.0%}: %{y:,.1f} km<extra></extra>",
        )  # fmt: skip
    drawn.update_xaxes(range=[0, 1.02], tickformat=".0%", title_text="records answered, the most certain first")
    drawn.update_yaxes(rangemode="tozero", title_text="their mean error, km")
    return drawn


def precision_plot(curve: pd.DataFrame, threshold: float | None = None) -> go.Figure:
    """How many answers are right, and how many landmarks are found, if a model answers from a score on.

    Args:
        curve: columns `threshold`, `answered`, `precision`, `recall` (shares) and, where known, `confidence`; of more
            than 400 rows evenly chosen ones are drawn.
        threshold: the calibrated one, which bears a star; None where the model never refuses.
    """
    known = curve.dropna(subset=["answered", "precision"]).sort_values("answered", kind="stable")
    if known.empty:
        return note_figure("No record was answered.")
    drawn = figure(height=380)
    kept = thinned(known, _MOST_STEPS)
    lines = (
        ("precision", "answers that are right (precision)", {"color": colour(0), "width": 2.5}),
        ("recall", "landmarks that are found (recall)", {"color": colour(1), "width": 2, "dash": "dash"}),
    )
    for column, name, line in lines:
        drawn.add_scatter(
            x=kept["answered"].to_numpy(dtype=float), y=kept[column].to_numpy(dtype=float), mode="lines", name=name,
            line=line, text=_sureness(kept),
            hovertemplate="%{y:.1%} when %{x:.1%} are answered, from %{text} on<extra></extra>",
        )  # fmt: skip
    if threshold is not None:
        _mark_threshold(drawn, known, threshold)
    drawn.update_xaxes(range=[0, 1.02], tickformat=".0%", title_text="records answered, the surest first")
    drawn.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return drawn


def _sureness(curve: pd.DataFrame) -> list[str]:
    """How sure a model is at rows of a curve: its confidence, or where nothing is known of that the bare score."""
    known = curve["confidence"] if "confidence" in curve else pd.Series(np.nan, curve.index)
    return [
        f"score {score:.4g}" if np.isnan(confidence) else confidence_in_words(confidence)
        for score, confidence in zip(curve["threshold"], known, strict=True)
    ]


def _mark_threshold(drawn: go.Figure, known: pd.DataFrame, threshold: float) -> None:
    """Mark the lowest score that is still answered; above all scores nothing is, and there is nothing to mark."""
    answered = known[known["threshold"] >= threshold]
    if len(answered):
        point = answered.nlargest(1, "answered")
        drawn.add_scatter(
            x=point["answered"].to_numpy(dtype=float), y=point["precision"].to_numpy(dtype=float), mode="markers",
            name=f"calibrated threshold, {_sureness(point)[0]}",
            marker={"symbol": "star", "size": 14, "color": WARM, "line": {"color": "#ffffff", "width": 1}},
            hovertemplate="%{y:.1%} right of the %{x:.1%} answered<extra></extra>",
        )  # fmt: skip


def nearness_plot(nearness: pd.DataFrame, predictions: pd.DataFrame) -> go.Figure:
    """Error of each record by the distance to its nearest training place, and the median in bins.

    Args:
        nearness: what `waymark.metrics.nearness.error_by_nearness` gave.
        predictions: columns `record_id`, `distance_km`, `nearest_train_km`; of more than 2000 rows evenly chosen ones
            are drawn.
    """
    known = predictions.dropna(subset=["distance_km", "nearest_train_km"]).sort_values(["distance_km", "record_id"])
    if known.empty or nearness.empty:
        return note_figure("No record has both an error and a training place.")
    known = thinned(known, _MOST_POINTS)
    drawn = figure(height=420)
    x, y = (np.maximum(known[name].to_numpy(dtype=float), _LEAST_KM) for name in ("nearest_train_km", "distance_km"))
    drawn.add_scatter(
        x=x, y=y, mode="markers", name="test record", marker={"size": 5, "color": LAND, "opacity": 0.7},
        text=[plain(name) for name in known["record_id"]],
        hovertemplate="%{text}<br>nearest training place %{x:,.2f} km<br>off by %{y:,.1f} km<extra></extra>",
    )  # fmt: skip
    median = nearness["median_km"].to_numpy(dtype=float)
    spread = {
        "array": nearness["high_km"].to_numpy(dtype=float) - median,
        "arrayminus": median - nearness["low_km"].to_numpy(dtype=float),
    }
    drawn.add_scatter(
        x=np.maximum(nearness["nearest_km"].to_numpy(dtype=float), _LEAST_KM), y=np.maximum(median, _LEAST_KM),
        mode="lines+markers", name="median of equally many", line={"color": colour(0), "width": 2}, marker={"size": 8},
        error_y={**spread, "thickness": 1.2, "width": 4},
        text=[f"{low:,.2f} to {high:,.2f} km, {count:,} records" for low, high, count in
              zip(nearness["nearest_low_km"], nearness["nearest_high_km"], nearness["records"], strict=True)],
        hovertemplate="%{text}<br>median error %{y:,.1f} km<extra></extra>",
    )  # fmt: skip
    for axis, values, title in (("x", x, "nearest training place, km"), ("y", y, "error, km")):
        ends = float(values.min()) / 1.5, float(values.max()) * 1.5
        update = drawn.update_xaxes if axis == "x" else drawn.update_yaxes
        update(type="log", range=np.log10(ends), title_text=title, **log_ticks(*ends))
    return drawn
