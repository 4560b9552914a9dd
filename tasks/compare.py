"""Compare the models, and draw the report that people look at."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass

from tasks.common.geography import Region
from tasks.common.kinds import Name
from tasks.common.outputs import whole_file, whole_folder, write_json
from tasks.common.stage import STRICT, Stage
from tasks.reporting.contents import block_split_of, report_of
from tasks.reporting.models import ENSEMBLES, ModelReader, ensembles_of
from tasks.training.ensembles import answers_of
from tasks.training.evaluation import Evaluate
from tasks.training.tables import RECORDS, SHARDS, SPLIT
from waymark.data.duplicates import Looks, looks_of
from waymark.data.leakage import audit
from waymark.errors import ParameterError, nearest_name
from waymark.geo.regions import load_region
from waymark.metrics.breakdown import named_regions
from waymark.metrics.figures import best_on_val
from waymark.metrics.intervals import paired_difference, paired_gap
from waymark.report.content import Ensemble, Model
from waymark.report.page import report_page
from waymark.report.verdict import verdicts

logger = logging.getLogger(__name__)

PAGE = Path("reports/index.html")
COMPARISON = Path("reports/compare.json")
DETAILS = Path("reports/details")
BEST = {"best_on_val": "mean_km", "best_landmark_on_val": "gap"}

Pairing = Callable[[pd.DataFrame, pd.DataFrame, "pd.Series[Any]"], dict[str, Any] | None]
Answers = Mapping[str, pd.DataFrame]  # predictions.parquet by name of the model or ensemble


@dataclass(frozen=True, config=STRICT)
class Compare:
    """The shared keys `region`, `models`, `ensembles`, `block_split` and `evaluate`.

    Args:
        region: whose outline the maps show.
        models: entries, by name.
        ensembles: entries, of which only the names matter here.
        block_split: names of the models that are tested on a block split, too.
        evaluate: how answers are summed up, and how many of them the report shows.
    """

    region: Region | None
    models: dict[Name, dict[str, Any]]
    ensembles: dict[Name, dict[str, Any]]
    block_split: dict[Name, Any]
    evaluate: Evaluate


def check(settings: Compare) -> None:
    """Refuse regions that cannot be read, and a block split of a model that does not exist or answers no places.

    Raises:
        RegionError: the regions of `evaluate` are no regions with names.
        ParameterError: block_split names no entry of models, or one that learns landmarks alone.
    """
    if settings.evaluate.regions is not None:
        named_regions(settings.evaluate.regions)
    for name in settings.block_split:
        if name not in settings.models:
            raise ParameterError(f"block_split.{name} names no model; {nearest_name(name, settings.models)}")
        if "places" not in answers_of(settings.models[name]):
            raise ParameterError(
                f"block_split.{name} is a model that answers no places, and a block split is one by place; take it out"
                " of block_split"
            )


SHARED = ("region", "models", "ensembles", "block_split", "evaluate")
STAGE = Stage("compare", Compare, section="", shared=SHARED, check=check)


def compare(settings: Compare) -> None:
    """Compare the models, and draw the report that people look at."""
    with whole_folder(DETAILS) as details:
        comparison, page = _comparison(settings, details)
    with whole_file(PAGE) as path:
        path.write_text(page)
    with whole_file(COMPARISON) as path:
        write_json(comparison, path)
    logger.info("best on val: %s for places, %s for landmarks", *(comparison[best] or "none" for best in BEST))


def _comparison(settings: Compare, details: Path) -> tuple[dict[str, Any], str]:
    """Write the details of each model, and return compare.json and the page."""
    region = None if settings.region is None else load_region(settings.region)
    reader = ModelReader(settings.evaluate, region, named_regions(settings.evaluate.regions))
    models = [reader.read(name, entry, _made(details / name)) for name, entry in settings.models.items()]
    ensembles, records = ensembles_of(), _records()
    groups = records.set_index("record_id")["group"]
    splits = [block_split_of(model, groups) for model in models if model.name in settings.block_split]
    leakage = audit(records, _looks(records))
    figures = _figures(models, ensembles)
    place, landmark = (figures[best] for best in BEST)
    answers = dict(_answers(models, ensembles))
    pairs = place_pairs(answers, place, groups)
    relevant = partial(paired_gap, relevant=settings.evaluate.relevant)
    comparison = {
        **figures,
        "certainty": {model.name: _certainty(model) for model in models},
        "pairs": pairs,
        "asked": {model.name: model.asked for model in models if model.asked},
        "landmark_pairs": landmark_pairs(answers, landmark, groups, relevant),
        "block_split": {split.model: split.found for split in splits},
        "leakage": leakage.document(),
    }
    report = replace(
        report_of(models, region),
        verdicts=verdicts(comparison),
        ensembles=ensembles,
        pairs=pairs,
        block_splits=splits,
        leakage=leakage,
    )
    return comparison, report_page(report)


def _figures(models: Sequence[Model], ensembles: Sequence[Ensemble]) -> dict[str, Any]:
    """Name the best models, and collect the figures of all; an ensemble is no model that could be registered."""
    figures = {model.name: model.metrics for model in models}
    return {
        **{best: best_on_val(figures, key) for best, key in BEST.items()},
        "table": [row for entry in (*models, *ensembles) for row in table_rows(entry)],
        "models": figures,
        "ensembles": {ensemble.name: ensemble.metrics for ensemble in ensembles},
        "size": {model.name: model.size for model in models},
        "intervals": {entry.name: entry.intervals for entry in (*models, *ensembles)},
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def table_rows(entry: Model | Ensemble) -> list[dict[str, Any]]:
    """Line up what models and ensembles are chosen by: one row for each split; null for what they lack."""
    kind, size = ("model", entry.size) if isinstance(entry, Model) else ("ensemble", {})
    return [
        {
            **{"name": entry.name, "kind": kind, "split": split},
            **{name: figures.get(name) for name in ("gap", "top1", "mean_km")},
            **{name: size.get(name) for name in ("parameters_millions", "checkpoint_mb", "gmacs")},
        }
        for split, figures in entry.metrics.items()
    ]


def _answers(models: Sequence[Model], ensembles: Sequence[Ensemble]) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from ((model.name, model.predictions) for model in models)
    for ensemble in ensembles:
        yield ensemble.name, pd.read_parquet(ENSEMBLES / ensemble.name / "predictions.parquet")


def place_pairs(answers: Answers, best: str | None, groups: "pd.Series[Any]") -> list[dict[str, Any]]:
    """Compare the mean errors of models and ensembles."""
    return compared({name: rows for name, rows in answers.items() if rows["distance_km"].notna().any()}, best, groups)


def landmark_pairs(
    answers: Answers, best: str | None, groups: "pd.Series[Any]", pairing: Pairing
) -> list[dict[str, Any]]:
    """Compare GAP and top-1 of models and ensembles."""
    named = {name: rows for name, rows in answers.items() if rows["best_landmark"].notna().any()}
    return compared(named, best, groups, pairing)


def compared(
    predictions: Answers, best: str | None, groups: "pd.Series[Any]", pairing: Pairing = paired_difference
) -> list[dict[str, Any]]:
    """Compare each model with the first and with the best on val, over the same records of test and val."""
    pairs = []
    for against in dict.fromkeys(name for name in (next(iter(predictions), None), best) if name is not None):
        for split in ("test", "val"):
            of_split = {name: rows[rows["split"] == split] for name, rows in predictions.items()}
            for name in predictions:
                found = pairing(of_split[name], of_split[against], groups) if name != against else None
                if found is not None:
                    kept = {key: value for key, value in found.items() if key != "unit"}
                    pairs.append({"model": name, "against": against, "split": split, **kept})
    return pairs


def _certainty(model: Model) -> dict[str, float | None]:
    """Sum up in figures how well a model knows what it does not know, on test."""
    areas = ("aurc_km", "random_km", "oracle_km")
    return {
        "expected_calibration_error": None if model.reliability is None else model.reliability.ece,
        **{name: None if model.risk is None else getattr(model.risk, name) for name in areas},
    }


def _records() -> pd.DataFrame:
    """Read place, group and split of every record."""
    records = pd.read_parquet(RECORDS, columns=["record_id", "latitude", "longitude", "group"])
    return records.merge(pd.read_parquet(SPLIT / "records.parquet", columns=["record_id", "split"]))


def _looks(records: pd.DataFrame) -> Looks:
    return looks_of(pq.read_table(SHARDS / "index.parquet"), records["record_id"].tolist())


if __name__ == "__main__":
    STAGE.main(compare)
