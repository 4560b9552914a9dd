"""Near-duplicates on two sides: of groups, and of the split that the data brings along."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from waymark.check.copies import Copies, each_once, groups_of, of_records
from waymark.check.findings import Example, Finding, counted, first
from waymark.check.survey import Survey
from waymark.data.duplicates import copies_between
from waymark.data.splits import COLUMN_NAMES


def leak_findings(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Name copies that would stand in training and in test at once."""
    yield from _leaks(survey, copies)
    yield from _brought_split(survey, copies)


def _leaks(survey: Survey, copies: Copies) -> Iterator[Finding]:
    pairs = copies.near_records(survey)
    groups = np.unique(survey.groups, return_inverse=True)[1][pairs]
    leaking = pairs[groups[:, 0] != groups[:, 1]]
    if len(leaking):
        records = np.unique(leaking)
        yield Finding(
            "group_leak",
            f"{counted(len(records), 'record')}: almost the same as one of another group",
            "Groups are what the split keeps together. Where near-duplicates belong to two, one may be trained on and"
            " the other tested with, and the figures flatter.",
            "Give both the same group (the column group of a table; one folder and day for photos); otherwise the stage"
            " split sets the training copy aside (split.duplicates).",
            len(records),
            each_once(of_records(survey, pair, groups_of(survey, pair)) for pair in leaking.tolist()),
        )


def _brought_split(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Groups and near-duplicates on both sides of the split that the data brings along."""
    given = [COLUMN_NAMES.get((split or "").lower()) for split in survey.records["split"].to_pylist()]
    held_out = np.array([split in ("val", "test") for split in given], dtype=bool)
    train = np.array([split == "train" for split in given], dtype=bool)
    if not (held_out.any() and train.any()):
        return
    groups = np.unique(survey.groups, return_inverse=True)[1]
    both = np.intersect1d(groups[held_out], groups[train])
    kin = copies_between(copies.looks, np.flatnonzero(held_out), np.flatnonzero(train)).nearest
    copied = len(kin.left)
    grouped = int((held_out & np.isin(groups, both)).sum())
    if grouped or copied:
        yield Finding(
            "split_leak",
            f"The split that the data brings along leaks: {max(grouped, copied):,} of {int(held_out.sum()):,} records"
            " held out have kin in training",
            f"{grouped:,} share a group with a training record, {copied:,} look like one. Their figures say how well a"
            " model remembers, not how well it knows a new picture.",
            "Take split.by: hash, stratified or blocks, which keep groups together, and compare.",
            max(grouped, copied),
            each_once(of_records(survey, pair, _splits_of(survey, pair)) for pair in zip(*kin[:2], strict=True))
            or _shared_groups(survey, groups, both),
        )


def _splits_of(survey: Survey, pair: Sequence[int]) -> str:
    rows = sorted(pair, key=lambda row: survey.ids[row])
    return " / ".join(str(survey.records["split"][row].as_py()) for row in rows)


def _shared_groups(survey: Survey, groups: NDArray[np.int64], both: NDArray[np.int64]) -> tuple[Example, ...]:
    rows = [np.flatnonzero(groups == group) for group in both[:20]]
    return first(Example((survey.ids[its[0]],), f"group {survey.groups[its[0]]}") for its in rows)
