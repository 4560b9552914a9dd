"""Pages that open anywhere: one HTML file with its style, its script and its pictures inside."""

from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from waymark.report import counts, maps, plots
from waymark.report.content import Grid, Metrics, Model, Report
from waymark.report.tables import best_model, model_tables, shown, with_ratio

_FOLDER = Path(__file__).parent

_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,  # Plotly's own default is a button that sends the figure to its cloud
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "scrollZoom": False,
}


def map_page(drawn: go.Figure, *, title: str) -> str:
    """One figure as a page of its own that fills the window.

    Args:
        drawn: the figure; it is left as it is.
        title: heading of the page.

    Returns:
        HTML that loads nothing from elsewhere; the same bytes for the same figure.
    """
    tall = go.Figure(drawn).update_layout(height=None)
    return _environment().get_template("map.html").render(title=title, plot=_embedded(tall, "plot-map", height="100%"))


def report_page(report: Report) -> str:
    """The report as one page: models first, then each model, the data, the grids, and what the words mean.

    Returns:
        HTML that loads nothing from elsewhere; the same bytes for the same report.
    """
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            title=report.title,
            best=best_model(report.models),
            headline=_headline(report),
            tables=model_tables(report.models),
            comparison=_comparison(report),
            models=[_model_plots(report, model, f"model-{rank}") for rank, model in enumerate(report.models, start=1)],
            data=_data_plots(report),
            grids=[_grid(report, grid, f"grid-{rank}") for rank, grid in enumerate(report.grids, start=1)],
        )
    )


def _headline(report: Report) -> list[tuple[str, str, str]]:
    """Three figures of the best model for the top of the page: name, figure, and what it is held against."""
    best = best_model(report.models)
    if best is None:
        return []
    model = next(model for model in report.models if model.name == best)
    split = "test" if model.metrics.get("test", {}).get("mean_km") is not None else "val"
    figures: Metrics = with_ratio(model.metrics[split])
    return [
        (f"mean error on {split}", f"{shown(figures.get('mean_km'), 'km')} km", f"model {best}, best on val"),
        (
            "of the constant baseline",
            f"{shown(figures.get('times_constant'), 'ratio')} ×",
            f"always the same answer is off by {shown(figures.get('constant_mean_km'), 'km')} km",
        ),
        (
            "truth within the 90 % radius",
            shown(figures.get("coverage_90"), "share"),
            f"over {shown(figures.get('records'), 'count')} {split} records",
        ),
    ]


def _comparison(report: Report) -> dict[str, Markup]:
    """Plots that show all models together; those without anything to show are left out."""
    drawn: dict[str, Markup] = {}
    errors, constant = {}, np.empty(0)
    for model in report.models:
        test = model.predictions[model.predictions["split"] == "test"]
        if test["distance_km"].notna().any():
            errors[model.name] = test["distance_km"].to_numpy(dtype=float)
            constant = test["constant_km"].to_numpy(dtype=float) if not constant.size else constant
    if errors:
        drawn["distances"] = _embedded(plots.error_distribution(errors, constant), "plot-distances")
    metrics = {model.name: model.metrics for model in report.models}
    if any(figures.get(key) is not None for m in metrics.values() for figures in m.values() for key in plots.COVERAGES):
        drawn["coverage"] = _embedded(plots.coverage_plot(metrics), "plot-coverage")
    return drawn


def _model_plots(report: Report, model: Model, name: str) -> dict[str, Any]:
    """One model with its plots; a plot without anything to show is absent."""
    drawn: dict[str, Any] = {"content": model, "id": name}
    test = model.predictions[model.predictions["split"] == "test"]
    if (test["distance_km"].notna() & test["latitude"].notna()).any():
        drawn["map"] = _embedded(maps.error_map(test, report.region), f"plot-{name}-map")
    if (test["distance_km"].notna() & test["radius_90_km"].notna()).any():
        drawn["radius"] = _embedded(plots.radius_against_error(test), f"plot-{name}-radius")
    if model.curves is not None and len(model.curves):
        drawn["curves"] = _embedded(plots.learning_curves(model.curves), f"plot-{name}-curves")
    return drawn


def _data_plots(report: Report) -> dict[str, Markup]:
    data = report.data
    drawn: dict[str, Markup] = {}
    if data.splits:
        drawn["splits"] = _embedded(counts.split_counts(data.splits), "plot-splits", still=True)
    if data.dropped:
        drawn["dropped"] = _embedded(counts.dropped_reasons(data.dropped), "plot-dropped", still=True)
    if data.places is not None and data.places["latitude"].notna().any():
        drawn["places"] = _embedded(maps.split_map(data.places, report.region), "plot-places")
    if data.landmarks is not None and len(data.landmarks):
        drawn["landmarks"] = _embedded(counts.landmark_histogram(data.landmarks), "plot-landmarks")
    return drawn


def _grid(report: Report, grid: Grid, name: str) -> dict[str, Any]:
    filled = {cell for cell, count in grid.training_counts.items() if count > 0}
    facts = {
        "cells on the land": f"{len(grid.cells):,}",
        "cells with training records": f"{len(filled & set(grid.cells['cell'].tolist())):,}",
        "spacing": grid.spacing,
        "CRS": grid.crs,
        **{f"oracle floor, {split}": f"{shown(km, 'km')} km" for split, km in grid.oracle_mean_km.items()},
    }
    drawn: dict[str, Any] = {"content": grid, "facts": facts, "hidden": len(grid.cells) > maps.MOST_CELLS}
    if len(grid.cells) and (filled or not drawn["hidden"]):
        drawn["map"] = _embedded(maps.grid_map(grid.cells, grid.training_counts, report.region), f"plot-{name}")
    return drawn


def _embedded(drawn: go.Figure, div_id: str, *, height: str = "420px", still: bool = False) -> Markup:
    """A figure as HTML without Plotly's script, which stands in the head of the page once."""
    html = drawn.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=div_id,
        config={**_CONFIG, "staticPlot": still},
        default_height=height,
        validate=False,
    )
    return Markup(html)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Written by Plotly and by us, never by a user: the only text besides figures that is not escaped.
    environment.globals["plotly_script"] = Markup(get_plotlyjs())
    environment.globals["style"] = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    environment.filters["jpeg_uri"] = lambda jpeg: "data:image/jpeg;base64," + b64encode(jpeg).decode("ascii")
    environment.filters["shown"] = shown
    return environment
