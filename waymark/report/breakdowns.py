"""Tables that look closer: models against each other, errors by place, splits side by side."""

from collections.abc import Sequence

import pandas as pd

from waymark.data.leakage import Leakage
from waymark.report.content import BlockSplit, Document, Metrics
from waymark.report.digits import shown, shown_interval
from waymark.report.tables import Cell, Column, Row, Table, cells_of

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


COMPARED = (
    Column("records", "records", "count"),
    Column("difference_km", "difference of mean km", "km"),
    Column("ratio", "ratio of mean km", "ratio"),
    Column("judged", "with 95 % confidence", "words"),
)


def pair_tables(pairs: Sequence[Document]) -> list[Table]:
    """Tables of models over the same records, one for each model that others are compared with."""
    tables = []
    for against in dict.fromkeys(pair["against"] for pair in pairs):
        groups: dict[str, list[Row]] = {}
        for pair in pairs:
            if pair["against"] == against:
                figures = [_compared(pair["difference_km"], "km"), _compared(pair["ratio"], "ratio")]
                cells = [Cell(f"{pair['records']:,}"), *figures, Cell(_judged(pair["ratio"]))]
                groups.setdefault(pair["split"], []).append(Row(pair["model"], cells))
        tables.append(Table(f"Against {against}, over the same records", COMPARED, groups))
    return tables


def _compared(figure: Metrics, kind: str) -> Cell:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    sign = "+" if kind == "km" and value is not None and value > 0 else ""
    ends = None if low is None or high is None else (low, high)
    return Cell(f"{sign}{shown(value, kind)}", str(value), shown_interval(ends, kind))


def _judged(ratio: Metrics) -> str:
    low, high = ratio["low"], ratio["high"]
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
    rows = [
        Row(str(values[name]), cells_of(values, PLACES, {"mean_km": (values["mean_low_km"], values["mean_high_km"])}))
        for values in errors.head(most).to_dict("records")
    ]
    return Table(caption, PLACES, {"": rows} if rows else {}, rows=name, hidden=max(0, len(errors) - most))


def block_split_tables(split: BlockSplit) -> list[Table]:
    """A model on the split of the run and on a block split: its errors, and how near its test is to training."""
    sides = {"split of the run": split.found["random"], "block split": split.found["blocks"]}
    figures = [Row(name, cells_of(side, SIDES, side["intervals"])) for name, side in sides.items()]
    nearest = [Row(name, cells_of(side["nearest_train_km"], NEAREST)) for name, side in sides.items()]
    caption = "Distance from a test record to the nearest training place, km: so many lie nearer"
    return [
        Table(f"{split.model} on both splits", SIDES, {"": figures}, rows="tested on"),
        Table(caption, NEAREST, {"": nearest}, rows="tested on"),
    ]


def leakage_table(leakage: Leakage) -> Table:
    """What val and test share with training, in figures."""
    rows = [
        Row(name, cells_of({**figures, "nearest_km": figures.get("nearest_train_km", {}).get("q50_km")}, SHARED))
        for name, figures in leakage.splits.items()
    ]
    return Table("What the splits share with training", SHARED, {"": rows}, rows="split")
