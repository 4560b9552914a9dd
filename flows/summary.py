"""What a run came to, for the person who trains: the figures on test, and a verdict in words."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.artifacts import COMPARISON, REPORT
from tasks.common.outputs import read_json
from tasks.registry.register import Registered
from waymark.report.verdict import Verdict, in_km, in_per_cent, verdicts

SOURCE = Path("data/raw/source.json")
WIDTH = 100
ANSWERS = {"yes": "Yes", "no": "No", "unclear": "Not shown"}
PLACES = ("places, on test", "mean error", "median error", "x constant", "in 90 % radius")
LANDMARKS = ("landmarks, on test", "GAP", "first guess right", "pictures named", "names right")
NONE = "-"
NO_BREAK = "\u00a0%"


def summary(registered: Sequence[Registered]) -> str:
    """Write what stands at the end of a run."""
    comparison = read_json(COMPARISON)
    parts = [*_tables(comparison), *map(in_words, verdicts(comparison))]
    if read_json(SOURCE).get("made_up", False):
        parts.append("The pictures of this source are made up: the figures say nothing about real photographs.")
    roles = {True: "champion and challenger", False: "challenger"}
    ends = [f"{its.model} is version {its.version} of {its.name}, {roles[its.is_champion]}" for its in registered]
    return "\n\n".join(["", *parts, "\n".join([*ends, f"report: {REPORT}"])])


def in_words(verdict: Verdict) -> str:
    """Write a verdict in lines of a terminal."""
    lines = [f"{ANSWERS[verdict.outcome]}: {verdict.title}.", *verdict.sentences]
    whole = [line.replace(" %", NO_BREAK) for line in lines]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in whole).replace(NO_BREAK, " %")


def _tables(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Write the figures of models and ensembles on test, and of the answer that needs no model."""
    tested = {name: its["test"] for part in ("models", "ensembles") for name, its in comparison[part].items()}
    placed = {name: its for name, its in tested.items() if its.get("mean_km") is not None}
    named = {name: its for name, its in tested.items() if its.get("gap") is not None}
    if placed:
        constants = {its["constant_mean_km"] for its in placed.values()}
        same = (
            "always the same place",
            *(in_km(next(iter(constants))) if len(constants) == 1 else NONE, NONE, "1.00", NONE),
        )
        yield _aligned([PLACES, *(_place(name, its) for name, its in placed.items()), same])
    if named:
        chances = {its["test"]["chance_top1"] for its in comparison["asked"].values()}
        chance = in_per_cent(next(iter(chances))) if len(chances) == 1 else NONE
        yield _aligned(
            [LANDMARKS, *(_landmark(name, its) for name, its in named.items()), ("chance", NONE, chance, NONE, NONE)]
        )


def _place(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    mean_km, constant_km = figures["mean_km"], figures["constant_mean_km"]
    ratio = f"{mean_km / constant_km:.2f}" if constant_km else NONE
    return name, in_km(mean_km), in_km(figures["median_km"]), ratio, in_per_cent(figures["coverage_90"])


def _landmark(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    return name, f"{figures['gap']:.3f}", *(in_per_cent(figures[key]) for key in ("top1", "answered", "precision"))


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Write rows in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
    return "\n".join(map(str.rstrip, lines))
