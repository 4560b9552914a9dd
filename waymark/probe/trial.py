"""Try every head on every kind of features, on records that neither has learnt from."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from waymark.geo.crs import unproject
from waymark.geo.sphere import great_circle_km
from waymark.metrics.intervals.resampling import RESAMPLES, SEED, Interval, percentiles, units_of
from waymark.models.calibration import unit_length
from waymark.models.neighbours import Features, Floats, Spread, fit_whitening, median_place
from waymark.probe.heads import LANDMARK_HEADS, PLACE_HEADS, Head, Setting, Training
from waymark.probe.pictures import COLOURS, Embedded

FOLDS, INNER_FOLDS = 5, 3
FEW_GROUPS = 15  # up to which each is left out alone
SHRINKAGES = (None, 0.1, 1.0)  # of the whitening, None for features as they are
MOST_TUNED = 1500  # training records that choose the settings
CONFIDENCE = 0.9
CONSTANT = "constant"

Rows = NDArray[np.int64]
Choice = tuple[float | None, Setting]


class Fold(NamedTuple):
    """Rows that are learnt from, and rows that are answered."""

    train: Rows
    test: Rows


@dataclass(frozen=True)
class Task:
    """Something to be found out about N records.

    Attributes:
        kind: of the target.
        target: `(N,)` numbers of landmarks, or `(N, 2)` metres.
        groups: `(N,)` numbers of groups that are never split apart.
        folds: each record is answered at most once.
        by_record: whether folds divide groups, because the split of the source does.
        crs: of the places.
        lat_lon: `(N, 2)` degrees of the places.
        seed: of folds and cells.
    """

    kind: Literal["places", "landmarks"]
    target: NDArray[Any]
    groups: Rows
    folds: Sequence[Fold]
    by_record: bool = False
    crs: str = ""
    lat_lon: Floats = field(default_factory=lambda: np.empty((0, 2)))
    seed: int = SEED

    @property
    def answered(self) -> Rows:
        """Rows that are answered, in their order."""
        return np.sort(np.concatenate([fold.test for fold in self.folds]))

    def errors(self, rows: Rows, answer: NDArray[Any]) -> Floats:
        """Measure the `(B,)` errors of answers for some rows: kilometres, or 1 for a wrong landmark."""
        if self.kind == "landmarks":
            wrong: Floats = np.not_equal(answer, self.target[rows]).astype(np.float64)
            return wrong
        distance_km: Floats = great_circle_km(unproject(answer, self.crs, anywhere=True), self.lat_lon[rows])
        return distance_km


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        features: name of the features.
        head: name of the head; empty for the constant.
        errors: `(A,)` of the answered records, in their order: kilometres, or 1 for a wrong landmark.
        settings: those that most folds chose, with `whitening` where features were whitened.
        seconds: of embedding, tuning and answering.
        megabytes: of the weights.
    """

    features: str
    head: str
    errors: Floats
    settings: dict[str, Any]
    seconds: float
    megabytes: float


def divide(groups: Rows, split: Sequence[str | None], seed: int) -> tuple[list[Fold], bool]:
    """Divide records into folds.

    Args:
        groups: `(N,)` numbers of groups.
        split: `(N,)` train, val or test; where some are test and others train, test is the one fold.
        seed: of the folds.

    Returns:
        The folds, and whether groups lie on both sides of them.
    """
    side = np.array([name or "" for name in split], dtype=object)
    train, test = np.flatnonzero((side == "train") | (side == "val")), np.flatnonzero(side == "test")
    if len(train) and len(test):
        return [Fold(train, test)], bool(np.isin(groups[test], groups[train]).any())
    units = len(np.unique(groups))
    if units < 2:
        return [], False
    folds = GroupKFold(units if units <= FEW_GROUPS else FOLDS, shuffle=True, random_state=seed)
    return [Fold(*pair) for pair in folds.split(groups, groups=groups)], False


def constant(task: Task) -> Row:
    """Answer always the same: the geometric median of the training places, or the most frequent landmark."""
    errors = np.full(len(task.target), np.nan)
    for fold in task.folds:
        known = task.target[fold.train]
        if task.kind == "landmarks":
            answer = np.full(len(fold.test), Counter(known.tolist()).most_common(1)[0][0])
        else:
            place = median_place(Spread(np.full((1, len(known)), 1 / len(known)), known[None]))
            answer = np.repeat(place, len(fold.test), axis=0)
        errors[fold.test] = task.errors(fold.test, answer)
    return Row(CONSTANT, "", errors[task.answered], {}, 0.0, 0.0)


