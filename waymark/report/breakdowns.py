"""Tables that look closer: models against each other, errors by place, splits side by side."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from waymark.report.content import Audit, Gap, Metrics, Pair, Side
from waymark.report.tables import Cell, Column, Row, Table, shown, shown_interval

MOST_ROWS = 12

PLACES = (
    Column("records", "records", "count"),
    Column("mean_km", "mean km", "km"),
    Column("median_km", "median km", "km"),
)
SIDES = (
    Column("records", "test records", "count"),
    Column("mean_km", "mean km", "km"),
    Column("median_km", "median km", "km"),
    Column("constant_mean_km", "constant baseline, km", "km"),
    Column("times_constant", "× constant", "ratio"),
)
NEAREST = (
    Column("q05_km", "5 %", "km"),
    Column("q25_km", "25 %", "km"),
    Column("q50_km", "half", "km"),
    Column("q75_km", "75 %", "km"),
    Column("q95_km", "95 %", "km"),
)
SHARED = (
    Column("records", "records", "count"),
    Column("nearest_km", "nearest training place (median), km", "km"),
    Column("within_10m", "within 10 m", "share"),
    Column("within_100m", "within 100 m", "share"),
    Column("within_1000m", "within 1 km", "share"),
    Column("same_place", "at the same coordinates", "count"),
    Column("in_shared_groups", "in a group split apart", "count"),
    Column("shared_groups", "groups split apart", "count"),
    Column("near_duplicates", "look like one of training", "count"),
    Column("training_copies", "training records that look so", "count"),
)


def pair_tables(pairs: Sequence[Pair]) -> list[Table]:
    """Models against another over the same records, one table for each that others are held against."""
    tables = []
    for against in dict.fromkeys(pair.against for pair in pairs):
        groups: dict[str, list[Row]] = {}
        for pair in pairs:
            if pair.against == against:
                cells = [_compared(pair.difference_km, "km"), _compared(pair.ratio, "ratio"), Cell(_judged(pair))]
                groups.setdefault(pair.split, []).append(Row(pair.model, [Cell(f"{pair.records:,}"), *cells]))
        columns = [
            Column("records", "records", "count"),
            Column("difference_km", "difference of mean km", "km"),
            Column("ratio", "ratio of mean km", "ratio"),
            Column("judged", "with 95 % confidence", "words"),
        ]
        tables.append(Table(f"Against {against}, over the same records", columns, groups))
    return tables


def _compared(figure: Metrics, kind: str) -> Cell:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    sign = "+" if kind == "km" and value is not None and value > 0 else ""
    ends = None if low is None or high is None else (low, high)
    return Cell(f"{sign}{shown(value, kind)}", str(value), shown_interval(ends, kind))


def _judged(pair: Pair) -> str:
    low, high = pair.ratio["low"], pair.ratio["high"]
    if low is None or high is None or low <= 1 <= high:
        return "no clear difference"
    return "nearer" if high < 1 else "farther off"


def place_table(errors: pd.DataFrame, name: str, caption: str, *, most: int = MOST_ROWS) -> Table:
    """Errors by cell or region, the worst mean first.

    Args:
        errors: what `waymark.metrics.breakdown.errors_by` gave for one split.
        name: column of the cell or region, and what a row is.
        caption: heading.
        most: rows that are shown.
    """
    rows = [_place_row(values, name) for values in errors.head(most).to_dict("records")]
    return Table(caption, PLACES, {"": rows} if rows else {}, rows=name, hidden=max(0, len(errors) - most))


def _place_row(values: dict[Any, Any], name: str) -> Row:
    ends = (values["mean_low_km"], values["mean_high_km"])
    beside = {"mean_km": shown_interval(ends, "km")}
    cells = [Cell(shown(values[its.key], its.kind), str(values[its.key]), beside.get(its.key, "")) for its in PLACES]
    return Row(str(values[name]), cells)


def gap_tables(gap: Gap) -> list[Table]:
    """A model on the split of the run and on a block split: its errors, and how near its test is to training."""
    sides = {"split of the run": gap.random, "block split": gap.blocks}
    return [
        Table(
            f"{gap.model} on both splits",
            SIDES,
            {"": [Row(name, _side(side)) for name, side in sides.items()]},
            rows="tested on",
        ),
        Table(
            "Distance from a test record to the nearest training place, km: so many lie nearer",
            NEAREST,
            {"": [Row(name, _figures(side.nearest_train_km, NEAREST)) for name, side in sides.items()]},
            rows="tested on",
        ),
    ]


def _side(side: Side) -> list[Cell]:
    return [
        Cell(shown(value, its.kind), "" if value is None else str(value),
             shown_interval(side.intervals.get(its.key), its.kind))
        for its in SIDES
        for value in [side.figures.get(its.key)]
    ]  # fmt: skip


def audit_table(audit: Audit) -> Table:
    """What val and test share with training, in figures."""
    rows = [Row(split, _figures(figures, SHARED)) for split, figures in audit.splits.items()]
    return Table("What the splits share with training", SHARED, {"": rows}, rows="split")


def _figures(figures: Metrics, columns: Sequence[Column]) -> list[Cell]:
    values = [(figures.get(its.key), its.kind) for its in columns]
    return [Cell(shown(value, kind), "" if value is None else str(value)) for value, kind in values]
