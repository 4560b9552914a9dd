"""The top of the page: the best models and their figures."""

from collections.abc import Sequence
from typing import NamedTuple

from waymark.report.content import Document, Metrics, Model
from waymark.report.digits import shown, shown_interval
from waymark.report.tables import best_model, with_ratio


class Headline(NamedTuple):
    """One figure: what it is, the figure, and what it is held against."""

    name: str
    value: str
    beside: str


def badges(models: Sequence[Model]) -> dict[str, list[str]]:
    """The badges of the best models, by name."""
    best = {"places": best_model(models, "mean_km"), "landmarks": best_model(models, "gap")}
    known = {kind: name for kind, name in best.items() if name is not None}
    words = {kind: f"best on val for {kind}" if len(known) > 1 else "best on val" for kind in known}
    return {model.name: [words[kind] for kind, name in known.items() if name == model.name] for model in models}


def headlines(models: Sequence[Model]) -> list[list[Headline]]:
    """Three figures of the best model for places, and three of the best one for landmarks."""
    by_name = {model.name: model for model in models}
    place, landmark = best_model(models, "mean_km"), best_model(models, "gap")
    found = []
    if place is not None:
        found.append(_of_places(by_name[place]))
    if landmark is not None:
        found.append(_of_landmarks(by_name[landmark]))
    return found


def _of_places(model: Model) -> list[Headline]:
    split, figures, intervals = _looked_at(model, "mean_km")
    figures = with_ratio(figures)
    constant = f"always the same answer is off by {shown(figures.get('constant_mean_km'), 'km')} km"
    return [
        Headline(
            f"mean error on {split}",
            f"{shown(figures.get('mean_km'), 'km')} km",
            _beside(intervals, "mean_km", "km", f"model {model.name}, best on val"),
        ),
        Headline(
            "of the constant baseline",
            f"{shown(figures.get('times_constant'), 'ratio')} ×",
            _beside(intervals, "times_constant", "ratio", constant),
        ),
        Headline(
            "truth within the 90 % radius",
            shown(figures.get("coverage_90"), "share"),
            _beside(intervals, "coverage_90", "share", _over(figures, split)),
        ),
    ]


def _over(figures: Metrics, split: str) -> str:
    if figures.get("coverage_90") is None:
        return "val has too few records to promise one"
    return f"over {shown(figures.get('records'), 'count')} {split} records"


def _of_landmarks(model: Model) -> list[Headline]:
    split, figures, intervals = _looked_at(model, "gap")
    asked = model.asked.get(split, {})
    queries = f"{shown(figures.get('queries'), 'count')} {split} pictures that show one"
    chance = f"chance level {shown(asked.get('chance_top1'), 'share')}"
    return [
        Headline(
            f"GAP on {split}",
            shown(figures.get("gap"), "score"),
            _beside(intervals, "gap", "score", f"model {model.name}, best on val"),
        ),
        Headline(
            "of the pictures with a landmark: the first guess is right",
            shown(figures.get("top1"), "share"),
            _beside(intervals, "top1", "share", f"{queries}; {chance}"),
        ),
        Headline(
            "of the names that it gives are right",
            shown(figures.get("precision"), "share"),
            _beside(intervals, "precision", "share", _named(figures, asked, split)),
        ),
    ]


def _named(figures: Metrics, asked: Metrics, split: str) -> str:
    """What it was asked, as far as known: the figures above it are over different pictures.

    >>> _named({"answered": 1.0}, {"records": 325, "named": 325, "without": 296}, "test")
    'it names a landmark on 325 of all 325 test pictures, 296 of which show none'
    """
    if not asked:
        return f"it names a landmark on {shown(figures.get('answered'), 'share')} of all {split} pictures"
    records, named, without = (shown(asked[name], "count") for name in ("records", "named", "without"))
    return f"it names a landmark on {named} of all {records} {split} pictures, {without} of which show none"


def _looked_at(model: Model, key: str) -> tuple[str, Metrics, Document]:
    """Test, or val where test has no such figure."""
    split = "test" if model.metrics.get("test", {}).get(key) is not None else "val"
    return split, model.metrics[split], model.intervals.get(split, {})


def _beside(intervals: Document, key: str, kind: str, words: str) -> str:
    ends = shown_interval(intervals.get(key), kind)
    return f"95 % interval {ends}; {words}" if ends else words
