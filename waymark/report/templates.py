"""What all pages share: their style, their script, and figures inside them."""

from base64 import b64encode
from functools import cache
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from waymark.report.digits import shown, shown_interval
from waymark.report.wording import confidence_in_words

FOLDER = Path(__file__).parent

CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,  # Plotly's own default is a button that sends the figure to its cloud
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "scrollZoom": False,
}


def template(name: str, folder: Path = FOLDER) -> Template:
    """Load a template of a folder; it may extend the report's `base.html`, and styles in the folder are added."""
    return _environment(folder).get_template(name)


def embedded(drawn: go.Figure, div_id: str, *, height: str = "420px", still: bool = False) -> Markup:
    """A figure as HTML without Plotly's script, which is in the head of the page once."""
    html = drawn.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=div_id,
        config={**CONFIG, "staticPlot": still},
        default_height=height,
        validate=False,
    )
    return Markup(html)


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = [FOLDER / "style.css", *(path for path in sorted(folder.glob("*.css")) if folder != FOLDER)]
    # Written by Plotly and by us, never by a user: the only text besides figures that is not escaped.
    environment.globals["plotly_script"] = Markup(get_plotlyjs())
    environment.globals["style"] = Markup("\n".join(path.read_text(encoding="utf-8") for path in styles))
    environment.filters["picture_uri"] = _picture_uri
    environment.filters["confidence_in_words"] = confidence_in_words
    environment.filters["shown"] = shown
    environment.filters["shown_interval"] = shown_interval
    return environment


def _picture_uri(encoded: bytes) -> str:
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{b64encode(encoded).decode('ascii')}"
