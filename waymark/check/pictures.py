"""Faults of single pictures: unreadable, missing, blank, small."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from waymark.check.findings import Example, Finding, counted, first
from waymark.check.survey import Survey

ALMOST_EVEN = 0.9  # share of pixels of one colour from which a picture counts as blank
SMALL_PX = 224  # side that pretrained backbones were trained with

MEANING = {
    "unreadable": "not a picture, or corrupt",
    "truncated": "the end of the file is missing",
    "giant": "more pixels than resize.max_pixels, or more memory to decode them",
    "crashed": "crashed or hung the decoder",
}


def picture_findings(survey: Survey) -> Iterator[Finding]:
    """Report pictures that cannot be used, or that show nothing."""
    yield from _undecodable(survey)
    yield from _missing_files(survey)
    yield from _missing_views(survey)
    yield from _even(survey)
    yield from _small(survey)


def _undecodable(survey: Survey) -> Iterator[Finding]:
    views = survey.views
    broken = [number for number, status in enumerate(views.status) if status not in ("ok", "missing")]
    if not broken:
        return
    kinds = Counter(views.status[number] for number in broken)
    listed = "; ".join(f"{count:,} {status} ({MEANING[status]})" for status, count in kinds.most_common())
    yield Finding(
        "undecodable",
        f"{counted(len(broken), 'picture')} cannot be decoded",
        f"{listed}. The stage resize quarantines them, and fails if their share exceeds resize.max_quarantined.",
        "Copy the files again from the camera or the source, or list their records in filter.exclude.",
        len(broken),
        first(
            Example(
                (survey.ids[views.record[number]],),
                f"{views.path[number]}: {views.status[number]}, {views.reason[number]}",
            )
            for number in broken
        ),
    )


def _missing_files(survey: Survey) -> Iterator[Finding]:
    views = survey.views
    missing = [number for number, status in enumerate(views.status) if status == "missing"]
    if missing:
        yield Finding(
            "missing_files",
            f"{counted(len(missing), 'picture')} listed but not there",
            "The record is kept without this picture; the model sees an empty view.",
            "Put the files where the source expects them (names are case-sensitive), or remove their rows.",
            len(missing),
            first(Example((survey.ids[views.record[number]],), views.path[number]) for number in missing),
        )


def _missing_views(survey: Survey) -> Iterator[Finding]:
    """Report records that lack headings that most others have.

    Photos without a heading are complete.
    """
    headings: dict[int, set[float]] = defaultdict(set)
    views = survey.views
    for number in np.flatnonzero(~np.isnan(views.heading_deg)).tolist():
        headings[int(views.record[number])].add(float(views.heading_deg[number]))
    if not headings:
        return
    usual_number = Counter(map(len, headings.values())).most_common(1)[0][0]
    full = [tuple(sorted(present)) for present in headings.values() if len(present) == usual_number]
    usual = Counter(full).most_common(1)[0]
    named = usual[1] > len(headings) / 2  # the same headings everywhere, such as 0, 90, 180, 270
    short = {row: present for row, present in headings.items() if len(present) < usual_number}
    if short:
        yield Finding(
            "missing_views",
            f"{counted(len(short), 'record')} with fewer than {usual_number} views",
            f"{counted(usual_number, 'view')} are usual here. A model that joins views sees an empty one instead.",
            "Fetch the missing views, or set download.quads.missing_views to keep such places with the view masked, or"
            " to drop them.",
            len(short),
            first(
                Example((survey.ids[row],), _lacking(present, usual[0] if named else ()), survey.paths_of(row)[:4])
                for row, present in short.items()
            ),
        )


def _lacking(present: set[float], usual: tuple[float, ...]) -> str:
    lacking = [f"{heading:g}°" for heading in usual if heading not in present]
    return f"has {counted(len(present), 'view')}" + (f", lacks {', '.join(lacking)}" if lacking else "")


def _even(survey: Survey) -> Iterator[Finding]:
    views = survey.views
    even = np.flatnonzero(views.decoded & (views.evenness >= ALMOST_EVEN)).tolist()
    if even:
        yield Finding(
            "even",
            f"{counted(len(even), 'picture')} of almost one colour",
            f"At least {ALMOST_EVEN:.0%} of their pixels are the same: a notice such as “no imagery here”, a covered"
            " lens, a black frame. Night and fog can look like this too.",
            "Look at them. If they show nothing, delete them or name their records in filter.exclude.",
            len(even),
            first(
                Example(
                    (survey.ids[views.record[number]],),
                    f"{views.evenness[number]:.0%} of one colour",
                    (views.path[number],),
                )
                for number in even
            ),
        )


def _small(survey: Survey) -> Iterator[Finding]:
    shorter = pc.min_element_wise(survey.records["width"], survey.records["height"]).to_pylist()
    small = [row for row, side in enumerate(shorter) if side is not None and side < SMALL_PX]
    if small:
        yield Finding(
            "small",
            f"{counted(len(small), 'record')} with pictures smaller than {SMALL_PX} pixels",
            f"Their shorter side is less than the {SMALL_PX} px that pretrained networks were trained with; they are"
            " enlarged to resize.size_px and show no more detail.",
            "Fetch larger ones if available, or set resize.size_px no larger than the pictures.",
            len(small),
            first(Example((survey.ids[row],), f"{shorter[row]} px", survey.paths_of(row)[:1]) for row in small),
            needs_look=False,
        )
