"""What a challenger must show to take the champion's place: checks that it must pass, each with its figures.

Imports nothing at first that takes long: a form and `--help` show the fields of `Gate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

Question = Literal["places", "landmarks"]
EXAMPLES = 5


def _field(default: Any, description: str, **bounds: float) -> Any:
    """Describe a field of a form, and what it takes."""
    return field(default=default, metadata={"description": description, **bounds})


@dataclass(frozen=True)
class Gate:
    """What a challenger must show before it takes the champion's place."""

    least_records: int = _field(
        50,
        "Records that both models must be scored on at least: of places those with coordinates, of landmarks those"
        " that show one.",
        ge=2,
    )
    confidence: float = _field(0.95, "Share of the bootstrap resamples between the ends of an interval.", gt=0, lt=1)
    resamples: int = _field(1000, "Bootstrap resamples.", ge=100)
    seed: int = _field(1, "Seed of the resamples.")
    margin: float = _field(
        0.0,
        "How much better the challenger must be, as a share of the champion's mean error or GAP: 0.02 for 2 %.",
        ge=0,
    )
    largest_slice_loss: float = _field(
        0.25,
        "How much worse it may be in any region or class group, as a share of the champion's figure there, where that"
        " is more than chance.",
        ge=0,
    )
    least_slice: int = _field(10, "Records of a region or class group below which it is not judged.", ge=2)
    latency_s: float = _field(2.0, "Longest time in seconds that the challenger may take for a record.", gt=0)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the check.
        passed: whether the challenger may go on.
        line: what was found, for people.
        figures: the numbers behind it, as JSON takes them.
    """

    name: str
    passed: bool
    line: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger is promoted, why in one line, and each check."""

    promoted: bool
    reason: str
    checks: tuple[Check, ...]


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Promote where every check is passed; the reason is what failed, or else what the challenger does better."""
    failed = [check for check in checks if not check.passed]
    reasons = failed or [check for check in checks if check.name == "better"] or checks
    return Verdict(not failed, "; ".join(check.line for check in reasons), tuple(checks))


def check_leaks(seen: pd.DataFrame) -> Check:
    """Refuse a challenger that has seen its own test.

    A record of val that only looks like one of test is no leak, since splits promise that of train alone; it is left
    out of the scoring.

    Args:
        seen: what `waymark.data.overlap.overlap` found of the challenger.
    """
    leaks = seen[(seen["way"] != "picture") | (seen["split"] == "train")]
    counts = {str(way): int(count) for way, count in leaks["way"].value_counts().items()}
    examples = [
        f"{leak.record_id} (by {leak.way}: {leak.seen_record_id} of {leak.split})"
        for leak in leaks.head(EXAMPLES).itertuples()
    ]
    figures = {"records": len(leaks), **counts, "examples": examples}
    if not len(leaks):
        return Check("leaks", True, "it has seen none of its test records", figures)
    ways = ", ".join(f"{count} by {way}" for way, count in counts.items())
    line = (
        f"it leaks: {len(leaks)} of its own test records were trained or calibrated on ({ways}), such as"
        f" {', '.join(examples[:3])}; fix the split and train again"
    )
    return Check("leaks", False, line, figures)


def check_records(counted: int, left_out: dict[str, int], gate: Gate) -> Check:
    """Refuse to judge by too few records.

    Args:
        counted: records that are left to judge by.
        left_out: how many were not, by the reason.
        gate: with `least_records`.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    line = f"{counted} test records are left that neither has seen" + (f" (left out: {reasons})" if reasons else "")
    passed = counted >= gate.least_records
    if not passed:
        line += f", fewer than {gate.least_records}; add data, raise the test fraction, or lower least_records"
    return Check("records", passed, line, {"records": counted, "left_out": left_out})


def check_better(
    question: Question, challenger: pd.DataFrame, champion: pd.DataFrame, groups: "pd.Series[Any]", gate: Gate
) -> Check:
    """Ask whether the challenger is better beyond chance: a paired bootstrap over the same records.

    Args:
        question: what is asked; mean error decides of places, GAP of landmarks.
        challenger: its answers, columns as in predictions.parquet, of the same records as the champion's.
        champion: its answers.
        groups: group by record_id, null for a record that stands alone; groups are drawn whole.
        gate: how sure one wants to be.
    """
    pair = _pair(question, challenger, champion, groups, gate)
    ours, theirs = (_figure(question, rows) for rows in (challenger, champion))
    figures = {"question": question, "challenger": ours, "champion": theirs, "margin": gate.margin, **(pair or {})}
    figures["confidence"] = gate.confidence
    against = _against(question, ours, theirs)
    if pair is None or pair["low"] is None or ours is None or theirs is None:
        return Check("better", False, f"nothing can be shown: {against}, and too few records or groups", figures)
    wanted = gate.margin * theirs
    passed = pair["high"] < -wanted if question == "places" else pair["low"] > wanted
    found = (
        f"{against} on {pair['records']} records, difference {_change(question, pair['value'])}"
        f" ({_change(question, pair['low'])} to {_change(question, pair['high'])} at {gate.confidence:.0%})"
    )
    by = f" by {gate.margin:.1%}" if gate.margin else ""
    return Check("better", bool(passed), found if passed else f"it is not shown to be better{by}: {found}", figures)


