"""Landmarks with too few pictures, and pictures that do not look like their landmark."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from waymark.check.findings import MOST_EXAMPLES, Example, Finding, counted, first
from waymark.check.similarity import stranger_than_others
from waymark.check.survey import Survey

GENERIC_RATIO = 1.15  # ratio of distances from which a picture counts as more similar to other landmarks
STANDS_OUT = 1.4  # times the median ratio of its landmark
FEWEST = 5  # pictures that a landmark needs for one to stand out


def generic_views(survey: Survey) -> NDArray[np.float64]:
    """Compute how much closer generic pictures are to other landmarks than to their own, `(V,)`; 0 for all others."""
    views = survey.views
    ratio = np.zeros(len(views.record))
    if len(views.compared):
        rows = views.record[views.compared]
        classes = np.unique([str(survey.labels[row]) for row in rows], return_inverse=True)[1]
        groups = np.unique([survey.groups[row] for row in rows], return_inverse=True)[1]
        ratio[views.compared] = _outstanding(stranger_than_others(views.descriptor, classes, groups), classes)
    return ratio


def _outstanding(ratio: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Keep the ratios of pictures that also stand out from their own class; all others become 0.

    If most pictures of a landmark look like others, colours and edges do not distinguish it, and flag none of them.
    """
    standing = np.zeros(len(ratio))
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        if len(rows) >= FEWEST:
            limit = max(GENERIC_RATIO, STANDS_OUT * float(np.median(ratio[rows])))
            standing[rows] = np.where(ratio[rows] >= limit, ratio[rows], 0)
    return standing


def class_findings(survey: Survey, ratio: NDArray[np.float64], *, min_images: int | None) -> Iterator[Finding]:
    """Report landmarks that are too small for the filter, and generic pictures."""
    counts = Counter(label for label in survey.labels if label is not None)
    few = {label: count for label, count in counts.items() if count < (min_images or 2)}
    if few:
        limit = f"min_images, {min_images}" if min_images else "two"
        yield Finding(
            "small_classes",
            f"{counted(len(few), 'landmark')} of {len(counts):,} with fewer pictures than {limit}",
            "A landmark with one picture cannot be in both train and test. "
            + ("The filter drops those below min_images." if min_images else "Set filter.min_images to drop them."),
            "Add pictures, or set filter.min_images lower to keep them.",
            len(few),
            first(Example((label,), counted(count, "picture")) for label, count in few.items()),
            needs_look=False,
        )
    yield from _generic(survey, ratio)


def _generic(survey: Survey, ratio: NDArray[np.float64]) -> Iterator[Finding]:
    views = survey.views
    flagged = np.flatnonzero(ratio).tolist()
    if flagged:
        most = sorted(flagged, key=lambda number: (-ratio[number], views.path[number]))[:MOST_EXAMPLES]
        yield Finding(
            "generic",
            f"{counted(len(flagged), 'picture')}: more similar to other landmarks than to their own",
            "Judged by colours and edges alone, which is crude: a photo at night or from inside is flagged like a photo"
            " of somebody's lunch, and a wrong one of the right colours is not. The most extreme are shown first;"
            " they have a red frame on the contact sheet of their landmark.",
            "Review the framed pictures; list the records that do not show their landmark in filter.exclude.",
            len(flagged),
            first(
                Example(
                    (survey.ids[views.record[number]],),
                    f"landmark {survey.labels[views.record[number]]}, others are {ratio[number]:.1f} times nearer",
                    (views.path[number],),
                )
                for number in most
            ),
            needs_look=False,
        )
