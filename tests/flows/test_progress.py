"""The lines of a run, on a stream that is a terminal and on one that is none."""

import io
import os
import pty
import select

import pytest

from flows.stages.progress import NOT_REACHED, Clock, Entry, Progress, in_words
from flows.stages.repro import CACHED, SKIPPED


def test_each_stage_is_a_line_of_its_outcome_and_time():
    stream = io.StringIO()
    progress = Progress(["grid", "train@cells"], {}, stream)
    progress.end(Entry("grid", "Completed", 75.0, "ran"))
    progress.end(Entry("train@cells", SKIPPED, 0.6, CACHED))
    progress.end(Entry("grid", SKIPPED, 0.0, "nothing changed"))
    progress.end(Entry("train@cells", "Failed", 3.0, "train: out of memory"))
    assert stream.getvalue().splitlines() == [
        "grid         ran         1 min 15 s",
        "train@cells  cached      0.6 s",
        "grid         skipped",
        "train@cells  failed      3.0 s",
    ]


def test_what_became_of_each_stage_is_kept_in_the_graphs_order():
    progress = Progress(["grid", "train@cells", "compare"], {}, io.StringIO())
    failed = Entry("train@cells", "Failed", 3.0, "train: out of memory")
    progress.end(failed)
    grid, train, compare = progress.entries()
    assert train == failed
    assert (grid.state, compare.state) == (NOT_REACHED, NOT_REACHED)


def test_a_training_has_few_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    progress = Progress(["train@cells"], {"train@cells": 100}, stream)
    progress.begin("train@cells")
    for epoch in range(1, 101):
        progress.receive("train@cells", f"epoch {epoch} of 100: train_loss 1.2")
    progress.receive("train@cells", "the epoch 7 of 8 is no report")
    progress.receive("train@cells", "training from epoch 50 of 100")
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"train@cells  epoch {epoch} of 100" for epoch in (25, 50, 75)]
    assert all(line.endswith(" left") for line in lines)


def drawn(terminal):
    """Read all that was written to a terminal."""
    text = b""
    while select.select([terminal], [], [], 0.1)[0]:
        text += os.read(terminal, 100_000)
    return text.decode()


def test_a_training_has_a_bar_on_a_terminal_that_goes_when_it_ends():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        progress = Progress(["train@cells"], {"train@cells": 4}, stream)
        progress.begin("train@cells")
        for epoch in (1, 2):
            progress.receive("train@cells", f"epoch {epoch} of 4: train_loss 1.2")
        during = drawn(ours)
        progress.end(Entry("train@cells", "Completed", 4.0, "ran"))
        after = drawn(ours)
    os.close(ours)
    assert "epoch 1 of 4, " in during
    assert during.rpartition("\r")[2].startswith("train@cells")
    assert " left" in during.rpartition("epoch 2 of 4, ")[2]
    assert after.splitlines()[-1].endswith("train@cells  ran         4.0 s")


@pytest.mark.parametrize(
    ("begins", "at", "epoch", "left_s"),
    [
        (None, 10.0, 1, 90.0),
        ((8.0, 1), 10.0, 1, 18.0),  # what comes before the first epoch does not count
        ((8.0, 1), 14.0, 3, 14.0),
        ((30.0, 6), 34.0, 7, 6.0),  # a training that goes on
        ((8.0, 1), 10.0, 10, 0.0),
    ],
)
def test_the_time_left_is_that_of_the_epochs_seen_here(begins, at, epoch, left_s):
    times = iter([0.0, *([] if begins is None else [begins[0]]), at])
    clock = Clock(lambda: next(times))
    if begins is not None:
        clock.begin(begins[1])
    assert clock.left_s(epoch, 10) == left_s


def test_times_are_for_people():
    assert [in_words(seconds) for seconds in (0.04, 9.96, 59.6, 3599.0, 7325.0)] == [
        *("0.0 s", "10 s", "1 min 0 s", "59 min 59 s", "2 h 2 min"),
    ]
