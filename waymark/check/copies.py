"""Duplicate pictures, and the faults that they cause."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waymark.check.findings import Example, Finding, counted, first
from waymark.check.similarity import Alike, near_duplicates
from waymark.check.survey import Survey
from waymark.data.duplicates import Looks, near_pairs
from waymark.data.filters import Dropped, exact_duplicates
from waymark.geo.sphere import great_circle_km

COPY_OF = "exact duplicate: of "
APART_KM = 10.0  # no picture shows two places at this distance
MANY_RECORDS = 5  # one picture in this many distant records is a placeholder, not a view


@dataclass(frozen=True)
class Copies:
    """Near-duplicates among a source's V pictures.

    Attributes:
        alike: the pairs.
        cluster: `(V,)` clusters of pictures that these pairs connect.
        placeholder: `(V,)` whether the same picture is in many distant records.
        looks: of the records, without placeholders.
        exact: records that the filter drops as exact copies of another.
    """

    alike: Alike
    cluster: NDArray[np.int64]
    placeholder: NDArray[np.bool_]
    looks: Looks
    exact: Dropped

    def pairs_of_records(self, survey: Survey) -> NDArray[np.int64]:
        """Find `(P, 2)` near-duplicate pictures of two different records, without placeholders."""
        left, right = self.alike.pairs.T
        two = survey.views.record[left] != survey.views.record[right]
        pairs: NDArray[np.int64] = self.alike.pairs[two & ~self.placeholder[left] & ~self.placeholder[right]]
        return pairs

    def near_records(self, survey: Survey) -> NDArray[np.int64]:
        """Find `(P, 2)` rows of records that are near-duplicates, without exact copies, which the filter drops."""
        rows = np.flatnonzero([record_id not in self.exact for record_id in survey.ids])
        found = [np.zeros((0, 2), np.int64)]
        for pairs in near_pairs(self.looks, rows, rows):
            found.append(np.column_stack([pairs.left, pairs.right])[pairs.left < pairs.right])
        return np.unique(np.concatenate(found), axis=0)


def find_copies(survey: Survey) -> Copies:
    """Compare all pictures, and all records, with each other."""
    views = survey.views
    alike = near_duplicates(views.looks)
    count = len(views.record)
    placeholder = np.zeros(count, dtype=bool)
    same = alike.clusters(count, most_bits=0)
    order = np.argsort(same, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(same[order])) + 1):
        rows = np.unique(views.record[members])
        if len(rows) >= MANY_RECORDS and _far_apart(survey, rows):
            placeholder[members] = True
    exact = exact_duplicates(survey.records, survey.digests())
    return Copies(alike, alike.clusters(count), placeholder, _looks_of_records(survey, ~placeholder), exact)


def _looks_of_records(survey: Survey, wanted: NDArray[np.bool_]) -> Looks:
    """Arrange the pictures by record and by their position in it."""
    record, pictures = survey.views.record, survey.views.looks
    position = np.arange(len(record)) - np.searchsorted(record, record)
    shape = (len(survey.ids), int(position.max(initial=0)) + 1)
    looks = Looks(np.zeros(shape, np.uint64), np.zeros(shape, bool), np.zeros((*shape, 3)), np.zeros((*shape, 3)))
    looks.hashes[record, position] = pictures.hashes[:, 0]
    looks.seen[record, position] = pictures.seen[:, 0] & wanted
    looks.mean[record, position] = pictures.mean[:, 0]
    looks.std[record, position] = pictures.std[:, 0]
    return looks


def _far_apart(survey: Survey, rows: NDArray[np.int64]) -> bool:
    """Check whether many of the records are at distant places or have different landmarks."""
    labels = {survey.labels[row] for row in rows.tolist()} - {None}
    places = survey.lat_lon[rows]
    places = places[np.isfinite(places).all(axis=1)]
    apart_km = great_circle_km(places, places[:1]) if len(places) else np.zeros(1)
    return len(labels) >= MANY_RECORDS or bool((apart_km > APART_KM).sum() >= MANY_RECORDS - 1)


def copy_findings(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Report placeholders, duplicates, and pictures with two places or two landmarks."""
    yield from _placeholders(survey, copies)
    yield from _contradictions(survey, copies)
    yield from _exact(survey, copies)
    yield from _within_record(survey, copies)
    yield from _near(survey, copies)


def _placeholders(survey: Survey, copies: Copies) -> Iterator[Finding]:
    views = survey.views
    if not (count := int(copies.placeholder.sum())):
        return
    clusters = defaultdict(list)
    for number in np.flatnonzero(copies.placeholder).tolist():
        clusters[int(copies.cluster[number])].append(number)
    yield Finding(
        "placeholders",
        f"{counted(count, 'picture')}: the same one in many distant records",
        "No view is the same in many places: it is a placeholder such as “no imagery here”, a logo or a test picture."
        " A model would learn to answer the centre of these places for it.",
        "Delete these files, so that they count as missing views, or list the records in filter.exclude.",
        count,
        first(
            Example(
                tuple(dict.fromkeys(survey.ids[views.record[number]] for number in members))[:3],
                f"the same picture {counted(len(members), 'time')}",
                (views.path[members[0]],),
            )
            for members in clusters.values()
        ),
    )


