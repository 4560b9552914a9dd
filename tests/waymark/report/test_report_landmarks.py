import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import landmark_frames as made
import numpy as np
import pandas as pd
import pytest
import report_frames

from waymark.report.certainty import precision_plot
from waymark.report.content import Confusion, LandmarkGuess, Picture, Recognition
from waymark.report.headline import badges, headlines
from waymark.report.landmark_tables import figures_of, largest_table, splits_table
from waymark.report.page import report_page
from waymark.report.tables import best_model, landmark_figures, model_tables
from waymark.report.verdict import Verdict

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Seen(HTMLParser):
    """Text outside scripts and styles, and the tags."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self._within = "", [], ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._within = tag

    def handle_endtag(self, tag):
        self._within = ""

    def handle_data(self, data):
        if self._within not in ("script", "style"):
            self.text += f" {data}"

    def plots(self):
        return [attributes["id"] for _, attributes in self.tags if attributes.get("class") == "plotly-graph-div"]


@pytest.fixture(scope="module")
def page():
    return report_page(made.report())


@pytest.fixture(scope="module")
def joint_page():
    return report_page(made.joint_report())


def section(page, number):
    return page.partition(f'<section id="model-{number}"')[2].partition("</section>")[0]


def test_a_page_of_landmarks_alone_has_no_plot_and_no_table_of_places(page):
    seen = Seen(page)
    assert seen.plots() == [
        "plot-model-1-precision", "plot-model-1-curves", "plot-model-2-precision", "plot-model-2-curves",
        "plot-splits", "plot-dropped", "plot-orientations", "plot-landmarks",
    ]  # fmt: skip
    assert "Distance to the truth" not in seen.text
    assert "there is no map" not in seen.text
    assert "km off" not in seen.text


def test_a_joint_model_stands_in_both_tables_and_each_table_has_its_best():
    joint = made.joint_report()
    distances, _, landmarks = model_tables(joint.models, joint.ensembles)
    assert [row.name for row in distances.groups["test"]][:2] == ["cells", "joint"]
    assert [row.name for row in landmarks.groups["test"]] == ["joint", "attention", "both"]
    assert [row.best for row in distances.groups["test"]][:2] == [True, False]
    assert [row.best for row in landmarks.groups["test"]] == [False, True, False]
    assert badges(joint.models) == {
        "cells": ["best on val for places"], "joint": [], "attention": ["best on val for landmarks"],
    }  # fmt: skip
    assert badges(made.report().models) == {"arcface": ["best on val"], "attention": []}
    assert best_model([report_frames.model("cells", 40)], "gap") is None


def test_the_table_of_landmarks_shows_the_figures_given_with_their_intervals():
    report = made.report()
    table = landmark_figures(report.models, report.ensembles)
    keys = [column.key for column in table.columns]
    for split, rows in table.groups.items():
        for row, entry in zip(rows, [*report.models, *report.ensembles], strict=True):
            cells = dict(zip(keys, row.cells, strict=True))
            for key in ("gap", "top1", "top5", "answered", "precision", "queries"):
                assert float(cells[key].exact) == entry.metrics[split][key], key
            low, high = entry.intervals[split]["gap"]
            assert cells["gap"].beside == f"{low:.3f}–{high:.3f}"
    assert keys[-3:] == ["parameters_millions", "checkpoint_mb", "gmacs"]
    first = dict(zip(keys, table.groups["test"][0].cells, strict=True))
    assert (first["parameters_millions"].text, first["gmacs"].text) == ("11.2", "1.82")
    unknown = [replace(report.models[0], size={"gmacs": 1.82})]
    assert [column.heading for column in landmark_figures(unknown).columns][-2:] == ["queries", "GMACs per record"]


def test_ensembles_are_marked_and_are_never_the_best_model():
    report = made.report()
    rows = landmark_figures(report.models, [replace(made.ensemble(gap=0.99), weights=[1, 2.5])]).groups["val"]
    assert rows[-1].note == "ensemble of arcface (1), attention (2.5)"
    assert [row.best for row in rows] == [True, False, False]
    places = replace(made.ensemble(), metrics=report_frames.model("cells", 60).metrics)
    distances = model_tables([report_frames.model("cells", 60)], [places])[0]
    assert [row.name for row in distances.groups["test"]] == ["cells", "both", "constant baseline", "oracle floor"]


@pytest.mark.parametrize(
    ("relevant", "words"), [("all", "all records with a landmark"), ("known", "whose landmark is known to training")]
)
def test_the_page_says_which_queries_count(relevant, words):
    model = replace(made.model("arcface"), recognition=Recognition(relevant=relevant))
    assert words in Seen(report_page(made.report([model]))).text


def test_the_headline_counts_what_was_asked():
    model = made.model("arcface")
    figures = {"gap": 0.3, "top1": 0.897, "precision": 0.08, "answered": 1.0, "queries": 29}
    asked = {"records": 325, "without": 296, "named": 325, "named_right": 26, "named_without": 296, "chance_top1": 0.12}
    model = replace(model, metrics={"val": figures, "test": figures}, intervals={}, asked={"test": asked})
    ((_, first, names),) = [figures for figures in headlines([model]) if figures[0].name.startswith("GAP")]
    assert first.beside == "29 test pictures that show one; chance level 12.0 %"
    assert (names.value, names.name) == ("8.0 %", "of the names that it gives are right")
    assert names.beside == "it names a landmark on 325 of all 325 test pictures, 296 of which show none"


def test_the_verdict_stands_above_all_figures():
    report = replace(
        made.report(), verdicts=[Verdict("places", "no", "cells is worse", ("Over 3 records.", "Too few."))]
    )
    page = report_page(report)
    assert page.index("No: cells is worse.") < page.index("Over 3 records.") < page.index('class="headline"')


def test_the_headline_is_that_of_the_best_on_val():
    first, second = headlines(made.joint_report().models)
    assert first[0].name == "mean error on test"
    assert [(figure.name, figure.value) for figure in second] == [
        ("GAP on test", "0.790"),
        ("of the pictures with a landmark: the first guess is right", "83.0 %"),
        ("of the names that it gives are right", "95.1 %"),
    ]
    assert second[0].beside == "95 % interval 0.759–0.819; model attention, best on val"
    assert second[2].beside == "it names a landmark on 74.3 % of all test pictures"
    assert [len(headlines(models)) for models in ([], made.report().models)] == [0, 1]


def test_a_model_of_landmarks_is_looked_into(page):
    text = Seen(section(page, 1)).text
    assert "0.810 0.779–0.839" in text
    assert "head 4 800 100 93.0 %" in text
    assert "12 × Rialto Bridge taken for Stari Most" in text
    assert "Cathedral of Saint Domnius wrong, confidence 0.60 query-003 truth Stari Most" in text
    assert "query-002 shows no landmark" in text
    images = [attributes for tag, attributes in Seen(section(page, 1)).tags if tag == "img"]
    assert len(images) == 4 + 5 + 2 * 2
    assert "Where it looks" not in text


def test_attention_is_shown_where_a_model_has_it(page):
    looked = [attributes for tag, attributes in Seen(section(page, 2)).tags if tag == "img"]
    assert [its["alt"] for its in looked[:4]] == [f"attention: query-{n}: {made.NAMES[n]}" for n in range(4)]


def test_a_refused_picture_and_one_that_nobody_can_judge_are_said_so():
    guesses = [LandmarkGuess("a", [], None, -0.5, True, (), 0.25), LandmarkGuess("b", ["X"], "Y", 0.5, None)]
    model = replace(made.model("m"), recognition=Recognition(best=guesses))
    text = Seen(section(report_page(made.report([model])), 1)).text
    assert "no landmark right, confidence 0.25 a shows no landmark" in text
    assert "Y correctness unknown, unknown confidence b truth X" in text


def test_a_model_without_a_look_inside_still_has_its_figures():
    bare = replace(made.model("m"), recognition=Recognition(parts=made.parts().head(0), curve=made.curve().head(0)))
    text = Seen(section(report_page(made.report([bare])), 1)).text
    assert "Landmarks it names" in text
    for missing in ("Answering from", "Where it looks", "Most often confused", "answers", "By the number"):
        assert missing not in text
    assert [cell.text for cell in figures_of(replace(bare, metrics={"test": {}})).groups[""][0].cells] == ["–"] * 7


def test_the_precision_stands_at_the_threshold_that_was_calibrated():
    curve = made.curve().sample(frac=1, random_state=1)
    precision, recall, star = precision_plot(curve, 0.512).data
    kept = curve[curve["threshold"] >= 0.512]
    assert star.x[0] == pytest.approx(len(kept) / len(curve))
    assert star.y[0] == kept.nsmallest(1, "threshold")["precision"].iloc[0]
    assert (np.diff(precision.x) > 0).all()
    assert recall.y[-1] == curve["recall"].max()
    least = kept["confidence"].min()
    assert star.name == f"calibrated threshold, confidence {least:.2f}"
    bare = precision_plot(curve.drop(columns="confidence"), 0.512).data[2]  # of a model that knows of none
    assert bare.name == f"calibrated threshold, score {kept['threshold'].min():.4g}"
    assert len(precision_plot(curve, None).data) == 2
    assert len(precision_plot(curve, 99.0).data) == 2  # nothing scores so high


def test_of_a_long_curve_the_threshold_is_still_marked_exactly():
    curve = made.curve(5000)
    precision, _, star = precision_plot(curve, 0.6).data
    assert len(precision.x) <= 400
    assert star.x[0] == (curve["threshold"] >= 0.6).mean()


def test_landmarks_by_split_count_those_that_training_does_not_know():
    landmarks = pd.DataFrame(
        {"landmark": ["1", "2", "3"], "name": ["a", None, "c"], "train": [5, 0, 9], "val": [1, 2, 0], "test": [0, 4, 1]}
    )
    train, val, test = splits_table(landmarks).groups[""]
    assert [cell.text for cell in train.cells] == ["2", "14", "–", "–"]
    assert [cell.text for cell in val.cells] == ["2", "3", "1", "2"]
    assert [cell.text for cell in test.cells] == ["2", "5", "1", "4"]
    assert [row.name for row in largest_table(landmarks).groups[""]] == ["c", "a", "2"]
    assert largest_table(made.splits(140)).hidden == 40


def test_the_data_report_tells_pictures_and_landmarks(page):
    data = Seen(page.partition('<section id="data">')[2].partition("</section>")[0]).text
    for words in ("megapixels 0.31, four of five within 0.20–1.92", "landmarks 140", "of them over 10 pictures 64.3 %",
                  "of them over 100 pictures 3.6 %", "640 × 480 px 2,800", "and 40 more"):  # fmt: skip
        assert words in data, words


def test_hostile_names_of_landmarks_stay_text():
    picture = Picture(report_frames.picture(1), HOSTILE)
    its = Recognition(
        facts={HOSTILE: HOSTILE}, parts=made.parts().assign(part=HOSTILE), curve=made.curve(), threshold=0.5,
        confusions=[Confusion("1", HOSTILE, "2", HOSTILE, 3, [picture, picture])], attention=[picture],
        worst=[LandmarkGuess(HOSTILE, [HOSTILE], HOSTILE, 0.5, False, [picture])],
    )  # fmt: skip
    hostile = made.report([replace(made.model(HOSTILE), recognition=its)])
    data = replace(hostile.data, landmark_splits=made.splits(9).assign(name=HOSTILE), orientations={HOSTILE: 3})
    page = report_page(replace(hostile, data=data, ensembles=[replace(made.ensemble(HOSTILE), models=[HOSTILE])]))
    seen = Seen(page)
    harmless = Seen(report_page(made.report([made.model("m")])))
    assert [tag for tag, _ in seen.tags].count("script") == [tag for tag, _ in harmless.tags].count("script")
    assert HOSTILE.partition("<img")[2] in seen.text
    assert not any("onerror" in attributes for _, attributes in seen.tags)


@pytest.mark.slow
def test_the_same_landmarks_give_the_same_bytes(page, joint_page, tmp_path):
    paths = [tmp_path / "landmarks.html", tmp_path / "joint.html"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, made.__file__, *paths], env=environment, check=True, timeout=120)
    assert [path.read_text(encoding="utf-8") for path in paths] == [page, joint_page]


def test_no_id_stands_twice(joint_page):
    ids = re.findall(r'\bid="([^"]+)"', joint_page.partition("</head>")[2])
    assert len(ids) == len(set(ids))


def test_the_words_explain_what_the_page_shows(page, joint_page):
    assert "oracle floor</dt>" not in page
    assert "GAP</dt>" in page
    assert "oracle floor</dt>" in joint_page
    assert "GAP</dt>" in joint_page
    assert "GAP</dt>" not in report_page(report_frames.report())
