"""The report of a nightly run: what it names as run did run."""

from pathlib import Path

import pytest

from flows.nights.checkout import Nightly
from flows.nights.report import Report
from flows.pipeline import Outcome
from flows.stages.explain import Cause
from flows.stages.progress import Entry

CAUSES = [
    Cause("train@cells", ("models.cells.seed: 2 -> 1",)),
    Cause("evaluate@cells", ("evaluate.gallery: 6 -> 3", "after train@cells")),
    Cause("compare", ("after evaluate@cells",)),
]
CACHED = "it ran before with these parameters and inputs"


def report(*states):
    """Report a nightly run whose three stages ended so."""
    entries = [
        Entry("download", "Skipped", 0.0, "neither it nor anything before it changed"),
        *(Entry(cause.stage, state, 1.0, CACHED) for cause, state in zip(CAUSES, states, strict=True)),
    ]
    nightly = Nightly(Path(), Path(), "1" * 40, "2" * 40, [])
    return Report("nightly run of 2026-11-30", nightly, Outcome([], CAUSES, entries), committed="1" * 40)


@pytest.mark.parametrize(
    ("states", "headline"),
    [
        (("Completed", "Completed", "Completed"), "train@cells, evaluate@cells, compare ran"),
        (("Skipped", "Completed", "Skipped"), "evaluate@cells ran"),
        (("Skipped", "Skipped", "Skipped"), "nothing had to run"),
    ],
)
def test_the_headline_names_what_ran_and_the_message_all_that_changed(states, headline):
    assert report(*states).message().splitlines() == [
        f"Nightly run of 2026-11-30: {headline}",
        "",
        "- models.cells.seed: 2 -> 1",
        "- evaluate.gallery: 6 -> 3",
    ]
    assert report(*states).summary == headline


def test_the_page_says_why_a_stage_ran_and_why_another_need_not():
    ran, skipped = report("Skipped", "Completed", "Skipped").page().split("## What changed and need not run")
    assert "- `evaluate@cells`: evaluate.gallery: 6 -> 3; after train@cells\n" in ran
    assert "train@cells`:" not in ran
    assert f"- `train@cells`: models.cells.seed: 2 -> 1; {CACHED}\n" in skipped
    assert f"- `compare`: after evaluate@cells; {CACHED}\n" in skipped
    assert "download" not in ran + skipped