def check_slices(
    question: Question,
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    groups: "pd.Series[Any]",
    slices: "pd.Series[Any]",
    gate: Gate,
) -> Check:
    """Refuse a challenger that pays for a better mean with a region or class group.

    One fails where it loses more than `largest_slice_loss` and the interval of its loss leaves out zero: in a few
    records, chance alone loses a quarter.

    Args:
        question: see `check_better`, as for the other arguments.
        challenger: its answers.
        champion: its answers.
        groups: by record_id.
        slices: name of the slice by record_id, null for a record in none.
        gate: with `least_slice` and `largest_slice_loss`.
    """
    table = []
    name_of = challenger["record_id"].map(slices).set_axis(challenger["record_id"])
    for name in sorted(name_of.dropna().unique()):
        ids = set(name_of.index[name_of == name])
        pair = [rows[rows["record_id"].isin(ids)] for rows in (challenger, champion)]
        if len(pair[0]) >= gate.least_slice:
            table.append({"slice": str(name), **_slice(question, pair[0], pair[1], groups, gate)})
    failed = [row for row in table if row["failed"]]
    line = f"no region or class group of {len(table)} loses more than {gate.largest_slice_loss:.0%}"
    if failed:
        worst = ", ".join(
            f"{row['slice']} ({_against(question, row['challenger'], row['champion'])} on {row['records']} records)"
            for row in failed
        )
        line = f"it loses more than {gate.largest_slice_loss:.0%} in {worst}"
    return Check("slices", not failed, line, {"slices": table, "largest_slice_loss": gate.largest_slice_loss})


def _slice(
    question: Question, challenger: pd.DataFrame, champion: pd.DataFrame, groups: "pd.Series[Any]", gate: Gate
) -> dict[str, Any]:
    ours, theirs = (_figure(question, rows) for rows in (challenger, champion))
    pair = _pair(question, challenger, champion, groups, gate) or {"low": None, "high": None}
    row = {"records": len(challenger), "challenger": ours, "champion": theirs, "loss": None, "failed": False}
    if ours is None or theirs is None:
        return {**row, "low": None, "high": None}
    sign = 1 if question == "places" else -1  # a higher error is a loss, as is a lower GAP
    lost = sign * (ours - theirs)
    ends = sorted(sign * end for end in (pair["low"], pair["high"]) if end is not None)
    beyond_chance = not ends or ends[0] > 0  # where nothing can be drawn, the figure itself decides
    row["failed"] = bool(lost > gate.largest_slice_loss * theirs and beyond_chance)
    if theirs > 0:
        row["loss"], ends = lost / theirs, [end / theirs for end in ends]
    return {**row, "low": ends[0] if ends else None, "high": ends[-1] if ends else None}


def check_latency(challenger_s: float, champion_s: float, gate: Gate) -> Check:
    """Refuse a challenger that answers too slowly on this machine."""
    ratio = challenger_s / champion_s
    passed = challenger_s <= gate.latency_s
    line = f"{challenger_s:.3f} s for a record, {ratio:.2f} times the champion's"
    if not passed:
        line += f", more than {gate.latency_s:g} s"
    figures = {"challenger_s": challenger_s, "champion_s": champion_s, "ratio": ratio, "limit_s": gate.latency_s}
    return Check("latency", passed, line, figures)


def check_smoke(fault: str | None) -> Check:
    """Refuse a challenger that cannot be loaded and asked as those who use it would."""
    if fault is None:
        return Check("smoke", True, "the registered model loads and answers its example")
    return Check("smoke", False, f"the registered model does not work: {fault}", {"fault": fault})


def _figure(question: Question, rows: pd.DataFrame) -> float | None:
    if question == "places":
        return float(rows["distance_km"].mean()) if len(rows) else None
    from waymark.metrics.figures import landmark_figures  # late, for torch takes seconds

    gap = landmark_figures(rows)["gap"]
    return None if gap is None else float(gap)


def _pair(
    question: Question, challenger: pd.DataFrame, champion: pd.DataFrame, groups: "pd.Series[Any]", gate: Gate
) -> dict[str, Any] | None:
    """Compute value, low and high of the challenger's figure minus the champion's, and what was drawn."""
    from waymark.metrics.intervals import paired_difference, paired_gap  # late, for torch takes seconds

    places = question == "places"
    compare, name = (paired_difference, "difference_km") if places else (paired_gap, "difference_gap")
    drawn = {"resamples": gate.resamples, "confidence": gate.confidence, "seed": gate.seed}
    found = compare(challenger, champion, groups, **drawn)  # type: ignore[arg-type]
    return None if found is None else {"records": found["records"], "unit": found["unit"], **found[name]}


def _against(question: Question, ours: float | None, theirs: float | None) -> str:
    """Write the figures of challenger and champion."""
    name, unit, digits = ("mean error", " km", 1) if question == "places" else ("GAP", "", 3)
    shown = [
        "none" if figure is None or not np.isfinite(figure) else f"{figure:.{digits}f}" for figure in (ours, theirs)
    ]
    return f"{name} {shown[0]}{unit} against {shown[1]}{unit}"


def _change(question: Question, figure: float) -> str:
    return f"{figure:+.1f} km" if question == "places" else f"{figure:+.3f}"
