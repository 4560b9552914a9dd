"""What a night has to say: the message of its commit, its page in Prefect, its word to the operator."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flows.explain import Cause
from flows.ledger import SKIPPED
from flows.night import BRANCH, Night
from flows.pipeline import Outcome

NAMED = 3  # stages in a headline
FIGURES = {"mean_km": "mean error, km", "median_km": "median error, km", "gap": "GAP", "top1": "top-1"}
NOTHING = Outcome([], [], [])
NOTHING_CHANGED = "nothing changed since the last night"


class Verdict(NamedTuple):
    """What became of a challenger."""

    name: str  # in the registry
    version: str
    outcome: str  # name of the promotion's state
    line: str  # what was decided, and why


@dataclasses.dataclass
class Account:
    """All that one night did.

    Args:
        title: such as "night of 2026-11-29".
        night: its checkout.
        done: what the pipeline did.
        before: what `compare` said of all models before the night; None where it had said nothing.
        after: what it says now.
        committed: the commit of the new dvc.lock; None where it is the old one.
        verdicts: of its challengers.
        drifts: for each registered name, the night's data against those of last night's champion, in Markdown.
    """

    title: str
    night: Night
    done: Outcome = NOTHING
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    committed: str | None = None
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    drifts: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def spared(self) -> dict[str, str]:
        """The stages that did not run, and why not."""
        return {entry.stage: entry.reason for entry in self.done.entries if entry.state == SKIPPED}

    @property
    def ran(self) -> list[Cause]:
        """The stages that ran, and why; of those that were to run, the cache may have what they make."""
        return [cause for cause in self.done.causes if cause.stage not in self.spared]

    @property
    def unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return not self.done.causes and self.committed is None and not self.verdicts

    @property
    def summary(self) -> str:
        """The night in a line."""
        if self.unchanged:
            return NOTHING_CHANGED
        return "; ".join([_headline(self.ran), *(verdict.line for verdict in self.verdicts)])


def message(account: Account) -> str:
    """Write the message of the commit that holds the night's dvc.lock."""
    its = [reason for cause in account.done.causes for reason in cause.reasons]
    body = "".join(f"- {reason}\n" for reason in dict.fromkeys(its) if not reason.startswith("after "))
    title = account.title
    return f"{title[0].upper()}{title[1:]}: {_headline(account.ran)}\n" + (f"\n{body}" if body else "")


def _headline(causes: list[Cause]) -> str:
    stages = [cause.stage for cause in causes]
    if not stages:
        return "nothing had to run"
    more = f" and {len(stages) - NAMED} more" if len(stages) > NAMED else ""
    return f"{', '.join(stages[:NAMED])}{more} ran"


def page(account: Account) -> str:
    """Write the page of a night in Markdown."""
    night = account.night
    lines = [f"# {account.title[0].upper()}{account.title[1:]}", "", f"{account.summary}.", ""]
    lines += [f"Trained: commit `{night.trains[:12]}`. Its dvc.lock: `{night.revision[:12]}` on branch `{BRANCH}`."]
    if night.left_out:
        lines += ["", f"Not committed, and so left out: {', '.join(f'`{name}`' for name in night.left_out)}."]
    if account.ran:
        lines += ["", "## What ran, and why", ""]
        lines += [f"- `{cause.stage}`: {'; '.join(cause.reasons)}" for cause in account.ran]
    if spared := [cause for cause in account.done.causes if cause.stage in account.spared]:
        lines += ["", "## What changed and need not run", ""]
        lines += [f"- `{cause.stage}`: {'; '.join(cause.reasons)}; {account.spared[cause.stage]}" for cause in spared]
    lines += ["", "## Figures on test, against last night's", "", *_figures(account.before, account.after)]
    if account.verdicts:
        lines += ["", "## Verdicts", "", *(f"- {verdict.line}" for verdict in account.verdicts)]
    for name, drift in account.drifts.items():
        lines += ["", f"## Data against those of the last champion of {name}", "", drift]
    return "\n".join(lines) + "\n"


def _figures(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[str]:
    """Set the figures of all models and ensembles beside those of last night."""
    yield "| model | figure | last night | this night |"
    yield "|---|---|---:|---:|"
    old, new = _tested(before), _tested(after)
    for model in dict.fromkeys([*old, *new]):
        for figure, words in FIGURES.items():
            pair = [tested.get(model, {}).get(figure) for tested in (old, new)]
            if pair != [None, None]:
                yield f"| {model} | {words} | {' | '.join('–' if its is None else f'{its:.4g}' for its in pair)} |"


def _tested(comparison: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    if comparison is None:
        return {}
    return {name: its.get("test", {}) for part in ("models", "ensembles") for name, its in comparison[part].items()}
