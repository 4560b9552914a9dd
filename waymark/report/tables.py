"""Figures as people read them, and the tables that compare models by them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waymark.metrics.figures import WITHIN_KM, best_on_val
from waymark.report.content import Document, Ensemble, Metrics, Model
from waymark.report.digits import shown, shown_interval


@dataclass(frozen=True)
class Column:
    """One column: the key in `metrics.json`, its heading, and what kind of number it is."""

    key: str
    heading: str
    kind: str


@dataclass(frozen=True)
class Cell:
    """One number as it is shown, and as it was given; `beside` is small print below it."""

    text: str
    exact: str = ""
    beside: str = ""


@dataclass(frozen=True)
class Row:
    """One model, or one line to compare models with (`reference`); `note` is shown next to its name."""

    name: str
    cells: Sequence[Cell]
    reference: bool = False
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows by split below one heading.

    Attributes:
        caption: heading.
        columns: of the figures.
        groups: rows by split; the name of a group is left out where it is empty.
        rows: what a row is.
        hidden: how many more rows there are.
        folded: whether the page shows it only when asked.
        note: words below it.
    """

    caption: str
    columns: Sequence[Column]
    groups: Mapping[str, Sequence[Row]]
    rows: str = "model"
    hidden: int = 0
    folded: bool = False
    note: str = ""


DISTANCES = (
    Column("records", "records", "count"),
    Column("mean_km", "mean km", "km"),
    Column("times_constant", "× constant", "ratio"),
    Column("median_km", "median km", "km"),
    Column("p90_km", "p90 km", "km"),
    Column("geoscore", "geoscore", "count"),
    Column("cell_accuracy", "cell accuracy", "share"),
    Column("coverage_50", "in 50 % radius", "share"),
    Column("coverage_90", "in 90 % radius", "share"),
)
SHARES = tuple(Column(f"within_{limit}km", f"{limit:,} km", "share") for limit in WITHIN_KM)
LANDMARKS = (
    Column("gap", "GAP", "score"),
    Column("top1", "top 1", "share"),
    Column("top5", "top 5", "share"),
    Column("answered", "answered", "share"),
    Column("precision", "precision", "share"),
    Column("queries", "queries", "count"),
)
SIZE = (
    Column("parameters_millions", "million parameters", "number"),
    Column("checkpoint_mb", "MB", "number"),
    Column("gmacs", "GMACs per record", "number"),
)
RELEVANT = {
    "all": "Queries are all records with a landmark, whether training knows it or not.",
    "known": "Queries are the records whose landmark is known to training.",
}


def best_model(models: Iterable[Model], key: str) -> str | None:
    """Name the model that is best on val by `mean_km` or `gap`; None where none has it."""
    return best_on_val({model.name: model.metrics for model in models}, key)


def model_tables(models: Sequence[Model], ensembles: Sequence[Ensemble] = ()) -> list[Table]:
    """The tables of distances, of shares within distances and of landmarks; those without any figure are left out."""
    tables = [place_figures(models, ensembles), place_shares(models, ensembles), landmark_figures(models, ensembles)]
    return [table for table in tables if any(table.groups.values())]


def place_figures(models: Sequence[Model], ensembles: Sequence[Ensemble] = ()) -> Table:
    """How far off the models are, next to always the same answer and always the right cell."""
    groups = _groups([*models, *ensembles], DISTANCES, best_model(models, "mean_km"))
    return Table(
        "Distance to the truth, and how well the models know it",
        DISTANCES,
        {split: [*rows, *_references(models, split, DISTANCES)] for split, rows in groups.items()},
    )


def place_shares(models: Sequence[Model], ensembles: Sequence[Ensemble] = ()) -> Table:
    """How many records the models place within a distance."""
    groups = _groups([*models, *ensembles], SHARES, best_model(models, "mean_km"))
    return Table("Share of records placed within a distance", SHARES, groups, folded=True)


