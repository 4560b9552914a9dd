"""Leaks: near-duplicates in different groups, and in different splits where the data define a split."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from waymark.check.copies import Copies, each_once, groups_of, of_records
from waymark.check.findings import Example, Finding, counted, first
from waymark.check.survey import Survey
from waymark.data.duplicates import copies_between
from waymark.data.splits import COLUMN_NAMES


def leak_findings(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Report near-duplicates that could be in both train and test."""
    yield from _leaks(survey, copies)
    yield from _split_leaks(survey, copies)


def _leaks(survey: Survey, copies: Copies) -> Iterator[Finding]:
    pairs = copies.near_records(survey)
    groups = np.unique(survey.groups, return_inverse=True)[1][pairs]
    leaking = pairs[groups[:, 0] != groups[:, 1]]
    if len(leaking):
        records = np.unique(leaking)
        yield Finding(
            "group_leak",
            f"{counted(len(records), 'record')}: near-duplicate of one in another group",
            "The split keeps groups together. If near-duplicates are in two groups, one may be in train and the other"
            " in test, which makes the figures too good.",
            "Put both into the same group (the column group of a table; one folder and day for photos); otherwise the"
            " stage split leaves the training copy unused (split.duplicates).",
            len(records),
            each_once(of_records(survey, pair, groups_of(survey, pair)) for pair in leaking.tolist()),
        )


def _split_leaks(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Report groups and near-duplicates on both sides of the split in the data."""
    given = [COLUMN_NAMES.get((split or "").lower()) for split in survey.records["split"].to_pylist()]
    held_out = np.array([split in ("val", "test") for split in given], dtype=bool)
    train = np.array([split == "train" for split in given], dtype=bool)
    if not (held_out.any() and train.any()):
        return
    groups = np.unique(survey.groups, return_inverse=True)[1]
    both = np.intersect1d(groups[held_out], groups[train])
    copies_in_train = copies_between(copies.looks, np.flatnonzero(held_out), np.flatnonzero(train)).nearest
    copied = len(copies_in_train.left)
    grouped = int((held_out & np.isin(groups, both)).sum())
    if grouped or copied:
        yield Finding(
            "split_leak",
            f"The split of the data leaks: {max(grouped, copied):,} of {int(held_out.sum()):,} held-out records have"
            " near-duplicates in training",
            f"{grouped:,} share a group with a training record, {copied:,} are near-duplicates of one. Their figures"
            " measure what a model memorises, not how it answers a new picture.",
            "Use split.by: hash, stratified or blocks, which keep groups together, and compare.",
            max(grouped, copied),
            each_once(
                of_records(survey, pair, _splits_of(survey, pair)) for pair in zip(*copies_in_train[:2], strict=True)
            )
            or _shared_groups(survey, groups, both),
        )


def _splits_of(survey: Survey, pair: Sequence[int]) -> str:
    rows = sorted(pair, key=lambda row: survey.ids[row])
    return " / ".join(str(survey.records["split"][row].as_py()) for row in rows)


def _shared_groups(survey: Survey, groups: NDArray[np.int64], both: NDArray[np.int64]) -> tuple[Example, ...]:
    rows = [np.flatnonzero(groups == group) for group in both[:20]]
    return first(Example((survey.ids[int(row)],), f"group {survey.groups[int(row)]}") for row, *_ in rows)
