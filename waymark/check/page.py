"""The page of a check: one HTML file with its style, its script and its pictures inside."""

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import waymark.report
from waymark.check.findings import MOST_EXAMPLES, Finding
from waymark.check.sheets import Cells, Sheet
from waymark.report import counts
from waymark.report.tables import shown

HERE = Path(__file__).parent
REPORT = Path(waymark.report.__file__).parent

CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        title: heading of the page.
        source: what kind of source it is, in words.
        counts: figures for the top of the page, by name.
        findings: what was found; those that need a look come first.
        kept: number of records that the filter would keep; None where it would stop.
        stopped: why the filter would stop.
        dropped: number of records that it would drop, by reason.
        settings: parameters that the filter would be given, by name.
        places: map of the records, or None.
        landmarks: columns `landmark`, `name`, `images`.
        too_few: how many landmarks have fewer than `min_images`.
        read: what the source counted while it read, by name.
        statuses: number of pictures by status.
        sides: number of records by the shorter side of their picture.
        orientations: number of records by orientation.
        class_sheets: contact sheets of the landmarks.
        cells: contact sheets of the cells.
        thumbnails: JPEGs by path.
    """

    title: str
    source: str
    counts: Mapping[str, int]
    findings: Sequence[Finding]
    kept: int | None
    stopped: str
    dropped: Mapping[str, int]
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
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)


def check_page(content: Content) -> str:
    """The check as one page.

    Returns:
        HTML that loads nothing from elsewhere; the same bytes for the same content.
    """
    plots = {}
    if content.places is not None:
        plots["places"] = _embedded(content.places, "plot-places")
    if content.dropped:
        drawn = counts.dropped_reasons(content.dropped)
        plots["dropped"] = _embedded(drawn, "plot-dropped", still=True)
    if len(content.landmarks):
        plots["landmarks"] = _embedded(counts.landmark_histogram(content.landmarks), "plot-landmarks")
    for name in ("sides", "orientations"):
        if numbers := getattr(content, name):
            plots[name] = _embedded(counts.split_counts(numbers), f"plot-{name}", still=True)
    return (
        _environment()
        .get_template("check.html")
        .render(
            content=content,
            title=content.title,
            most_examples=MOST_EXAMPLES,
            plots=plots,
            look=[finding for finding in content.findings if finding.needs_look],
            know=[finding for finding in content.findings if not finding.needs_look],
        )
    )


def _embedded(drawn: go.Figure, div_id: str, *, still: bool = False) -> Markup:
    """A figure as HTML without Plotly's script, which stands in the head of the page once."""
    html = drawn.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=div_id,
        config={**CONFIG, "staticPlot": still},
        default_height="420px",
        validate=False,
    )
    return Markup(html)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([HERE, REPORT]),  # the report's base.html is what the page stands in
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = [file.read_text(encoding="utf-8") for file in (REPORT / "style.css", HERE / "check.css")]
    # Written by Plotly and by us, never by a user: the only text besides figures that is not escaped.
    environment.globals["plotly_script"] = Markup(get_plotlyjs())
    environment.globals["style"] = Markup("\n".join(style))
    environment.filters["jpeg_uri"] = lambda jpeg: "data:image/jpeg;base64," + b64encode(jpeg).decode("ascii")
    environment.filters["shown"] = shown
    return environment
