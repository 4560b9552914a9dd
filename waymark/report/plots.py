"""Plots of how far off models are. Each takes numbers and returns a Plotly figure."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from waymark.metrics.wilson import wilson_interval
from waymark.report.theme import LAND, QUIET, WARM, colour, dash, figure, log_ticks, note_figure, plain, thinned

# Hays and Efros (2008), as Weyand et al. (2016) and most since name the thresholds of geolocation.
NAMED_DISTANCES_KM = {1: "street", 25: "city", 200: "region", 750: "country", 2500: "continent"}

# Nominal coverage by the key of `metrics.json` that says what was achieved.
COVERAGES = {"coverage_50": 0.5, "coverage_90": 0.9}

_MOST_POINTS = 5000

Figures = Mapping[str, float | int | None]


def error_distribution(errors_km: Mapping[str, npt.ArrayLike], constant_km: npt.ArrayLike | None = None) -> go.Figure:
    """Share of the records that each model places within a distance.

    Args:
        errors_km: distances in km, `(N,)` for each model; NaN where a record has no place.
        constant_km: distances of always answering the same place, `(N,)`; None leaves the baseline out.
    """
    lines = {model: _finite(errors) for model, errors in errors_km.items()}
    lines = {model: errors for model, errors in lines.items() if len(errors)}
    if not lines:
        return note_figure("No record with a place was answered.")
    drawn = figure(height=440)
    baseline = _finite(constant_km if constant_km is not None else [])
    if len(baseline):
        _add_share(drawn, "constant baseline", baseline, {"color": QUIET, "width": 1.5, "dash": "dash"})
    for index, (model, errors) in enumerate(lines.items()):
        _add_share(drawn, plain(model), errors, {"color": colour(index), "width": 2.5, "dash": dash(index)})
    return _over_distance(drawn)


def split_distribution(errors_km: Mapping[str, npt.ArrayLike], constant_km: Mapping[str, npt.ArrayLike]) -> go.Figure:
    """Share of the records within a distance of one model on several splits, each with its own constant baseline.

    Args:
        errors_km: distances in km, `(N,)` for each split; NaN where a record has no place.
        constant_km: distances of the constant baseline, by the same names.
    """
    lines = {name: (_finite(errors), _finite(constant_km[name])) for name, errors in errors_km.items()}
    lines = {name: pair for name, pair in lines.items() if all(map(len, pair))}
    if not lines:
        return note_figure("No record with a place was answered.")
    drawn = figure(height=400)
    for index, (name, (errors, constant)) in enumerate(lines.items()):
        _add_share(drawn, plain(name), errors, {"color": colour(index), "width": 2.5})
        line = {"color": colour(index), "width": 1.2, "dash": "dash"}
        _add_share(drawn, f"its constant baseline ({plain(name)})", constant, line)
    return _over_distance(drawn)


def _over_distance(drawn: go.Figure) -> go.Figure:
    """Name the distances and the axes of a plot of shares."""
    for distance_km, name in NAMED_DISTANCES_KM.items():
        drawn.add_vline(x=distance_km, line={"color": LAND, "width": 1, "dash": "dot"})
        side = "left" if distance_km == 1 else "right"
        drawn.add_annotation(
            {"x": np.log10(distance_km), "y": 1.0, "yref": "paper", "text": name, "showarrow": False},
            font={"size": 10, "color": QUIET}, xanchor=side, yanchor="bottom",
        )  # fmt: skip
    ticks = [1, 2, 5, 10, 25, 50, 100, 200, 750, 2500]
    drawn.update_xaxes(type="log", range=[0, np.log10(2500)], tickvals=ticks, title_text="distance, km")
    drawn.update_yaxes(range=[0, 1.01], tickformat=".0%", title_text="records within the distance")
    drawn.update_layout(legend={"y": 1.07}, hovermode="x unified")
    return drawn


def _add_share(drawn: go.Figure, name: str, errors: npt.NDArray[np.float64], line: dict[str, object]) -> None:
    # Rounded, so that the last bit of the CPU's exp does not reach the file.
    grid = np.unique(np.round(np.append(np.geomspace(1, 2500, 300), list(NAMED_DISTANCES_KM)), 3))
    share = np.searchsorted(np.sort(errors), grid, side="right") / len(errors)
    hover = f"{name}: %{{y:.1%}} within %{{x:.4~g}} km<extra></extra>"
    drawn.add_trace(go.Scatter(x=grid, y=share, mode="lines", name=name, line=line, hovertemplate=hover))


def coverage_plot(metrics: Mapping[str, Mapping[str, Figures]]) -> go.Figure:
    """How often the truth lies within the radius that a model gives, against how often it should.

    Args:
        metrics: figures by model, then by split; those without `coverage_50` and `coverage_90` are left out. The bars
            are 95 % intervals (Wilson, 1927) from the number of `records`.
    """
    rows = [(model, split, figures) for model, splits in metrics.items() for split, figures in _in_order(splits)]
    rows = [row for row in rows if any(row[2].get(key) is not None for key in COVERAGES)]
    if not rows:
        return note_figure("No model gives a radius.")
    rows.reverse()  # the first model on top
    labels = [f"{plain(model, longest=24)}, {plain(split)} (n = {f.get('records') or 0:,})" for model, split, f in rows]
    drawn = figure(height=150 + 44 * len(rows))
    for index, (key, nominal) in enumerate(COVERAGES.items()):
        known = [(y, row[2]) for y, row in enumerate(rows) if row[2].get(key) is not None]
        achieved = np.array([figures[key] for _, figures in known], dtype=float)
        counts = np.array([figures.get("records") or 0 for _, figures in known], dtype=float)
        low, high = wilson_interval(achieved, counts)
        drawn.add_vline(x=nominal, line={"color": colour(index), "width": 1, "dash": "dash"})
        drawn.add_scatter(
            x=achieved, y=[y for y, _ in known], mode="markers", name=f"{nominal:.0%} radius",
            marker={"size": 10, "color": colour(index)},
            error_x={"array": high - achieved, "arrayminus": achieved - low, "thickness": 1.2, "width": 4},
            text=[labels[y] for y, _ in known],
            hovertemplate=f"%{{text}}<br>{nominal:.0%} radius holds %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    drawn.update_xaxes(range=[0, 1.02], tickformat=".0%", title_text="records within the radius (dashed: as promised)")
    drawn.update_yaxes(tickvals=list(range(len(rows))), ticktext=labels, range=[-0.6, len(rows) - 0.4])
    return drawn


def _in_order(splits: Mapping[str, Figures]) -> list[tuple[str, Figures]]:
    """Test first, then val, then any other."""
    return sorted(splits.items(), key=lambda item: (item[0] != "test", item[0] != "val", item[0]))


def radius_against_error(predictions: pd.DataFrame) -> go.Figure:
    """The 90 % radius that a model gives against the distance it is off; above the line the radius holds the truth.

    Args:
        predictions: columns `record_id`, `distance_km`, `radius_90_km`; rows without both are left out, and of more
            than 5000 evenly chosen ones are drawn.
    """
    known = predictions.dropna(subset=["distance_km", "radius_90_km"]).sort_values(["distance_km", "record_id"])
    if known.empty:
        return note_figure("No record has both an error and a radius.")
    known = thinned(known, _MOST_POINTS)
    floor = 0.1
    error = known["distance_km"].to_numpy(dtype=float)
    radius = known["radius_90_km"].to_numpy(dtype=float)
    drawn = figure(height=440)
    top = float(max(error.max(), radius.max(), 1.0)) * 1.3
    drawn.add_scatter(x=[floor, top], y=[floor, top], mode="lines", line={"color": LAND}, hoverinfo="skip")
    drawn.update_traces(showlegend=False)
    for holds, name, tint in ((True, "truth within the radius", colour(0)), (False, "truth outside", WARM)):
        chosen = (error <= radius) == holds
        drawn.add_scatter(
            x=np.maximum(error[chosen], floor), y=np.maximum(radius[chosen], floor), mode="markers",
            name=f"{name} ({int(chosen.sum()):,})", marker={"size": 6, "color": tint, "opacity": 0.6},
            text=[plain(name) for name in known["record_id"][chosen]],
            customdata=np.stack([error[chosen], radius[chosen]], axis=1),
            hovertemplate="%{text}<br>off by %{customdata[0]:,.1f} km"
            "<br>90 % radius %{customdata[1]:,.1f} km<extra></extra>",
        )  # fmt: skip
    left, bottom = max(floor, float(error.min())) / 1.5, max(floor, float(radius.min())) / 2
    drawn.update_xaxes(type="log", range=np.log10([left, top]), title_text="error, km", **log_ticks(left, top))
    drawn.update_yaxes(type="log", range=np.log10([bottom, top]), title_text="90 % radius, km")
    drawn.update_yaxes(**log_ticks(bottom, top))
    return drawn


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, dtype=float)
    finite: npt.NDArray[np.float64] = numbers[np.isfinite(numbers)]
    return finite
