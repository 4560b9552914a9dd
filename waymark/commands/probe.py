"""`waymark probe`: try frozen features and heads on somebody's own pictures, and name the best entry."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from waymark.commands.terminal import say, show
from waymark.errors import ImageError, SourceError
from waymark.images.decode import Fit
from waymark.metrics.intervals.resampling import Interval
from waymark.models.embedding import EmbeddingOptions
from waymark.models.weights import BUNDLED, DEFAULT, PACKAGES
from waymark.probe.entry import MODEL, apply, as_yaml, entry_of
from waymark.probe.pictures import COLOURS, Embedded, joined
from waymark.probe.source import Probed, find_records, unreadable
from waymark.probe.trial import CONSTANT, Row, Task, constant, interval_of, try_heads

PARAMS = Path("params.yaml")
SIZE_PX = 224
IN_METRES_KM = 1.0  # errors below are in metres


@dataclass(frozen=True)
class Result:
    """The table of a task, the best line first, the comparisons last."""

    task: Task
    rows: list[Row]
    comparisons: list[Row]
    chosen: Row  # the line of the entry: the best one whose features are one entry of `embeddings:`
    entry: dict[str, Any]

    @property
    def best(self) -> Row:
        """The line with the lowest mean error."""
        return self.rows[0]


def probe(
    path: Path | None,
    *,
    source: str | None = None,
    label: str | None = None,
    backbones: Sequence[str] = (),
    weights: str | None = None,
    size_px: int | None = None,
    fit: Fit | None = None,
    name: str = MODEL,
    as_json: bool = False,
    into_params: bool = False,
) -> None:
    """Try backbones and heads on the records of a source, and print a table for places and one for landmarks.

    Args:
        path: folder or table; None for the data of the stages.
        source: kind of the source; None detects it.
        label: `folder` or `none`, see `waymark.probe.source.find_records`.
        backbones: names of timm; by default the bundled one. Several are also joined.
        weights: of the backbones; by default `bundled` where there are such, else `default`.
        size_px: side of the pictures; by default that of the shards, or 224.
        fit: how pictures become square; by default as in the shards, or `stretch`.
        name: of the model in the entry.
        as_json: print JSON in place of tables.
        into_params: write the entries into params.yaml.

    Raises:
        SourceError: there are no records, or too few to learn from.
        ImageError: no picture can be read.
        ModelError: a backbone or its weights cannot be had.
        ParameterError: the entries cannot be written.
    """
    begin = time.perf_counter()
    probed = find_records(path, source, label, fit)
    embedded = _embed(probed, backbones or list(PACKAGES), weights, size_px)
    seen = unreadable(probed.pictures.statuses)
    pictured = np.any(embedded[-1].features != 0, axis=1)
    tasks = probed.tasks(pictured)
    if not tasks:
        raise SourceError(
            f"{probed.title} has nothing to learn from: at least 4 pictures in 2 groups, with coordinates (EXIF, or"
            " columns latitude and longitude) or 2 landmarks (a column, or folders with --label folder)"
        )
    results = []
    for task, rows in tasks:
        own = name if len(tasks) == 1 else f"{name}-{task.kind}"
        results.append(_try(task, [replace(entry, features=entry.features[rows]) for entry in embedded], own))
    if into_params:
        for result in results:
            apply(result.entry, PARAMS)
    if as_json:
        show(json.dumps(_document(probed, results, time.perf_counter() - begin), indent=2, ensure_ascii=False))
        return
    for result in results:
        show("\n".join(_lines(probed, result, into_params)) + "\n")
    if seen:
        say(seen)
    say(f"{time.perf_counter() - begin:.0f} s in all")


def _embed(probed: Probed, backbones: Sequence[str], weights: str | None, size_px: int | None) -> list[Embedded]:
    """Send the pictures through each backbone; the last entry is colours."""
    shards = probed.pictures.shards
    side = size_px or (SIZE_PX if shards is None else shards.size_px)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0))))
    found: list[Embedded] = []
    colours: list[Embedded] = []
    for backbone in dict.fromkeys(backbones):
        own = weights or (BUNDLED if backbone in PACKAGES else DEFAULT)
        options = EmbeddingOptions(backbone=backbone, weights=own, size_px=side)
        taken = {entry.name for entry in found}
        entries, _ = probed.pictures.embed(
            options, side if shards is None else shards.size_px, short_name(backbone, taken)
        )
        if not entries:
            raise ImageError(
                f"no picture of {probed.title} can be read ({unreadable(probed.pictures.statuses)}); see waymark check"
            )
        found += entries[:-1]
        colours = entries[-1:]
    firsts = [entry for entry in found if len(entry.options) == 1 and "levels" not in entry.name]
    together = [joined(firsts)] if len(firsts) > 1 else []
    return [*found, *together, *colours]


def short_name(backbone: str, taken: set[str]) -> str:
    """Shorten the name of a backbone to that of an entry.

    >>> short_name("tf_efficientnet_lite0", set()), short_name("vit_small_patch14_reg4_dinov2.lvd142m", set())
    ('lite0', 'dinov2')
    """
    whole = backbone.partition(".")[0]
    short = whole.rpartition("_")[2]
    return short if short not in taken else whole.replace("_", "-")


def _try(task: Task, embedded: Sequence[Embedded], name: str) -> Result:
    rows: list[Row] = []
    with threadpool_limits(1):  # of many small sums, several threads spend most of their time waiting
        for entry in tqdm(embedded, unit="features", desc=task.kind, disable=None):
            rows += try_heads(task, entry)
    tried = sorted((row for row in rows if row.features != COLOURS), key=lambda row: float(row.errors.mean()))
    comparisons = [*(row for row in rows if row.features == COLOURS), constant(task)]
    single = {entry.name: entry.options for entry in embedded if len(entry.options) == 1}
    best = next(row for row in tried if row.features in single)  # a model learns from one entry of `embeddings:`
    return Result(task, tried, comparisons, best, entry_of(task, best, single[best.features], name))


def _lines(probed: Probed, result: Result, written: bool) -> Iterator[str]:
    task, best = result.task, result.best
    answered, groups = len(task.answered), len(np.unique(task.groups[task.answered]))
    how = (
        "learnt from train and val, asked of test"
        if len(task.folds) == 1
        else f"{len(task.folds)}-fold cross-validation by group"
    )
    yield f"{task.kind} of {probed.title}: {answered:,} records in {groups:,} groups, {how}"
    if task.by_record:
        yield "groups lie on both sides of the split: new groups will be harder than this"
    yield ""
    metres = task.kind == "places" and float(best.errors.mean()) < IN_METRES_KM
    unit = "top-1" if task.kind == "landmarks" else "mean error"
    table = [
        [row.features, row.head, *_figures(task, row, metres), f"{row.seconds:.0f}", f"{row.megabytes:.0f}"]
        for row in (*result.rows, *result.comparisons)
    ]
    yield from _aligned([["features", "head", unit, "90 %", "s", "MB"], *table])
    yield ""
    yield verdict(result)
    yield ""
    line = f"{result.chosen.features} with {result.chosen.head}"
    yield (
        f"{line}, written into params.yaml:" if written else f"{line} as entries of params.yaml (--apply writes them):"
    )
    yield ""
    yield as_yaml(result.entry).rstrip()


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()


def _figures(task: Task, row: Row, metres: bool) -> tuple[str, str]:
    """Write mean and interval, of landmarks as shares that are right."""
    interval = _interval(task, row)
    if task.kind == "landmarks":
        ends = "" if interval is None else f"{1 - interval.high:.3f} to {1 - interval.low:.3f}"
        return f"{1 - row.errors.mean():.3f}", ends
    scale, digits, unit = (1000, 0, "m") if metres else (1, 1, "km")
    ends = "" if interval is None else f"{scale * interval.low:.{digits}f} to {scale * interval.high:.{digits}f}"
    return f"{scale * row.errors.mean():.{digits}f} {unit}", ends


def _interval(task: Task, row: Row) -> Interval | None:
    return interval_of(row.errors, task.groups[task.answered])


def better_than(task: Task, row: Row, other: Row) -> bool | None:
    """Find whether one is better than the other by more than chance: the 90 % interval of the difference lacks 0.

    Returns:
        None for too few groups.
    """
    interval = interval_of(row.errors - other.errors, task.groups[task.answered])
    return None if interval is None else interval.high < 0


def verdict(result: Result) -> str:
    """Say in a sentence whether the best line beats the comparisons."""
    best = result.best
    wins: list[str] = []
    ties: list[str] = []
    for name in (CONSTANT, COLOURS):
        other = next((row for row in result.comparisons if row.features == name), None)
        if other is not None:
            said = "always the same answer" if name == CONSTANT else "the nearest by colours"
            (wins if better_than(result.task, best, other) else ties).append(said)
    text = f"{best.features} with {best.head}"
    if wins:
        text += f" beats {' and '.join(wins)} by more than chance"
    if ties:
        text += f"{', but' if wins else ''} does not beat {' or '.join(ties)} by more than chance"
    return text


def _document(probed: Probed, results: Sequence[Result], seconds: float) -> dict[str, Any]:
    return {
        "source": probed.title,
        "pictures": dict(sorted(probed.pictures.statuses.items())),
        "seconds": round(seconds, 1),
        "tasks": [
            {
                "kind": result.task.kind,
                "records": len(result.task.answered),
                "groups": len(np.unique(result.task.groups[result.task.answered])),
                "folds": len(result.task.folds),
                "rows": [_row(result.task, row) for row in (*result.rows, *result.comparisons)],
                "verdict": verdict(result),
                "entry": result.entry,
            }
            for result in results
        ],
    }


def _row(task: Task, row: Row) -> Mapping[str, Any]:
    mean, interval = float(row.errors.mean()), _interval(task, row)
    low, high = (None, None) if interval is None else interval
    if task.kind == "landmarks":
        figure = {"top1": 1 - mean, "low": None if high is None else 1 - high, "high": None if low is None else 1 - low}
    else:
        figure = {"mean_km": mean, "low": low, "high": high}
    return {
        "features": row.features,
        "head": row.head,
        **figure,
        "settings": row.settings,
        "seconds": round(row.seconds, 1),
        "megabytes": round(row.megabytes, 1),
    }
