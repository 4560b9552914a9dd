import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_frames as made

from waymark.data.leakage import Finding, Leakage
from waymark.report import maps
from waymark.report.content import Guess, Picture, Report
from waymark.report.data import Data
from waymark.report.digits import shown, shown_interval
from waymark.report.page import map_page, report_page
from waymark.report.tables import best_model, model_tables

COPY = ("record_id", "split", "train_record_id", "bits")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Seen(HTMLParser):
    """Tags with their attributes, text outside scripts, and the text of each script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.scripts, self._within = [], "", [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, data):
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.text += data


@pytest.fixture(scope="module")
def report():
    return made.report()


@pytest.fixture(scope="module")
def page(report):
    return report_page(report)


def nowhere(frame):
    truth = [name for name in frame if name.endswith(("_km", "latitude", "longitude"))]
    return frame.assign(**dict.fromkeys(truth))


@pytest.mark.parametrize("kind", ["report", "map"])
def test_a_page_loads_nothing_from_elsewhere(kind, page):
    if kind == "map":
        page = map_page(maps.error_map(made.predictions(30), made.region()), title="Errors")
    seen = Seen(page)
    for tag, attributes in seen.tags:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert sum("plotly.js v" in script[:300] for script in seen.scripts) == 1
    assert not any("http" in script for script in seen.scripts if "plotly.js v" not in script[:300])
    assert "@import" not in page.partition("<script>")[0]
    assert "url(" not in page.partition("<script>")[0]
    policy = next(attributes["content"] for tag, attributes in seen.tags if "http-equiv" in attributes)
    assert "default-src 'none'" in policy


def test_no_figure_offers_to_send_itself_to_a_cloud(page):
    assert '"showSendToCloud": true' not in page
    assert page.count('"showSendToCloud": false') == page.count('class="plotly-graph-div"')


@pytest.mark.slow
def test_the_same_report_gives_the_same_bytes(page):
    script = Path(made.__file__)
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])}
        command = [sys.executable, str(script), "/dev/stdout"]
        again = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
        assert again.stdout.decode() == page


def test_hostile_names_stay_text(report, page):
    model = made.model("cells", 60)
    model = replace(
        model,
        name=HOSTILE,
        settings={HOSTILE: HOSTILE},
        predictions=model.predictions.assign(record_id=[f"{HOSTILE}{n}" for n in range(60)]),
        curves=model.curves.assign(model=HOSTILE),
        worst=[Guess(HOSTILE, 9.0, 1, 2, 3, 4, 5, [Picture(made.picture(1), HOSTILE)])],
        by_cell=model.by_cell.assign(cell=HOSTILE),
        by_region=made.by_region().assign(region=HOSTILE),
        filters=Picture(made.drawing(1), HOSTILE),
    )
    data = replace(
        report.data,
        landmarks=made.landmarks(12).assign(name=HOSTILE),
        places=report.data.places.assign(split=HOSTILE),
        **{key: {HOSTILE: 1} for key in ("records", "dropped", "quarantined", "splits")},
        facts={HOSTILE: HOSTILE},
    )
    source = {
        **dict.fromkeys(("name", "title", "description", "licence"), HOSTILE),
        "counts": {HOSTILE: 1},
        "made_up": True,
    }
    grid = replace(report.grids[0], name=HOSTILE, spacing=HOSTILE, crs=HOSTILE, oracle_mean_km={HOSTILE: 1.0})
    split = made.block_split(HOSTILE)
    hostile = report_page(
        Report(
            source, data, made.region(), [grid], [model, replace(model, name="b")],
            [made.pair(HOSTILE, "b", (1.5, 1.4, 1.6))],
            [replace(split, found={**split.found, "records": {HOSTILE: 1}, "meaning": HOSTILE})],
            Leakage({HOSTILE: {}}, [dict.fromkeys(COPY, HOSTILE)], [Finding("leak", HOSTILE, HOSTILE)]),
        )
    )  # fmt: skip
    seen, harmless = Seen(hostile), Seen(page)
    assert len(seen.scripts) == len(harmless.scripts)
    assert not any("onerror" in attributes for _, attributes in seen.tags)
    assert HOSTILE in seen.text
    for script in seen.scripts:
        if "plotly.js v" not in script[:300]:
            assert "<script" not in script
            # Plotly reads tags in its texts: what is meant as text has its brackets as entities.
            assert "\\u003cimg" not in script


def test_a_hostile_title_of_a_map_stays_text():
    seen = Seen(map_page(maps.error_map(made.predictions(9), title=HOSTILE), title=HOSTILE))
    assert len(seen.scripts) == 2
    assert HOSTILE in seen.text


def test_tables_show_the_figures_given(report, page):
    distances, shares = model_tables(report.models)
    for table in (distances, shares):
        for split, rows in table.groups.items():
            for row, model in zip(rows, report.models, strict=False):
                for column, cell in zip(table.columns, row.cells, strict=True):
                    if column.key != "times_constant":
                        value = model.metrics[split][column.key]
                        assert cell.text == shown(value, column.kind)
                        assert float(cell.exact) == value
                        small = f"<small>{cell.beside}</small>" if cell.beside else ""
                        assert f'<td title="{cell.exact}">{cell.text}{small}</td>' in page
                        assert cell.beside == shown_interval(model.intervals[split].get(column.key), column.kind)
                        assert bool(cell.beside) == (column.key != "records" and value > 0)
    ratio = distances.groups["test"][0].cells[2]
    figures = report.models[0].metrics["test"]
    assert float(ratio.exact) == figures["mean_km"] / figures["constant_mean_km"]


def test_references_stand_beside_the_models_and_the_best_on_val_is_marked(report):
    rows = model_tables(report.models)[0].groups["test"]
    assert [row.name for row in rows] == ["cells", "coordinates", "constant baseline", "oracle floor"]
    assert [row.best for row in rows] == [True, False, False, False]
    assert rows[3].cells[1].text == "7.25"
    other = replace(report.models[1], metrics={"test": {**report.models[1].metrics["test"], "oracle_mean_km": 3.0}})
    rows = model_tables([report.models[0], other])[0].groups["test"]
    assert [row.name for row in rows][-2:] == ["oracle floor (cells)", "oracle floor (coordinates)"]


def test_missing_figures_are_dashes_and_unknown_ones_are_let_be():
    model = replace(made.model("m", 20), metrics={"val": {"mean_km": None, "top1": 0.5, "zest": 3}, "test": {}})
    (table,) = model_tables([model])
    assert [cell.text for cell in table.groups["val"][0].cells] == ["–", "50.0 %", "–", "–", "–", "–"]
    assert "test" not in table.groups
    assert best_model([model], "mean_km") is None
    assert shown(float("nan"), "share") == "–"


def test_made_up_data_is_said_to_be_so(report, page):
    assert "Made-up data." in page
    honest = report_page(replace(report, models=[], source={**report.source, "made_up": False}))
    assert "Made-up data." not in honest
    assert "No model has been evaluated." in honest


def test_a_report_without_places_has_no_maps_and_no_empty_panels(report):
    model = made.model("arcface", 40)
    model = replace(
        model, predictions=nowhere(model.predictions), curves=None, best=(), worst=(), intervals={}, by_cell=None,
        by_region=made.by_region().head(0), reliability=None, radii=made.radii().head(0), risk=None,
        nearness=made.nearness().head(0), filters=None, feature_maps=(),
        metrics={split: {"records": 0, "mean_km": None, "gap": 0.612, "queries": 40} for split in ("val", "test")},
    )  # fmt: skip
    data = Data({"raw": 40}, splits={"train": 30, "test": 10}, places=nowhere(made.places(40)))
    seen = Seen(report_page(Report({"name": "table", "description": "", "counts": {}}, data, models=[model])))
    plots = [attributes["id"] for _, attributes in seen.tags if attributes.get("class") == "plotly-graph-div"]
    assert plots == ["plot-splits"]
    assert "0.612" in seen.text


@pytest.mark.parametrize(("number", "models"), [(62, 1), (400, 10)])
def test_reports_of_few_and_many(number, models):
    made_models = [made.model(f"model {index}", number, seed=index) for index in range(models)]
    seen = Seen(report_page(replace(made.report(made_models), region=None)))
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert sum(name.endswith("-map") for name in ids) == models


def test_thirty_thousand_records_stay_a_page_that_opens():
    model = replace(made.model("cells", 100), predictions=made.world(30_000))
    page = report_page(replace(made.report([model]), region=made.world_region()))
    assert len(page) < 12_000_000


def test_guesses_bring_their_pictures(report, page):
    images = [attributes for tag, attributes in Seen(page).tags if tag == "img"]
    jpeg = [image for image in images if image["src"].startswith("data:image/jpeg;base64,/9j/")]
    png = [image for image in images if image["src"].startswith("data:image/png;base64,iVBOR")]
    assert len(jpeg) == 2 * 2 * 4 * 4  # models, best and worst, guesses, views
    assert [image["alt"] for image in png] == ["filters of the first layer", "layer1", "layer4"] * 2
    assert len(images) == len(jpeg) + len(png)
    unsure = Guess("a", 1.0, 1, 2, 3, 4, np.nan)
    assert "90 % radius –" not in report_page(replace(report, models=[replace(report.models[0], best=[unsure])]))


def test_a_cell_of_pandas_counts_is_found_in_the_grid(report):
    counted = pd.Series([3, 3, 7]).value_counts().to_dict()
    page = report_page(replace(report, models=[], grids=[replace(report.grids[0], training_counts=counted)]))
    assert "<dt>cells with training records</dt><dd>2</dd>" in page


def of_class(page, name):
    return [attributes["id"] for _, attributes in Seen(page).tags if attributes.get("class") == name]


def test_a_model_is_looked_into(page):
    drawn = of_class(page, "plotly-graph-div")
    for plot in ("map", "cells", "radius", "reliability", "radii", "risk", "nearness", "curves"):
        assert f"plot-model-1-{plot}" in drawn, plot
        assert f"plot-model-2-{plot}" in drawn, plot
    text = Seen(page).text
    assert "Expected calibration error: " + shown(made.model("cells", spread=0.4).reliability.ece, "share") in text
    assert text.count("What the network sees") == 2


def test_details_are_folded_and_the_figures_that_matter_are_not(report, page):
    folded = "".join(part.partition("</details>")[0] for part in page.partition("<main>")[2].split("<details>")[1:])
    assert "Share of records placed within a distance" in folded
    assert "plot-model-1-risk" in folded
    for name in ("Distance to the truth", "plot-distances", "Against cells", "plot-block-split-1", "plot-model-1-map"):
        assert name in page
        assert name not in folded, name


def test_the_headline_says_how_sure_it_is(report, page):
    headline = page.partition('class="headline"')[2].partition("</section>")[0].partition("<section")[0]
    for key, kind in (("mean_km", "km"), ("times_constant", "ratio"), ("coverage_90", "share")):
        assert f"95 % interval {shown_interval(report.models[0].intervals['test'][key], kind)}" in headline
    bare = [replace(model, intervals={}) for model in report.models]
    assert "95 % interval" not in report_page(replace(report, models=bare)).partition("<section")[0]


def test_both_splits_stand_side_by_side(report, page):
    text = " ".join(Seen(page).text.split())
    assert "1.62 × the error (95 % interval 1.41–1.83). Apart from its training places it errs farther." in text
    assert "<dt>side of a block</dt><dd>20 km</dd>" in page
    several = report_page(replace(report, block_splits=[made.block_split("cells"), made.block_split("coordinates")]))
    assert of_class(several, "block-split") == ["block-split-1", "block-split-2"]
    assert "Random against block split: coordinates" in several
    split = made.block_split("cells")
    nothing = replace(split, found={**split.found, "ratio": None}, blocks=made.side(1, 1, number=0))
    page = report_page(replace(report, block_splits=[nothing]))
    assert "plot-block-split-1" not in page
    assert "Random against block split" not in report_page(replace(report, block_splits=[]))


def test_leaks_are_named_with_their_remedy(report, page):
    text = " ".join(Seen(page).text.split())
    assert "Groups are split apart. Use split.by: blocks." in text
    assert '<th scope="row">place-00007</th><td>test</td><td>place-00009</td><td>2</td>' in page
    assert 'class="verdict leak">leak<' in page
    assert "leakage" not in report_page(replace(report, leakage=None))
