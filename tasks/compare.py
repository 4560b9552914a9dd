"""Set the models beside each other, in a report that people look at."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass

from tasks.common.geography import Region
from tasks.common.kinds import Name
from tasks.common.outputs import read_json, whole_file, write_json
from tasks.common.stage import STRICT, Stage
from tasks.reporting.contents import (
    DATA,
    REPORTS,
    audit_of,
    ensemble_folder,
    ensembles_of,
    folder_of,
    gap_of,
    model_of,
    on_blocks,
    predictions_on_blocks,
    report_of,
    squares_on_blocks,
)
from tasks.training.ensembles import answers_of
from waymark.data.duplicates import Looks, looks_of
from waymark.data.leakage import audit
from waymark.errors import ParameterError, nearest_name
from waymark.metrics.gap import split_gap
from waymark.metrics.intervals import paired_difference, paired_gap
from waymark.metrics.queries import Relevant
from waymark.report.content import Ensemble, Model, Pair
from waymark.report.page import report_page
from waymark.report.verdict import verdicts

logger = logging.getLogger(__name__)

BEST = ("best_on_val", "best_landmark_on_val")

Pairing = Callable[[pd.DataFrame, pd.DataFrame, "pd.Series[Any]"], dict[str, Any] | None]


@dataclass(frozen=True, config=STRICT)
class Compare:
    """The shared keys `region`, `models`, `ensembles`, `gap` and `evaluate`.

    Args:
        region: whose outline the maps show.
        models: entries, by name.
        ensembles: entries, of which only the names matter here.
        gap: names of the models that are tested on a block split, too.
        evaluate: of which `relevant` matters here: the queries that count.
    """

    region: Region | None
    models: dict[Name, dict[str, Any]]
    ensembles: dict[Name, dict[str, Any]]
    gap: dict[Name, Any]
    evaluate: dict[str, Any]

    @property
    def relevant(self) -> Relevant:
        """Which records with a landmark are queries."""
        return self.evaluate.get("relevant", "all")


def check(settings: Compare) -> None:
    """Refuse a block split of a model that there is not, or that answers no places.

    Raises:
        ParameterError: gap names no entry of models, or one that learns landmarks alone.
    """
    for name in settings.gap:
        if name not in settings.models:
            raise ParameterError(f"gap.{name} names no model; {nearest_name(name, settings.models)}")
        if "places" not in answers_of(settings.models[name]):
            raise ParameterError(
                f"gap.{name} is a model that answers no places, and a block split is one by place; take it out of gap"
            )


STAGE = Stage("compare", Compare, section="", shared=("region", "models", "ensembles", "gap", "evaluate"), check=check)


def compare(settings: Compare) -> None:
    """Set the models beside each other, in a report that people look at."""
    models = [model_of(name, entry, settings.relevant) for name, entry in settings.models.items()]
    ensembles = ensembles_of()
    records = _records()
    groups = records.set_index("record_id")["group"]
    pairs = place_pairs(models, ensembles, groups)
    gaps = {
        model.name: split_gap(
            model.predictions, predictions_on_blocks(model.name), groups, squares_on_blocks(model.name)
        )
        for model in models
        if model.name in settings.gap
    }
    leakage = audit(records, _looks(records))
    comparison = {
        **_figures(models, ensembles),
        "certainty": {model.name: _certainty(model) for model in models},
        "pairs": pairs,
        "asked": {its.name: its.asked for its in models if its.asked},
        "landmark_pairs": landmark_pairs(models, ensembles, groups, settings.relevant),
        "gap": {name: {**read_json(folder_of(on_blocks(name)) / "gap.json"), **gap} for name, gap in gaps.items()},
        "leakage": leakage.document(),
    }
    report = replace(
        report_of(models, settings.region),
        verdicts=verdicts(comparison),
        ensembles=ensembles,
        pairs=[Pair(**pair) for pair in pairs],
        gaps=[gap_of(model.name, model.predictions, gaps[model.name]) for model in models if model.name in gaps],
        audit=audit_of(leakage),
    )
    page = report_page(report)
    with whole_file(REPORTS / "index.html") as path:
        path.write_text(page)
    with whole_file(REPORTS / "compare.json") as path:
        write_json(comparison, path)
    logger.info("best on val: %s for places, %s for landmarks", *(comparison[best] or "none" for best in BEST))


def _figures(models: Sequence[Model], ensembles: Sequence[Ensemble]) -> dict[str, Any]:
    """Name the best models, and give the figures of all; an ensemble is no model that could be registered."""
    figures = {model.name: model.metrics for model in models}
    folders = [*(folder_of(model.name) for model in models), *(ensemble_folder(its.name) for its in ensembles)]
    return {
        "best_on_val": best_on_val(figures),
        "best_landmark_on_val": best_landmark_on_val(figures),
        "table": [row for its in (*models, *ensembles) for row in table_rows(its)],
        "models": figures,
        "ensembles": {its.name: its.metrics for its in ensembles},
        "size": {model.name: model.size for model in models},
        "intervals": {folder.name: read_json(folder / "intervals.json") for folder in folders},
    }


def table_rows(its: Model | Ensemble) -> list[dict[str, Any]]:
    """Put what models and ensembles are chosen by side by side: one row for each split; null for what they have not."""
    kind, size = ("model", its.size) if isinstance(its, Model) else ("ensemble", {})
    return [
        {
            **{"name": its.name, "kind": kind, "split": split},
            **{name: figures.get(name) for name in ("gap", "top1", "mean_km")},
            **{name: size.get(name) for name in ("parameters_millions", "checkpoint_mb", "gmacs")},
        }
        for split, figures in its.metrics.items()
    ]


def place_pairs(
    models: Sequence[Model], ensembles: Sequence[Ensemble], groups: "pd.Series[Any]"
) -> list[dict[str, Any]]:
    """Hold the mean errors of models and ensembles against each other."""
    placed = {name: rows for name, rows in _predictions(models, ensembles) if rows["distance_km"].notna().any()}
    return compared(placed, best_on_val({model.name: model.metrics for model in models}), groups)


def landmark_pairs(
    models: Sequence[Model], ensembles: Sequence[Ensemble], groups: "pd.Series[Any]", relevant: Relevant
) -> list[dict[str, Any]]:
    """Hold GAP and top-1 of models and ensembles against each other."""
    named = {name: rows for name, rows in _predictions(models, ensembles) if rows["best_landmark"].notna().any()}
    best = best_landmark_on_val({model.name: model.metrics for model in models})
    return compared(named, best, groups, partial(paired_gap, relevant=relevant))


def _predictions(models: Sequence[Model], ensembles: Sequence[Ensemble]) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from ((model.name, model.predictions) for model in models)
    yield from ((its.name, pd.read_parquet(ensemble_folder(its.name) / "predictions.parquet")) for its in ensembles)


def compared(
    predictions: Mapping[str, pd.DataFrame],
    best: str | None,
    groups: "pd.Series[Any]",
    pairing: Pairing = paired_difference,
) -> list[dict[str, Any]]:
    """Hold each model against the first and against the best on val, over the same records of test and val."""
    pairs = []
    for against in dict.fromkeys(name for name in (next(iter(predictions), None), best) if name is not None):
        for split in ("test", "val"):
            of_split = {name: its[its["split"] == split] for name, its in predictions.items()}
            for name in predictions:
                found = pairing(of_split[name], of_split[against], groups) if name != against else None
                if found is not None:
                    kept = {key: value for key, value in found.items() if key != "unit"}
                    pairs.append({"model": name, "against": against, "split": split, **kept})
    return pairs


def best_on_val(figures: Mapping[str, Any]) -> str | None:
    """Name the model with the smallest mean error on val; the first of equals."""
    known = {name: its["val"]["mean_km"] for name, its in figures.items() if its["val"].get("mean_km") is not None}
    return min(known, key=lambda name: known[name]) if known else None


def best_landmark_on_val(figures: Mapping[str, Any]) -> str | None:
    """Name the model with the highest GAP on val; the first of equals."""
    known = {name: its["val"]["gap"] for name, its in figures.items() if its["val"].get("gap") is not None}
    return max(known, key=lambda name: known[name]) if known else None


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


def _looks(records: pd.DataFrame) -> Looks:
    return looks_of(pq.read_table(DATA / "shards" / "index.parquet"), records["record_id"].tolist())


if __name__ == "__main__":
    STAGE.main(compare)
