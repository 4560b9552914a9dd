"""A night's words: what is said to have run did run."""

from pathlib import Path

import pytest

from flows.explain import Cause
from flows.ledger import Entry
from flows.night import Night
from flows.night_report import Account, message, page
from flows.pipeline import Outcome

CAUSES = [
    Cause("train@cells", ("models.cells.seed: 2 -> 1",)),
    Cause("evaluate@cells", ("evaluate.gallery: 6 -> 3", "after train@cells")),
    Cause("compare", ("after evaluate@cells",)),
]
CACHED = "it ran before with these parameters and inputs"


def account(*states):
    """Give a night whose three stages ended so."""
    entries = [
        Entry("download", "Skipped", 0.0, "neither it nor anything before it changed"),
        *(Entry(cause.stage, state, 1.0, CACHED) for cause, state in zip(CAUSES, states, strict=True)),
    ]
    night = Night(Path(), Path(), "1" * 40, "2" * 40, [])
    return Account("night of 2026-11-30", night, Outcome([], CAUSES, entries), committed="1" * 40)


@pytest.mark.parametrize(
    ("states", "headline"),
    [
        (("Completed", "Completed", "Completed"), "train@cells, evaluate@cells, compare ran"),
        (("Skipped", "Completed", "Skipped"), "evaluate@cells ran"),
        (("Skipped", "Skipped", "Skipped"), "nothing had to run"),
    ],
)
def test_the_headline_names_what_ran_and_the_message_all_that_changed(states, headline):
    its = message(account(*states))
    assert its.splitlines() == [
        f"Night of 2026-11-30: {headline}",
        "",
        "- models.cells.seed: 2 -> 1",
        "- evaluate.gallery: 6 -> 3",
    ]
    assert account(*states).summary == headline


def test_the_page_says_why_a_stage_ran_and_why_another_need_not():
    ran, spared = page(account("Skipped", "Completed", "Skipped")).split("## What changed and need not run")
    assert "- `evaluate@cells`: evaluate.gallery: 6 -> 3; after train@cells\n" in ran
    assert "train@cells`:" not in ran
    assert f"- `train@cells`: models.cells.seed: 2 -> 1; {CACHED}\n" in spared
    assert f"- `compare`: after evaluate@cells; {CACHED}\n" in spared
    assert "download" not in ran + spared