def landmark_figures(models: Sequence[Model], ensembles: Sequence[Ensemble] = ()) -> Table:
    """How well the models name landmarks, how large they are, and which queries count."""
    named = [model for model in models if _any_figure(model, LANDMARKS)]
    sized = tuple(column for column in SIZE if any(model.size.get(column.key) is not None for model in named))
    relevant = dict.fromkeys(model.recognition.relevant for model in named if model.recognition is not None)
    return Table(
        "Landmarks",
        (*LANDMARKS, *sized),
        _groups([*named, *ensembles], LANDMARKS, best_model(named, "gap"), sized),
        note=" ".join(RELEVANT[kind] for kind in relevant),
    )


def _any_figure(entry: Model | Ensemble, columns: Sequence[Column]) -> bool:
    return any(figures.get(column.key) is not None for figures in entry.metrics.values() for column in columns)


def _groups(
    entries: Sequence[Model | Ensemble], columns: Sequence[Column], best: str | None, sized: Sequence[Column] = ()
) -> dict[str, list[Row]]:
    """Rows by split, of those that have any figure of the columns there."""
    groups: dict[str, list[Row]] = {}
    for split in _splits(entries):
        for entry in entries:
            figures = with_ratio(entry.metrics.get(split, {}))
            if any(
                figures.get(column.key) is not None for column in columns if column.key not in ("records", "queries")
            ):
                size, note = (entry.size, "") if isinstance(entry, Model) else ({}, _of_models(entry))
                cells = cells_of({**figures, **size}, [*columns, *sized], entry.intervals.get(split, {}))
                row = Row(entry.name, cells, best=isinstance(entry, Model) and entry.name == best, note=note)
                groups.setdefault(split, []).append(row)
    return groups


def _of_models(ensemble: Ensemble) -> str:
    """List what an ensemble is made of.

    >>> _of_models(Ensemble("both", ["a", "b"], {}, weights=[1, 2]))
    'ensemble of a (1), b (2)'
    """
    weights = (
        [""] * len(ensemble.models) if ensemble.weights is None else [f" ({weight:g})" for weight in ensemble.weights]
    )
    return "ensemble of " + ", ".join(f"{name}{weight}" for name, weight in zip(ensemble.models, weights, strict=True))


def with_ratio(figures: Metrics) -> dict[str, float | int | None]:
    """Figures with `times_constant`, the mean error as a multiple of the constant baseline's."""
    mean, constant = figures.get("mean_km"), figures.get("constant_mean_km")
    return {**figures, "times_constant": mean / constant if mean is not None and constant else None}


def _references(models: Sequence[Model], split: str, columns: Sequence[Column]) -> list[Row]:
    """Constant baseline and oracle floor: one row for each value, with its models' names where there are several."""
    rows = []
    for key, label in (("constant_mean_km", "constant baseline"), ("oracle_mean_km", "oracle floor")):
        owners: dict[str, list[str]] = {}
        values: dict[str, Metrics] = {}
        for model in models:
            figures = model.metrics.get(split, {})
            value = figures.get(key)
            if value is None:
                continue
            text = f"{value:.6g}"
            owners.setdefault(text, []).append(model.name)
            constant = {"mean_km": value, "constant_mean_km": figures.get("constant_mean_km")}
            values.setdefault(text, with_ratio(constant))
        for text, names in owners.items():
            name = label if len(owners) == 1 else f"{label} ({', '.join(names)})"
            rows.append(Row(name, cells_of(values[text], columns), reference=True))
    return rows


def cells_of(figures: Mapping[Any, Any], columns: Sequence[Column], intervals: Document | None = None) -> list[Cell]:
    """The figures of the columns, with their intervals."""
    return [
        Cell(
            shown(value, column.kind),
            "" if value is None else str(value),
            shown_interval((intervals or {}).get(column.key), column.kind),
        )
        for column in columns
        for value in [figures.get(column.key)]
    ]


def _splits(entries: Sequence[Model | Ensemble]) -> list[str]:
    known = {split for entry in entries for split in entry.metrics}
    return [split for split in ("test", "val") if split in known] + sorted(known - {"test", "val"})
