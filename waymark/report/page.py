"""Pages that open anywhere: one HTML file with its style, its script and its pictures inside."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from waymark.report import certainty, choropleth, counts, maps, plots
from waymark.report.breakdowns import audit_table, gap_tables, pair_tables, place_table
from waymark.report.content import Gap, Grid, Metrics, Model, Report
from waymark.report.tables import best_model, model_tables, shown, shown_interval, with_ratio
from waymark.report.templates import embedded, template


def map_page(drawn: go.Figure, *, title: str) -> str:
    """One figure as a page of its own that fills the window.

    Args:
        drawn: the figure; it is left as it is.
        title: heading of the page.

    Returns:
        HTML that loads nothing from elsewhere; the same bytes for the same figure.
    """
    tall = go.Figure(drawn).update_layout(height=None)
    return template("map.html").render(title=title, plot=embedded(tall, "plot-map", height="100%"))


def report_page(report: Report) -> str:
    """The report as one page: models first, then each model, the data, the grids, and what the words mean.

    Returns:
        HTML that loads nothing from elsewhere; the same bytes for the same report.
    """
    return template("report.html").render(
        report=report,
        title=report.title,
        best=best_model(report.models),
        headline=_headline(report),
        tables=model_tables(report.models),
        comparison=_comparison(report),
        pairs=pair_tables([pair for pair in report.pairs if pair.split == "test"]),
        gaps=[_gap(gap, f"gap-{rank}") for rank, gap in enumerate(report.gaps, start=1)],
        shared=None if report.audit is None else audit_table(report.audit),
        models=[_model_plots(report, model, f"model-{rank}") for rank, model in enumerate(report.models, start=1)],
        data=_data_plots(report),
        grids=[_grid(report, grid, f"grid-{rank}") for rank, grid in enumerate(report.grids, start=1)],
    )


def _headline(report: Report) -> list[tuple[str, str, str]]:
    """Three figures of the best model for the top of the page: name, figure, and what it is held against."""
    best = best_model(report.models)
    if best is None:
        return []
    model = next(model for model in report.models if model.name == best)
    split = "test" if model.metrics.get("test", {}).get("mean_km") is not None else "val"
    figures: Metrics = with_ratio(model.metrics[split])
    intervals = model.intervals.get(split, {})

    def beside(key: str, kind: str, words: str) -> str:
        ends = shown_interval(intervals.get(key), kind)
        return f"95 % interval {ends}; {words}" if ends else words

    return [
        (
            f"mean error on {split}",
            f"{shown(figures.get('mean_km'), 'km')} km",
            beside("mean_km", "km", f"model {best}, best on val"),
        ),
        (
            "of the constant baseline",
            f"{shown(figures.get('times_constant'), 'ratio')} ×",
            beside(
                "times_constant",
                "ratio",
                f"always the same answer is off by {shown(figures.get('constant_mean_km'), 'km')} km",
            ),
        ),
        (
            "truth within the 90 % radius",
            shown(figures.get("coverage_90"), "share"),
            beside("coverage_90", "share", f"over {shown(figures.get('records'), 'count')} {split} records"),
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
        drawn["distances"] = embedded(plots.error_distribution(errors, constant), "plot-distances")
    metrics = {model.name: model.metrics for model in report.models}
    if any(figures.get(key) is not None for m in metrics.values() for figures in m.values() for key in plots.COVERAGES):
        drawn["coverage"] = embedded(plots.coverage_plot(metrics), "plot-coverage")
    return drawn


def _model_plots(report: Report, model: Model, name: str) -> dict[str, Any]:
    """One model with its plots; a plot without anything to show is absent."""
    drawn: dict[str, Any] = {"content": model, "id": name}
    test = model.predictions[model.predictions["split"] == "test"]
    if (test["distance_km"].notna() & test["latitude"].notna()).any():
        drawn["map"] = embedded(maps.error_map(test, report.region), f"plot-{name}-map")
    drawn |= _places(report, model, f"plot-{name}")
    if (test["distance_km"].notna() & test["radius_90_km"].notna()).any():
        drawn["radius"] = embedded(plots.radius_against_error(test), f"plot-{name}-radius")
    if model.reliability is not None:
        drawn["reliability"] = embedded(certainty.reliability_plot(model.reliability), f"plot-{name}-reliability")
    if model.radii is not None and len(model.radii):
        drawn["radii"] = embedded(certainty.radius_coverage_plot(model.radii), f"plot-{name}-radii")
    if model.risk is not None:
        drawn["risk"] = embedded(certainty.risk_coverage_plot(model.risk), f"plot-{name}-risk")
    if model.nearness is not None and len(model.nearness):
        drawn["nearness"] = embedded(certainty.nearness_plot(model.nearness, test), f"plot-{name}-nearness")
    if model.curves is not None and len(model.curves):
        drawn["curves"] = embedded(plots.learning_curves(model.curves), f"plot-{name}-curves")
    return drawn


def _places(report: Report, model: Model, name: str) -> dict[str, Any]:
    """Where a model errs: a map and a table of cells, a table of regions."""
    drawn: dict[str, Any] = {"tables": []}
    if model.by_cell is not None and len(model.by_cell):
        drawn["choropleth"] = embedded(choropleth.error_cells(model.by_cell, report.region), f"{name}-cells")
        drawn["tables"].append(place_table(model.by_cell, "cell", "Test records by their true cell, the worst first"))
    if model.by_region is not None and len(model.by_region):
        caption = "Test records by region, the worst first"
        drawn["tables"].append(place_table(model.by_region, "region", caption, most=40))
    return drawn


def _gap(gap: Gap, name: str) -> dict[str, Any]:
    sides = {"split of the run": gap.random, "block split": gap.blocks}
    drawn: dict[str, Any] = {"content": gap, "id": name, "tables": gap_tables(gap)}
    if all(len(side.errors_km) for side in sides.values()):
        errors = {label: side.errors_km for label, side in sides.items()}
        constant = {label: side.constant_km for label, side in sides.items()}
        drawn["distances"] = embedded(plots.split_distribution(errors, constant), f"plot-{name}")
    return drawn


def _data_plots(report: Report) -> dict[str, Markup]:
    data = report.data
    drawn: dict[str, Markup] = {}
    if data.splits:
        drawn["splits"] = embedded(counts.split_counts(data.splits), "plot-splits", still=True)
    if data.dropped:
        drawn["dropped"] = embedded(counts.dropped_reasons(data.dropped), "plot-dropped", still=True)
    if data.places is not None and data.places["latitude"].notna().any():
        drawn["places"] = embedded(maps.split_map(data.places, report.region), "plot-places")
    if data.landmarks is not None and len(data.landmarks):
        drawn["landmarks"] = embedded(counts.landmark_histogram(data.landmarks), "plot-landmarks")
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
        drawn["map"] = embedded(maps.grid_map(grid.cells, grid.training_counts, report.region), f"plot-{name}")
    return drawn
