"""The end of a run for the person who trains: the figures on test, and a verdict in words."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from flows.stages.results import COMPARISON, REPORT
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
    """Write what is printed at the end of a run."""
    comparison = read_json(COMPARISON)
    parts = [*_tables(comparison), *map(_in_words, verdicts(comparison))]
    if read_json(SOURCE).get("made_up", False):
        parts.append("The pictures of this source are made up: the figures say nothing about real photographs.")
    roles = {True: "champion and challenger", False: "challenger"}
    ends = [f"{new.model} is version {new.version} of {new.name}, {roles[new.is_champion]}" for new in registered]
    return "\n\n".join(["", *parts, "\n".join([*ends, f"report: {REPORT}"])])


def _in_words(verdict: Verdict) -> str:
    lines = [f"{ANSWERS[verdict.outcome]}: {verdict.title}.", *verdict.sentences]
    whole = [line.replace(" %", NO_BREAK) for line in lines]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in whole).replace(NO_BREAK, " %")


def _tables(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Write the figures of models and ensembles on test, and of the answer that needs no model."""
    tested = {name: split["test"] for part in ("models", "ensembles") for name, split in comparison[part].items()}
    placed = {name: row for name, row in tested.items() if row.get("mean_km") is not None}
    named = {name: row for name, row in tested.items() if row.get("gap") is not None}
    if placed:
        constants = {row["constant_mean_km"] for row in placed.values()}
        constant = in_km(constants.pop()) if len(constants) == 1 else NONE
        last = ("always the same place", constant, NONE, "1.00", NONE)
        yield _aligned([PLACES, *(_place(name, row) for name, row in placed.items()), last])
    if named:
        chances = {split["test"]["chance_top1"] for split in comparison["asked"].values()}
        chance = in_per_cent(chances.pop()) if len(chances) == 1 else NONE
        last = ("chance", NONE, chance, NONE, NONE)
        yield _aligned([LANDMARKS, *(_landmark(name, row) for name, row in named.items()), last])


def _place(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    mean_km, constant_km = figures["mean_km"], figures["constant_mean_km"]
    ratio = f"{mean_km / constant_km:.2f}" if constant_km else NONE
    return name, in_km(mean_km), in_km(figures["median_km"]), ratio, in_per_cent(figures["coverage_90"])


def _landmark(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    return name, f"{figures['gap']:.3f}", *(in_per_cent(figures[key]) for key in ("top1", "answered", "precision"))


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """Write rows in columns, the first to the left and the others to the right."""
    sides = ["left", *["right"] * (len(rows[0]) - 1)]
    return tabulate(rows, tablefmt="plain", colalign=sides, disable_numparse=True)
