"""Pages that open anywhere: one HTML file with its style, its script and its pictures inside."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from waymark.metrics.intervals import RESAMPLES
from waymark.report import certainty, choropleth, counts, learning, maps, plots
from waymark.report.breakdowns import block_split_tables, leakage_table, pair_tables, place_table
from waymark.report.content import BlockSplit, Model, Recognition, Report
from waymark.report.data import Grid
from waymark.report.digits import shown
from waymark.report.headline import badges, headlines
from waymark.report.landmark_tables import figures_of, largest_table, parts_table, sizes_table, splits_table
from waymark.report.tables import Table, model_tables
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
    tables = model_tables(report.models, report.ensembles)
    return template("report.html").render(
        report=report,
        title=report.title,
        resamples=RESAMPLES,
        badges=badges(report.models),
        headlines=headlines(report.models),
        tables=tables,
        words=_words(tables),
        comparison=_comparison(report),
        pairs=pair_tables([pair for pair in report.pairs if pair["split"] == "test"]),
        block_splits=[
            _block_split(split, f"block-split-{rank}") for rank, split in enumerate(report.block_splits, start=1)
        ],
        shared=None if report.leakage is None else leakage_table(report.leakage),
        models=[_model_plots(report, model, f"model-{rank}") for rank, model in enumerate(report.models, start=1)],
        data=_data_section(report),
        grids=[_grid(report, grid, f"grid-{rank}") for rank, grid in enumerate(report.grids, start=1)],
    )


def _words(tables: Sequence[Table]) -> dict[str, bool]:
    """Which figures the page explains: those of its tables, or all where it has none."""
    keys = {column.key for table in tables for column in table.columns}
    return {kind: not keys or key in keys for kind, key in (("places", "mean_km"), ("landmarks", "gap"))}


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
    places = any(figures.get("mean_km") is not None for figures in model.metrics.values())
    drawn: dict[str, Any] = {"content": model, "id": name, "places": places}
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
        drawn["curves"] = embedded(learning.learning_curves(model.curves), f"plot-{name}-curves")
    if model.recognition is not None:
        drawn["landmarks"] = _recognition(model, model.recognition, f"plot-{name}-precision")
    return drawn


def _recognition(model: Model, recognition: Recognition, name: str) -> dict[str, Any]:
    """How a model names landmarks: tables, and its precision as it answers more."""
    drawn: dict[str, Any] = {"figures": figures_of(model)}
    if recognition.parts is not None and len(recognition.parts):
        drawn["parts"] = parts_table(recognition.parts)
    if recognition.curve is not None and len(recognition.curve):
        drawn["precision"] = embedded(certainty.precision_plot(recognition.curve, recognition.threshold), name)
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


def _block_split(split: BlockSplit, name: str) -> dict[str, Any]:
    """A model on both splits: what divides them, tables, and how far off it is on each."""
    found = split.found
    facts = {
        "side of a block": f"{found['block_m'] / 1000:g} km",
        "buffer zone around val and test, excluded from training": f"{found['buffer_m'] / 1000:g} km",
        **{f"{part} records of the block split": f"{count:,}" for part, count in found["records"].items()},
        "squares that its test lies in": f"{found['blocks']['units']:,}",
    }
    drawn: dict[str, Any] = {"content": split, "id": name, "facts": facts, "tables": block_split_tables(split)}
    sides = {"split of the run": split.random, "block split": split.blocks}
    tests = {label: rows[(rows["split"] == "test") & rows["distance_km"].notna()] for label, rows in sides.items()}
    if all(len(rows) for rows in tests.values()):
        errors, constant = (
            {label: rows[column].to_numpy(dtype=float) for label, rows in tests.items()}
            for column in ("distance_km", "constant_km")
        )
        drawn["distances"] = embedded(plots.split_distribution(errors, constant), f"plot-{name}")
    return drawn


def _data_section(report: Report) -> dict[str, Any]:
    """The records and their pictures: plots, tables and facts; those without anything to show are absent."""
    data = report.data
    drawn: dict[str, Any] = {"tables": [], "facts": {}}
    if data.splits:
        drawn["splits"] = embedded(counts.split_counts(data.splits), "plot-splits", still=True)
    if data.dropped:
        drawn["dropped"] = embedded(counts.dropped_reasons(data.dropped), "plot-dropped", still=True)
    if any(data.orientations.values()):
        drawn["orientations"] = embedded(counts.orientation_counts(data.orientations), "plot-orientations", still=True)
    if data.sizes:
        drawn["sizes"] = sizes_table(data.sizes)
    if (middle := data.megapixels.get("q50")) is not None:
        low, high = (shown(data.megapixels.get(name), "number") for name in ("q10", "q90"))
        drawn["facts"]["megapixels"] = f"{shown(middle, 'number')}, four of five within {low}–{high}"
    if data.places is not None and data.places["latitude"].notna().any():
        drawn["places"] = embedded(maps.split_map(data.places, report.region), "plot-places")
    if data.landmarks is not None and len(data.landmarks):
        drawn["landmarks"] = embedded(counts.landmark_histogram(data.landmarks), "plot-landmarks")
        shares = {"10": data.share_over_10, "100": data.share_over_100}
        drawn["facts"] |= {
            "landmarks": f"{len(data.landmarks):,}",
            **{
                f"of them over {count} pictures": shown(share, "share")
                for count, share in shares.items()
                if share is not None
            },
        }
    if data.landmark_splits is not None and len(data.landmark_splits):
        drawn["tables"] = [splits_table(data.landmark_splits), largest_table(data.landmark_splits)]
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
