"""What an operator sees of a run in Prefect's pages: figures, data, what became of each stage, links."""

import socket
from collections.abc import Iterable
from concurrent.futures import Future, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.engine import is_served
from flows.servers.addresses import ANYWHERE
from flows.servers.state import SETTINGS
from flows.stages.progress import Entry
from tasks.common.outputs import read_json
from tasks.registry import runs, store
from waymark.inference.lookup import BEST
from waymark.inference.references import SERVICES, is_served_from
from waymark.system.addresses import is_web
from waymark.system.checkout import checkout

REPORT = Path("reports/index.html")
COMPARISON = Path("reports/compare.json")
FILTERED = Path("data/filtered/report.json")
SPLIT = Path("data/split/records.parquet")
PLACES = ("mean_km", "median_km", "constant_mean_km", "oracle_mean_km", "coverage_90")
LANDMARKS = ("gap", "top1", "top5", "answered", "precision")
SIZE = ("parameters_millions", "checkpoint_mb", "gmacs", "images_per_second")


def show_progress(futures: dict[str, Future[Any]], changed: set[str]) -> None:
    """Keep a progress bar over the stages that changed, until all have ended."""
    if not is_served():
        return
    bar = create_progress_artifact(0.0, key="progress", description=f"{len(changed)} of {len(futures)} stages to run")
    left = {futures[stage]: stage for stage in futures if stage in changed}
    for done, future in enumerate(as_completed(list(left)), start=1):
        with suppress(httpx.HTTPError):  # a server that restarts misses a step
            update_progress_artifact(bar, progress=100 * done / len(left), description=f"{left[future]} has ended")


def write_markdown(key: str, markdown: str, description: str) -> None:
    """Show a page."""
    if is_served():
        create_markdown_artifact(markdown=markdown, key=key, description=description)


def write_ledger(entries: list[Entry], causes: str) -> None:
    """Show what became of each stage, how long it took, and why it ran or did not."""
    if is_served():
        rows = [entry._asdict() for entry in entries]
        create_table_artifact(table=rows, key="ledger", description=f"what became of each stage\n\n{causes}")


def write_results() -> None:
    """Show the figures of all models, the counts of the data, and where the report and the maps are."""
    if not is_served():
        return
    write_markdown("metrics", figures(), "figures of all models")
    write_markdown("data", data(), "what was kept of the data, and why the rest was dropped")
    comparison = read_json(COMPARISON)
    best = next((model for key in BEST.values() if (model := comparison.get(key)) is not None), None)
    if best is not None and is_web(store.tracking_uri()):
        runs.log_files(runs.run_of(best), [REPORT], "report", runs.REPORT_TAG)
    _show_page("report", "the report", REPORT, best, "report/index.html")
    if (placed := comparison.get("best_on_val")) is not None:
        page = Path("reports/details") / placed / "map.html"
        _show_page("map", f"errors of {placed} on a map", page, placed, "evaluation/map.html")


def _show_page(key: str, description: str, path: Path, model: str | None, artifact: str) -> None:
    """Link to a page where a model's run keeps it on an MLflow server; without one name the machine and the file."""
    if model is None or not is_web(store.tracking_uri()):
        return write_markdown(key, f"{description}: `{path.resolve()}` on {socket.gethostname()}", description)
    run = store.client().get_run(runs.run_of(model)).info
    link = f"{_site()}/#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/{artifact}"
    create_link_artifact(link=link, link_text=description, key=key, description=description)


def _site() -> str:
    """Return the address of MLflow's pages; by the name of this machine where others may reach them."""
    uri, known = store.tracking_uri().rstrip("/"), checkout() / SERVICES / SETTINGS
    if is_served_from(checkout(), uri) and known.exists() and read_json(known).get("MLFLOW_HOST") in ANYWHERE:
        return f"http://{socket.gethostname()}:{urlsplit(uri).port}"
    return uri


def data() -> str:
    """Count the records: what came, why some were dropped, and how the rest is split."""
    report = read_json(FILTERED)
    kept = ("kept", "with_coordinates", "with_landmark", "landmarks")
    splits = pd.read_parquet(SPLIT, columns=["split"])["split"].value_counts()
    rows = [
        ("records", report["records"]),
        *((f"dropped: {why}", count) for why, count in report["dropped"].items()),
        *((name.replace("_", " "), report[name]) for name in kept),
        *((f"split: {name}", count) for name, count in sorted(splits.items())),
    ]
    return _table(["", "count"], [[name, f"{count:,}"] for name, count in rows])


def figures() -> str:
    """Write the figures of all models and ensembles as tables, one for places and one for landmarks."""
    comparison = read_json(COMPARISON)
    sizes = {model: {**size, **_speed(model)} for model, size in comparison["size"].items()}
    rows = [
        {"model": model, "split": split, **row, **sizes.get(model, {})}
        for model, splits in {**comparison["models"], **comparison["ensembles"]}.items()
        for split, row in splits.items()
    ]
    parts = []
    for names in (PLACES, LANDMARKS):
        if known := [row for row in rows if any(row.get(name) is not None for name in names)]:
            shown = [
                [row["model"], row["split"], *(_shown(row.get(name)) for name in (*names, *SIZE))] for row in known
            ]
            parts.append(_table(["model", "split", *names, *SIZE], shown))
    return "\n".join(parts)


def _speed(model: str) -> dict[str, float]:
    """Look up how many pictures a model answered for in a second; no output has it, as it differs from run to run."""
    metrics = store.client().get_run(runs.run_of(model)).data.metrics
    return {name: metrics[name] for name in ("images_per_second",) if name in metrics}


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Write a table in Markdown, numbers to the right."""
    texts = 2 if len(head) > 2 else 1
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.3g}" if figure < 1 else f"{figure:,.1f}"
