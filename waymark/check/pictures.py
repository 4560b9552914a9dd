"""What is wrong with single pictures: unreadable, missing, even, small."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from waymark.check.findings import Example, Finding, counted, first
from waymark.check.survey import Survey

ALMOST_EVEN = 0.9  # share of pixels of one colour from which a picture shows nothing
SMALL_PX = 224  # side that pretrained backbones were taught with

MEANING = {
    "unreadable": "no picture, or broken inside",
    "truncated": "the end of the file is missing",
    "giant": "more pixels than resize.max_pixels, or more memory to decode them",
    "crashed": "ended or hung its decoder",
}


def picture_findings(survey: Survey) -> Iterator[Finding]:
    """Name pictures that cannot be used, or that show nothing."""
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
        f"{listed}. The stage resize sets them aside, and stops where they are more than resize.max_quarantined.",
        "Copy the files again from the camera or the source, or name their records in filter.exclude.",
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
            "Put the files where the source names them (capital letters count), or take their rows out.",
            len(missing),
            first(Example((survey.ids[views.record[number]],), views.path[number]) for number in missing),
        )


def _missing_views(survey: Survey) -> Iterator[Finding]:
    """Records with headings that lack one of those that most others have.

    Photos without a heading stand for themselves and lack nothing.
    """
    headings: dict[int, set[float]] = defaultdict(set)
    views = survey.views
    for number in np.flatnonzero(~np.isnan(views.heading_deg)).tolist():
        headings[int(views.record[number])].add(float(views.heading_deg[number]))
    if not headings:
        return
    usual_number = Counter(map(len, headings.values())).most_common(1)[0][0]
    usual = Counter(tuple(sorted(its)) for its in headings.values() if len(its) == usual_number).most_common(1)[0]
    named = usual[1] > len(headings) / 2  # the same headings everywhere, such as 0, 90, 180, 270
    short = {row: its for row, its in headings.items() if len(its) < usual_number}
    if short:
        yield Finding(
            "missing_views",
            f"{counted(len(short), 'record')} with fewer than {usual_number} views",
            f"{counted(usual_number, 'view')} are usual here. A model that joins views sees nothing in their place.",
            "Fetch the missing views, or choose with download.quads.missing_views whether such places are kept with"
            " the view masked, or dropped.",
            len(short),
            first(
                Example((survey.ids[row],), _lacking(its, usual[0] if named else ()), survey.paths_of(row)[:4])
                for row, its in short.items()
            ),
        )


def _lacking(its: set[float], usual: tuple[float, ...]) -> str:
    lacking = [f"{heading:g}°" for heading in usual if heading not in its]
    return f"has {counted(len(its), 'view')}" + (f", lacks {', '.join(lacking)}" if lacking else "")


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
            f"Their shorter side is less than the {SMALL_PX} px that pretrained networks were taught with; they are"
            " enlarged to resize.size_px and show no more detail.",
            "Fetch larger ones if there are any, or set resize.size_px no larger than the pictures are.",
            len(small),
            first(Example((survey.ids[row],), f"{shorter[row]} px", survey.paths_of(row)[:1]) for row in small),
            needs_look=False,
        )
