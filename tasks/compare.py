"""Set the models beside each other, in a report that people look at."""

import logging
import shutil
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from pydantic.dataclasses import dataclass

from tasks.contents import (
    DATA,
    REPORTS,
    audit_of,
    folder_of,
    gap_of,
    model_of,
    on_blocks,
    predictions_on_blocks,
    report_of,
    squares_on_blocks,
)
from tasks.outputs import read_json, whole_file, write_json
from tasks.stage import STRICT, Stage
from waymark.errors import ParameterError, nearest_name
from waymark.leakage import audit
from waymark.metrics.gap import split_gap
from waymark.metrics.intervals import paired_difference
from waymark.report.content import Model, Pair
from waymark.report.page import report_page

logger = logging.getLogger(__name__)


@dataclass(frozen=True, config=STRICT)
class Compare:
    """The shared keys `region`, `models` and `gap`, of which only the names matter here.

    Args:
        region: whose outline the maps show.
        models: entries, by name.
        gap: names of the models that are tested on a block split, too.
    """

    region: str | None
    models: dict[str, dict[str, Any]]
    gap: dict[str, Any]


def check(settings: Compare) -> None:
    """Refuse a block split of a model that there is not.

    Raises:
        ParameterError: gap names no entry of models.
    """
    for name in settings.gap:
        if name not in settings.models:
            raise ParameterError(f"params.yaml: gap.{name} names no model; {nearest_name(name, settings.models)}")


STAGE = Stage("compare", Compare, section="", shared=("region", "models", "gap"), check=check)


def compare(settings: Compare) -> None:
    """Set the models beside each other, in a report that people look at."""
    remove_leftovers({*settings.models, *map(on_blocks, settings.gap)})
    models = [model_of(name, entry) for name, entry in settings.models.items()]
    figures = {model.name: model.metrics for model in models}
    records = _records()
    groups = records.set_index("record_id")["group"]
    predictions = {model.name: model.predictions for model in models}
    pairs = compared(predictions, best_on_val(figures), groups)
    gaps = {
        name: split_gap(predictions[name], predictions_on_blocks(name), groups, squares_on_blocks(name))
        for name in settings.gap
    }
    leakage = audit(records, _pictures())
    comparison = {
        "best_on_val": best_on_val(figures),
        "models": figures,
        "intervals": {name: read_json(folder_of(name) / "intervals.json") for name in settings.models},
        "certainty": {model.name: _certainty(model) for model in models},
        "pairs": pairs,
        "gap": {name: {**read_json(folder_of(on_blocks(name)) / "gap.json"), **gap} for name, gap in gaps.items()},
        "leakage": leakage.document(),
    }
    report = replace(
        report_of(models, settings.region),
        pairs=[Pair(**pair) for pair in pairs],
        gaps=[gap_of(name, predictions[name], gap) for name, gap in gaps.items()],
        audit=audit_of(leakage),
    )
    page = report_page(report)
    with whole_file(REPORTS / "index.html") as path:
        path.write_text(page)
    with whole_file(REPORTS / "compare.json") as path:
        write_json(comparison, path)
    logger.info("best on val: %s", comparison["best_on_val"])


def remove_leftovers(names: Container[str]) -> None:
    """Remove the reports of models that are no entries any more, and of block splits that nobody asks for.

    DVC leaves them lying (its cache keeps them, too), and the hash of `reports/models`, on which
    this stage depends, would differ from that of a checkout that never had them.
    """
    for folder in sorted((REPORTS / "models").glob("*/")):
        if folder.name not in names:
            shutil.rmtree(folder)


def compared(
    predictions: Mapping[str, pd.DataFrame], best: str | None, groups: "pd.Series[Any]"
) -> list[dict[str, Any]]:
    """Hold each model against the first and against the best on val, over the same records of test and val."""
    pairs = []
    for against in dict.fromkeys(name for name in (next(iter(predictions), None), best) if name is not None):
        for split in ("test", "val"):
            of_split = {name: its[its["split"] == split] for name, its in predictions.items()}
            for name in predictions:
                found = paired_difference(of_split[name], of_split[against], groups) if name != against else None
                if found is not None:
                    kept = {key: found[key] for key in ("records", "difference_km", "ratio")}
                    pairs.append({"model": name, "against": against, "split": split, **kept})
    return pairs


def best_on_val(figures: dict[str, Any]) -> str | None:
    """Name the model with the smallest mean error on val; the first of equals."""
    known = {name: its["val"]["mean_km"] for name, its in figures.items() if its["val"].get("mean_km") is not None}
    return min(known, key=lambda name: known[name]) if known else None


def _certainty(model: Model) -> dict[str, float | None]:
    """Sum up in figures how well a model knows what it does not know, on test."""
    areas = ("aurc_km", "random_km", "oracle_km")
    return {
        "expected_calibration_error": None if model.reliability is None else model.reliability.ece,
        **{name: None if model.risk is None else getattr(model.risk, name) for name in areas},
    }


def _records() -> pd.DataFrame:
    """Read place, group and split of every record."""
    columns = ["record_id", "latitude", "longitude", "group"]
    records = pd.read_parquet(DATA / "filtered" / "records.parquet", columns=columns)
    return records.merge(pd.read_parquet(DATA / "split" / "records.parquet", columns=["record_id", "split"]))


def _pictures() -> pd.DataFrame:
    index = pd.read_parquet(DATA / "shards" / "index.parquet", columns=["record_id", "status", "perceptual_hash"])
    return index[index["status"] == "ok"]


if __name__ == "__main__":
    STAGE.main(compare)