def pair_of(survey: Survey, pair: Sequence[int], detail: str) -> Example:
    """Make an example of two pictures."""
    named = sorted((survey.ids[int(survey.views.record[number])], number) for number in pair)
    ids = tuple(dict.fromkeys(record_id for record_id, _ in named))
    return Example(ids, detail, tuple(survey.views.path[number] for _, number in named))


def of_records(survey: Survey, pair: Sequence[int], detail: str) -> Example:
    """Make an example of two records, with their first pictures."""
    rows = sorted(pair, key=lambda row: survey.ids[row])
    return Example(tuple(survey.ids[row] for row in rows), detail, tuple(survey.paths_of(row)[0] for row in rows))


def each_once(examples: Iterator[Example]) -> tuple[Example, ...]:
    """Return the first examples, one for each first record, because all frames of a clip are near-duplicates."""
    once: dict[str, Example] = {}
    for example in sorted(examples, key=lambda example: example.record_ids):
        once.setdefault(example.record_ids[0], example)
    return first(once.values())


def rows_of(survey: Survey, pair: Sequence[int]) -> list[int]:
    """Return the rows of the records of two pictures, in the order of their ids."""
    return sorted((int(survey.views.record[number]) for number in pair), key=lambda row: survey.ids[row])


def groups_of(survey: Survey, pair: Sequence[int]) -> str:
    """Describe the groups of two records."""
    given = [survey.records["group"][row].as_py() for row in sorted(pair, key=lambda row: survey.ids[row])]
    return "groups " + " / ".join("none" if group is None else str(group) for group in given)


def _contradictions(survey: Survey, copies: Copies) -> Iterator[Finding]:
    pairs = copies.pairs_of_records(survey)
    rows = survey.views.record[pairs]
    apart_km = great_circle_km(survey.lat_lon[rows[:, 0]], survey.lat_lon[rows[:, 1]])
    far = pairs[apart_km > APART_KM]
    if len(far):
        km = apart_km[apart_km > APART_KM]
        yield Finding(
            "two_places",
            f"{counted(len(np.unique(survey.views.record[far])), 'record')}: the same picture as a distant record",
            f"Near-duplicate pictures are more than {APART_KM:g} km apart; at least one of the places is wrong.",
            "Correct or remove the wrong one of each pair (filter.exclude takes record ids).",
            len(np.unique(survey.views.record[far])),
            each_once(
                pair_of(survey, pair, f"{off:,.0f} km apart") for pair, off in zip(far.tolist(), km, strict=True)
            ),
        )
    labels = np.array([label or "" for label in survey.labels])[rows]
    other = pairs[(labels[:, 0] != labels[:, 1]) & (labels != "").all(axis=1)]
    if len(other):
        yield Finding(
            "two_landmarks",
            f"{counted(len(np.unique(survey.views.record[other])), 'record')}: the same picture with another landmark",
            "Near-duplicate pictures have different landmarks; the model cannot learn both.",
            "List both landmarks in each record, or remove the wrong one (filter.exclude takes record ids).",
            len(np.unique(survey.views.record[other])),
            each_once(
                pair_of(survey, pair, " / ".join(str(survey.labels[row]) for row in rows_of(survey, pair)))
                for pair in other.tolist()
            ),
        )


def _exact(survey: Survey, copies: Copies) -> Iterator[Finding]:
    if dropped := copies.exact:
        row_of = {record_id: row for row, record_id in enumerate(survey.ids)}
        yield Finding(
            "exact_duplicates",
            f"{counted(len(dropped), 'record')}: exact copies of another",
            "Their files are the same, byte for byte. The filter keeps the first of them by id.",
            "Nothing to do, unless a copy has another place or landmark than the one that is kept.",
            len(dropped),
            first(
                Example(
                    (record_id, reason.removeprefix(COPY_OF)), "the same file", survey.paths_of(row_of[record_id])[:1]
                )
                for record_id, reason in dropped.items()
            ),
            needs_look=False,
        )


def _within_record(survey: Survey, copies: Copies) -> Iterator[Finding]:
    left, right = copies.alike.pairs.T
    record = survey.views.record
    twice = copies.alike.pairs[(record[left] == record[right]) & ~copies.placeholder[left]]
    if len(twice):
        rows = np.unique(record[twice])
        yield Finding(
            "same_view_twice",
            f"{counted(len(rows), 'record')} with the same picture for two views",
            "Two headings of one place cannot be the same; one was saved under the name of the other.",
            "Fetch the views of these records again, or delete the wrong file, so that it counts as missing.",
            len(rows),
            each_once(pair_of(survey, pair, "two views of one record") for pair in twice.tolist()),
        )


def _near(survey: Survey, copies: Copies) -> Iterator[Finding]:
    pairs = copies.near_records(survey)
    if len(pairs):
        yield Finding(
            "near_duplicates",
            f"{counted(len(np.unique(pairs)), 'record')}: near-duplicate of another",
            "Frames of one clip, series, pictures saved twice at different quality: within a group they are harmless,"
            " and only weigh more than others.",
            "Nothing to do if they share a group; filter.max_images caps landmarks that have very many.",
            len(np.unique(pairs)),
            each_once(of_records(survey, pair, groups_of(survey, pair)) for pair in pairs.tolist()),
            needs_look=False,
        )
