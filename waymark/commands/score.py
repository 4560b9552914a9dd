"""`waymark score`: metrics of anybody's predictions."""

import json
import math
from pathlib import Path

import typer

from waymark.commands.score_landmarks import asks_landmarks, gives_landmarks, score_landmarks
from waymark.commands.score_places import asks_places, gives_places, score_places
from waymark.commands.tables import Rows, Scored, read_rows
from waymark.commands.terminal import say, show
from waymark.errors import SourceError
from waymark.metrics.intervals import Interval

GAPS = ("gap", "gap_unrejected")
SHARES = ("within_", "coverage_", "cell_", "top1", "answered", "precision")


def score_files(predictions: Path, truth: Path, split: str | None, *, allow_missing: bool, as_json: bool) -> None:
    """Print the errors of predicted places, the quality of landmark recognition, or both.

    Raises:
        SourceError: a table has no ids or nothing to score, a duplicate id, or a truth has no prediction.
        CoordinateError: a place is not on Earth.
    """
    true, predicted = read_rows(truth, split), read_rows(predictions)
    scored = _score(predicted, true, allow_missing=allow_missing)
    intervals = scored.intervals
    known = {name: value for name, value in scored.figures.items() if value is not None and math.isfinite(value)}
    if as_json:
        content = {**known, "intervals_95": {name: intervals[name] for name in known if name in intervals}}
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
    else:
        show("\n".join(_line(name, value, intervals.get(name)) for name, value in known.items()))
    if extra := len(set(predicted.ids) - set(scored.ids)):
        say(f"{extra} predictions have no truth and are ignored")


def _score(predicted: Rows, true: Rows, *, allow_missing: bool) -> Scored:
    """Score what both tables have, and report what the predictions lack."""
    landmarks = asks_landmarks(true) and gives_landmarks(predicted)
    places = asks_places(true) and gives_places(predicted)
    if asks_landmarks(true) and not landmarks:
        if not asks_places(true):
            raise SourceError(f"{predicted.path} has no landmarks; it needs the columns landmark and landmark_score")
        say(f"{predicted.path} has no landmarks, so only places are scored")
    if not landmarks:
        return score_places(predicted, true, allow_missing=allow_missing)
    of_landmarks = score_landmarks(predicted, true, allow_missing=allow_missing)
    if not places:
        if asks_places(true):
            say(f"{predicted.path} has no places, so only landmarks are scored")
        return of_landmarks
    figures, intervals, _ = score_places(predicted, true, allow_missing=allow_missing)
    return Scored(of_landmarks.figures | figures, of_landmarks.intervals | intervals, of_landmarks.ids)


def _line(name: str, value: float, interval: Interval | None) -> str:
    line = f"{name:<16} {_shown(name, value):>12}"
    return line if interval is None else f"{line}   ({_shown(name, interval.low)} to {_shown(name, interval.high)})"


def _shown(name: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if name in GAPS:
        return f"{value:.3f}"
    if name.startswith(SHARES):
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if name == "geoscore" else f"{value:,.2f} km"
