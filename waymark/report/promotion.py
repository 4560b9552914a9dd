"""Why a challenger was promoted or refused, as a page and in Markdown."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from waymark.metrics.risk import answer_curve
from waymark.report.certainty import precision_plot
from waymark.report.digits import MISSING, shown, shown_interval
from waymark.report.maps import error_map
from waymark.report.plots import error_distribution
from waymark.report.templates import embedded, template

WORDS = {
    "rolled back": "no rollback",
    "exposure": "what they have seen is known",
    "leaks": "no leak",
    "records": "enough records",
    "smoke": "it works",
    "better": "it is better",
    "slices": "no slice pays",
    "latency": "fast enough",
}
HEADINGS = ("slice", "records", "champion", "challenger", "loss", "interval", "")

Document = Mapping[str, Any]


def promotion_markdown(document: Document) -> str:
    """Say why a challenger was promoted or refused.

    Args:
        document: `model`, `challenger`, `champion`, `at`, `question`, `promoted`, `reason`, `test_records`, `seen`,
            `gate` and `checks` (`name`, `passed`, `line`, `figures`).
    """
    parts = [f"# {_title(document)}", document["reason"], "| check | | found |\n|---|---|---|"]
    parts[-1] += "".join(f"\n| {name} | {mark} | {_escaped(line)} |" for name, mark, line in _checks(document))
    if rows := _slices(document):
        parts += [f"## Slices\n\n| {' | '.join(HEADINGS)} |\n|---|{'---:|' * 5}---|"]
        parts[-1] += "".join(f"\n| {' | '.join(map(_escaped, row))} |" for row in rows)
    parts += ["## What it rests on", "\n".join(f"- {name}: {value}" for name, value in _facts(document).items())]
    return "\n\n".join(parts) + "\n"


def promotion_page(document: Document, rows: Mapping[str, pd.DataFrame]) -> str:
    """The same as a page, with the answers of both as curves and the challenger's on a map.

    Args:
        document: see `promotion_markdown`.
        rows: answers of `challenger` and `champion` in the columns of predictions.parquet; empty where nothing was
            scored.
    """
    return template("promotion.html").render(
        title=_title(document),
        document=document,
        checks=_checks(document),
        headings=HEADINGS,
        slices=_slices(document),
        facts=_facts(document),
        plots=_plots(document, rows) if rows and len(rows["challenger"]) else {},
    )


def _title(document: Document) -> str:
    verdict = "promoted" if document["promoted"] else "refused"
    over = "" if document["champion"] is None else f", against version {document['champion']}"
    return f"{document['model']} version {document['challenger']}: {verdict}{over}"


def _checks(document: Document) -> list[tuple[str, str, str]]:
    return [
        (WORDS.get(its["name"], its["name"]), "passed" if its["passed"] else "failed", its["line"])
        for its in document["checks"]
    ]


def _slices(document: Document) -> list[tuple[str, ...]]:
    kind = "km" if document["question"] == "places" else "score"
    table: list[dict[str, Any]] = next(
        (its["figures"]["slices"] for its in document["checks"] if its["name"] == "slices"), []
    )
    return [
        (
            row["slice"],
            shown(row["records"], "count"),
            shown(row["champion"], kind),
            shown(row["challenger"], kind),
            shown(row["loss"], "share"),
            shown_interval(None if row["low"] is None else (row["low"], row["high"]), "share") or MISSING,
            "failed" if row["failed"] else "",
        )
        for row in table
    ]


def _facts(document: Document) -> dict[str, str]:
    seen = {
        f"test records that the {role} has seen": ", ".join(f"{count} by {way}" for way, count in its.items())
        for role, its in document["seen"].items()
    }
    known = {} if document["test_records"] is None else {"test records": shown(document["test_records"], "count")}
    gate = {name.replace("_", " "): f"{value:g}" for name, value in document["gate"].items()}
    return {"at": document["at"], **known, **seen, **gate}


def _plots(document: Document, rows: Mapping[str, pd.DataFrame]) -> dict[str, Markup]:
    names = {role: f"{role} (version {document[role]})" for role in ("challenger", "champion")}
    if document["question"] == "places":
        errors = {names[role]: its["distance_km"].to_numpy(dtype=float) for role, its in rows.items()}
        drawn = {"How far off": error_distribution(errors)}
        drawn["Where the challenger errs"] = error_map(rows["challenger"])
    else:
        drawn = {f"Answers of the {names[role]}": precision_plot(answer_curve(its)) for role, its in rows.items()}
    return {name: embedded(figure, f"plot-{number}") for number, (name, figure) in enumerate(drawn.items())}


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
