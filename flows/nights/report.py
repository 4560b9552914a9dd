"""What a nightly run reports: the message of its commit, its page in Prefect, its notification to the operator."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flows.nights.checkout import BRANCH, Nightly
from flows.pipeline import Outcome
from flows.stages.explain import AFTER, Cause, bullets
from flows.stages.repro import SKIPPED

NAMED = 3  # stages in a headline
FIGURES = {"mean_km": "mean error, km", "median_km": "median error, km", "gap": "GAP", "top1": "top-1"}
NOTHING = Outcome([], [], [])
NOTHING_CHANGED = "nothing changed since the last nightly run"


class Verdict(NamedTuple):
    """What became of a challenger."""

    name: str  # in the registry
    version: str
    outcome: str  # name of the promotion's state
    line: str  # what was decided, and why


@dataclasses.dataclass
class Report:
    """All that one nightly run did."""

    title: str  # such as "nightly run of 2026-11-29"
    nightly: Nightly
    done: Outcome = NOTHING
    before: Mapping[str, Any] | None = None  # the comparison of all models before the run, where there was one
    after: Mapping[str, Any] | None = None
    committed: str | None = None  # the commit of the new dvc.lock; None where it is the old one
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    drifts: dict[str, str] = dataclasses.field(default_factory=dict)  # by registered name, in Markdown

    @property
    def skipped(self) -> dict[str, str]:
        """The stages that did not run, and why not."""
        return {entry.stage: entry.reason for entry in self.done.entries if entry.state == SKIPPED}

    @property
    def ran(self) -> list[Cause]:
        """The stages that ran, and why; of those that were to run, the cache may have what they make."""
        return [cause for cause in self.done.causes if cause.stage not in self.skipped]

    @property
    def unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return not self.done.causes and self.committed is None and not self.verdicts

    @property
    def summary(self) -> str:
        """The run in a line."""
        if self.unchanged:
            return NOTHING_CHANGED
        return "; ".join([self._headline(), *(verdict.line for verdict in self.verdicts)])

    def _headline(self) -> str:
        stages = [cause.stage for cause in self.ran]
        if not stages:
            return "nothing had to run"
        more = f" and {len(stages) - NAMED} more" if len(stages) > NAMED else ""
        return f"{', '.join(stages[:NAMED])}{more} ran"

    def message(self) -> str:
        """Write the message of the commit that holds the run's dvc.lock."""
        reasons = dict.fromkeys(reason for cause in self.done.causes for reason in cause.reasons)
        body = "".join(f"- {reason}\n" for reason in reasons if not reason.startswith(AFTER))
        return f"{self._title()}: {self._headline()}\n" + (f"\n{body}" if body else "")

    def page(self) -> str:
        """Write the run's page in Markdown."""
        nightly, left_out = self.nightly, ", ".join(f"`{name}`" for name in self.nightly.left_out)
        lock = f"Its dvc.lock: `{nightly.revision[:12]}` on branch `{BRANCH}`."
        lines = [f"# {self._title()}", "", f"{self.summary}.", "", f"Trained: commit `{nightly.trains[:12]}`. {lock}"]
        if left_out:
            lines += ["", f"Not committed, and so left out: {left_out}."]
        if self.ran:
            lines += ["", "## What ran, and why", "", *bullets(self.ran)]
        if skipped := [cause for cause in self.done.causes if cause.stage in self.skipped]:
            reasons = [Cause(cause.stage, (*cause.reasons, self.skipped[cause.stage])) for cause in skipped]
            lines += ["", "## What changed and need not run", "", *bullets(reasons)]
        lines += ["", "## Figures on test, against the last run's", "", *_figures(self.before, self.after)]
        if self.verdicts:
            lines += ["", "## Verdicts", "", *(f"- {verdict.line}" for verdict in self.verdicts)]
        for name, drift in self.drifts.items():
            lines += ["", f"## Data against those of the last champion of {name}", "", drift]
        return "\n".join(lines) + "\n"

    def _title(self) -> str:
        return f"{self.title[0].upper()}{self.title[1:]}"


def _figures(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[str]:
    """Compare the figures of all models and ensembles with those of the last run."""
    yield "| model | figure | last run | this run |"
    yield "|---|---|---:|---:|"
    old, new = _tested(before), _tested(after)
    for model in dict.fromkeys([*old, *new]):
        for figure, words in FIGURES.items():
            pair = [tested.get(model, {}).get(figure) for tested in (old, new)]
            if pair != [None, None]:
                yield f"| {model} | {words} | {' | '.join('–' if each is None else f'{each:.4g}' for each in pair)} |"


def _tested(comparison: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    parts = [comparison[part] for part in ("models", "ensembles")] if comparison is not None else []
    return {name: splits.get("test", {}) for part in parts for name, splits in part.items()}
