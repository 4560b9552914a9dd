"""The page of a check: one HTML file with its styles, scripts and pictures inside."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from waymark.check.findings import MOST_EXAMPLES, Check
from waymark.check.sheets import Cells, Sheet
from waymark.report import counts
from waymark.report.templates import embedded, template

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Content(Check):
    """Content of the page, in addition to the result of the check.

    Attributes:
        title: heading of the page.
        description: of the source.
        settings: parameters of the filter, by name.
        places: map of the records, or None.
        landmarks: columns `landmark`, `name`, `images`.
        too_few: number of landmarks with fewer than `min_images`.
        read: the source's counts, by name.
        statuses: number of pictures by status.
        sides: number of records by the shorter side of their picture.
        orientations: number of records by orientation.
        class_sheets: contact sheets of the landmarks.
        cells: contact sheets of the cells.
        thumbnails: JPEGs by path.
    """

    title: str
    description: str
    settings: Mapping[str, str]
    places: go.Figure | None
    landmarks: pd.DataFrame
    too_few: int
    read: Mapping[str, int]
    statuses: Counter[str]
    sides: Mapping[str, int]
    orientations: Mapping[str, int]
    class_sheets: Sequence[Sheet]
    cells: Cells
    thumbnails: Mapping[str, bytes]


def check_page(content: Content) -> str:
    """Render the check as one page.

    Returns:
        HTML without external resources; the same bytes for the same content.
    """
    plots = {}
    if content.places is not None:
        plots["places"] = embedded(content.places, "plot-places")
    if content.dropped:
        drawn = counts.dropped_reasons(content.dropped)
        plots["dropped"] = embedded(drawn, "plot-dropped", still=True)
    if len(content.landmarks):
        plots["landmarks"] = embedded(counts.landmark_histogram(content.landmarks), "plot-landmarks")
    for name in ("sides", "orientations"):
        if numbers := getattr(content, name):
            plots[name] = embedded(counts.split_counts(numbers), f"plot-{name}", still=True)
    return template("check.html", HERE).render(
        content=content,
        title=content.title,
        most_examples=MOST_EXAMPLES,
        plots=plots,
        look=[finding for finding in content.findings if finding.needs_look],
        know=[finding for finding in content.findings if not finding.needs_look],
    )
