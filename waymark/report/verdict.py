"""What the figures of a comparison come to, in words: is the best model better than no model, and how sure is that?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from waymark.metrics.wilson import wilson_interval

ENOUGH = 50  # records, or groups of them, as promotion asks for
TITLES = {
    "places": {
        "yes": "{model} is better than always answering the same place",
        "unclear": "{model} may be no better than always answering the same place",
        "no": "{model} is worse than always answering the same place",
    },
    "landmarks": {
        "yes": "{model} names landmarks better than chance",
        "unclear": "{model} may name landmarks no better than chance",
        "no": "{model} names landmarks worse than chance",
    },
}

Ends = Sequence[float]
Outcome = Literal["yes", "unclear", "no"]


@dataclass(frozen=True)
class Verdict:
    """Of the best model for places, or for landmarks.

    Attributes:
        kind: `places` or `landmarks`.
        outcome: whether it is better than the answer that needs no model: `yes`, `no`, or `unclear`, where the 95 %
            interval holds both.
        title: that in a few words.
        sentences: by how much, over how many records, and whether these are enough to believe it.
    """

    kind: str
    outcome: Outcome
    title: str
    sentences: tuple[str, ...]


def verdicts(comparison: Mapping[str, Any]) -> list[Verdict]:
    """Judge the model that is best on val for places, and the one that is for landmarks.

    Args:
        comparison: what the stage `compare` found: `best_on_val`, `best_landmark_on_val`, `models`, `intervals` and
            `asked`.
    """
    judges = {"best_on_val": (_of_places, "mean_km"), "best_landmark_on_val": (_of_landmarks, "top1")}
    found = []
    for key, (judge, figure) in judges.items():
        if (model := comparison[key]) is not None:
            split = "test" if comparison["models"][model]["test"].get(figure) is not None else "val"
            found.append(judge(model, split, comparison))
    return found


def _of_places(model: str, split: str, comparison: Mapping[str, Any]) -> Verdict:
    figures, intervals = comparison["models"][model][split], comparison["intervals"][model]
    mean_km, constant_km = figures["mean_km"], figures["constant_mean_km"]
    ends = intervals[split].get("times_constant")
    outcome = _outcome(ends, 1.0, less_is_better=True)
    ratio = "no ratio" if not constant_km else f"{mean_km / constant_km:.2f} x constant{_interval(ends, _ratio)}"
    records = _counted(figures["records"], intervals[split].get("unit"), intervals[split].get("units"))
    return Verdict(
        "places",
        outcome,
        TITLES["places"][outcome].format(model=model),
        (
            f"Over {records} of {split} its answers are {in_km(mean_km)} off on average, and always the same place is"
            f" {in_km(constant_km)} off: {ratio}.",
            *_believable(
                comparison["models"][model],
                {name: intervals[name] for name in ("test", "val")},
                ("records", "unit", "units"),
                "records",
            ),
        ),
    )


def _of_landmarks(model: str, split: str, comparison: Mapping[str, Any]) -> Verdict:
    figures, intervals = comparison["models"][model][split], comparison["intervals"][model]
    asked = comparison["asked"][model][split]
    ends, chance = intervals[split].get("top1"), asked["chance_top1"]
    outcome = _outcome(ends or _of_hits(figures["top1"], figures["queries"]), chance, less_is_better=False)
    return Verdict(
        "landmarks",
        outcome,
        TITLES["landmarks"][outcome].format(model=model),
        (
            f"Of the {figures['queries']:,} {split} pictures that show a landmark, its first guess is right for"
            f" {in_per_cent(figures['top1'])}{_interval(ends, in_per_cent)}. The chance level, of always naming the"
            f" landmark with most training pictures, is {in_per_cent(chance)}.",
            _refusals(asked, split),
            *_believable(
                comparison["models"][model],
                {name: intervals[name] for name in ("test", "val")},
                ("queries", "landmark_unit", "landmark_units"),
                "pictures with a landmark",
            ),
        ),
    )


def _refusals(asked: Mapping[str, Any], split: str) -> str:
    """Word how many of all pictures it refuses, and how many of the names that it gives are right."""
    records, named, without = asked["records"], asked["named"], asked["without"]
    refused = records - named
    said = f"Asked about all {records:,} {split} pictures, of which {without:,} show no landmark, it "
    said += "never refuses" if not refused else f"refuses {refused:,} ({in_per_cent(refused / records)})"
    if not named:
        return f"{said} and names none."
    right = f"{asked['named_right']:,} of the {named:,} names that it gives are right"
    wrong = f", {asked['named_without']:,} stand on pictures without a landmark" if asked["named_without"] else ""
    return f"{said}; {right} ({in_per_cent(asked['named_right'] / named)}){wrong}."


def _believable(
    figures: Mapping[str, Any], intervals: Mapping[str, Any], keys: tuple[str, str, str], noun: str
) -> list[str]:
    """Word whether val and test are large enough; what is drawn together counts once."""
    count, unit, units = keys
    small = {}
    for split in ("val", "test"):
        records = figures[split].get(count) or 0
        own = intervals[split].get(units, records)
        if min(records, own) < ENOUGH:
            small[split] = f"{split} has {_counted(records, intervals[split].get(unit), own, noun)}"
    records = figures["val"].get(count) or 0
    if not small:
        return [f"Val has {records:,} {noun}, enough to believe the choice of the model."]
    return [
        f"That is too few to believe it: {' and '.join(small.values())}, and {ENOUGH} are wanted of each; bring more"
        " pictures, or give val and test a larger share (split.fractions)."
    ]


def _outcome(ends: Ends | None, bar: float | None, *, less_is_better: bool) -> Outcome:
    if ends is None or bar is None:
        return "unclear"
    below, above = ends[1] < bar, ends[0] > bar
    if below == above:
        return "unclear"
    return "yes" if below == less_is_better else "no"


def _of_hits(share: float, count: int) -> Ends:
    """Compute the interval of a share of 0 or 1, for which resampling has none."""
    low, high = wilson_interval(share, count)
    return float(low), float(high)


def _counted(records: int, unit: str | None, units: int | None, noun: str = "records") -> str:
    drawn = (
        f" in {units:,} {'group' if units == 1 else 'groups'}"
        if unit == "group" and units is not None and units < records
        else ""
    )
    return f"{records:,} {noun}{drawn}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _interval(ends: Ends | None, shown: Callable[[float], str]) -> str:
    return "" if ends is None else f" (95 % interval {shown(ends[0]).removesuffix(' %')} to {shown(ends[1])})"


def in_km(value: float | None) -> str:
    """Write a distance for people.

    >>> in_km(56.72), in_km(1234.5), in_km(0.0684), in_km(None)
    ('56.7 km', '1,234 km', '68 m', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"{1000 * value:.0f} m" if value < 1 else f"{value:,.{1 if value < 100 else 0}f} km"


def in_per_cent(value: float | None) -> str:
    """Write a share for people.

    >>> in_per_cent(0.897), in_per_cent(None)
    ('89.7 %', 'unknown')
    """
    return "unknown" if value is None else f"{100 * value:.1f} %"