def try_heads(task: Task, entry: Embedded) -> Iterator[Row]:
    """Answer each fold with each head, its settings and the whitening chosen by cross-validation on train.

    Colours are the comparison: only the nearest of them, as they are.
    """
    heads: tuple[Head, ...] = LANDMARK_HEADS if task.kind == "landmarks" else PLACE_HEADS
    shrinkages = SHRINKAGES if entry.name != COLOURS else SHRINKAGES[:1]
    heads = heads if entry.name != COLOURS else heads[:1]
    errors = {head.name: np.full(len(task.target), np.nan) for head in heads}
    chosen: dict[str, list[Choice]] = {head.name: [] for head in heads}
    begin = time.perf_counter()
    for fold in task.folds:
        best = _tune(task, entry.features, fold.train, heads, shrinkages)
        prepared = dict(_prepare(entry.features, fold, {best[head.name][0] for head in heads}))
        for head in heads:
            shrinkage, setting = best[head.name]
            features, new = prepared[shrinkage]
            answer = head.answer(Training(features, task.target[fold.train], task.seed), new, [setting])[0]
            errors[head.name][fold.test] = task.errors(fold.test, answer)
            chosen[head.name].append(best[head.name])
    seconds = entry.seconds + time.perf_counter() - begin
    for head in heads:
        shrinkage, setting = max(chosen[head.name], key=chosen[head.name].count)
        settings = {**({} if shrinkage is None else {"whitening": shrinkage}), **setting}
        yield Row(entry.name, head.name, errors[head.name][task.answered], settings, seconds, entry.megabytes)


def _tune(
    task: Task, features: Features, train: Rows, heads: Sequence[Head], shrinkages: Sequence[float | None]
) -> dict[str, Choice]:
    """Choose whitening and setting of each head by cross-validation among training records."""
    rng = np.random.default_rng(task.seed)
    rows = np.sort(rng.choice(train, MOST_TUNED, replace=False)) if len(train) > MOST_TUNED else train
    groups = np.arange(len(rows)) if task.by_record else task.groups[rows]
    units = len(np.unique(groups))
    total: dict[tuple[str, float | None, int], float] = {}
    if units >= 2:
        parts = GroupKFold(min(INNER_FOLDS, units), shuffle=True, random_state=task.seed).split(rows, groups=groups)
        for inner in (Fold(rows[learnt], rows[held]) for learnt, held in parts):
            for shrinkage, (known, new) in _prepare(features, inner, set(shrinkages)):
                training = Training(known, task.target[inner.train], task.seed)
                for head in heads:
                    for place, answer in enumerate(head.answer(training, new, head.settings)):
                        key = head.name, shrinkage, place
                        total[key] = total.get(key, 0.0) + float(task.errors(inner.test, answer).sum())
    best = {}
    for head in heads:
        options = [(shrinkage, place) for shrinkage in shrinkages for place in range(len(head.settings))]
        shrinkage, place = min(options, key=lambda option: total.get((head.name, *option), np.inf))
        best[head.name] = shrinkage, head.settings[place]
    return best


def _prepare(
    features: Features, fold: Fold, shrinkages: set[float | None]
) -> Iterator[tuple[float | None, tuple[Features, Features]]]:
    """Bring features of both sides to unit length, whitened by what the first one shows or as they are."""
    sides = features[fold.train], features[fold.test]
    if None in shrinkages:
        yield None, (unit_length(torch.from_numpy(sides[0])), unit_length(torch.from_numpy(sides[1])))
    wanted = sorted(shrinkage for shrinkage in shrinkages if shrinkage is not None)
    if wanted and len(fold.train) > 2:
        whitening = fit_whitening(sides[0])
        for shrinkage in wanted:
            yield shrinkage, (whitening.apply(sides[0], shrinkage), whitening.apply(sides[1], shrinkage))


def interval_of(errors: Floats, groups: Rows) -> Interval | None:
    """Compute the 90 % bootstrap interval of the mean of `(A,)` errors; groups are drawn whole.

    Returns:
        None for fewer than two groups.
    """
    ids = pd.DataFrame({"record_id": np.arange(len(errors))})
    unit = units_of(ids, pd.Series(groups.astype(str)))
    if unit.number < 2:
        return None

    def mean(weights: Floats) -> Floats:
        found: Floats = weights @ errors / weights.sum(axis=1)
        return found[None]

    low, high = percentiles(mean, unit.member, RESAMPLES, CONFIDENCE)
    return Interval(float(low[0]), float(high[0]))
