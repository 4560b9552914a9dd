import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely import box

from waymark.errors import ParameterError
from waymark.report.answers import answer_map, answer_page
from waymark.report.wording import Answer, drawn_lines, facts, radius_in_words

LAND = gpd.GeoDataFrame(
    geometry=[box(-180, -70, -10, 80), box(0, 30, 60, 60), box(170, -20, 180, -10)], crs="EPSG:4326"
)
CHANCES = (0.0005, 0.005, 0.02, 0.05, 0.2, 0.7245)


def cells(longitude=15.0, points=False):
    shapes = [box(longitude + step, 45, longitude + step + 0.5, 45.5) for step in range(6)]
    table = gpd.GeoDataFrame(
        {"cell": range(6), "probability": CHANCES, "latitude": 45.25, "longitude": longitude + np.arange(6) + 0.25},
        geometry=shapes,
        crs="EPSG:4326",
    )
    return table.set_geometry(shapely.centroid(table.geometry.to_numpy())) if points else table


def answer(**changes):
    known = {"name": "a.jpg", "latitude": 45.2, "longitude": 18.0, "radius_50_km": 20.0, "radius_90_km": 70.0}
    return Answer(**{**known, "cell": 5, "probability": 0.7245, "cells": cells(), **changes})


def traces(drawn):
    return {trace.name: trace for trace in drawn.data if trace.name}


@pytest.mark.parametrize("points", [False, True])
def test_each_cell_has_the_colour_of_its_probability(points):
    drawn = traces(answer_map(answer(cells=cells(points=points)), LAND))
    names = ["below 0.1 %", "0.1–1 %", "1–3 %", "3–10 %", "10–30 %", "30 % or more"]
    look = [drawn[name].marker.color if points else drawn[name].fillcolor for name in names]
    assert len(set(look)) == len(names)
    for step, name in enumerate(names):
        assert np.nanmean(drawn[name].x) == pytest.approx(15.25 + step, abs=0.11)


def test_the_map_holds_answer_circles_and_cells_and_no_more():
    drawn = answer_map(answer(), LAND)
    west, east = drawn.layout.xaxis.range
    south, north = drawn.layout.yaxis.range
    assert 14.5 < west < 15 < 20.5 < east < 21
    assert 44.3 < south < 44.6
    assert 45.8 < north < 46
    star = traces(drawn)["answer"]
    assert (star.x[0], star.y[0]) == (pytest.approx(18.0), 45.2)
    assert traces(drawn)["90 %"].line.dash == "dash"
    land = drawn.data[0]
    assert np.nanmin(land.x) > 5  # America is not drawn into a map of Croatia
    assert np.nanmax(land.x) < 30


def test_an_answer_across_the_antimeridian_is_drawn_in_one_piece():
    drawn = answer_map(answer(latitude=-16.5, longitude=-179.9, cells=None), LAND)
    circle = traces(drawn)["90 %"]
    assert np.nanmax(circle.x) - np.nanmin(circle.x) < 2
    assert abs(traces(drawn)["answer"].x[0] - np.nanmean(circle.x)) < 0.1
    assert len(drawn.data[0].x)  # the land to the west of it


def test_an_answer_without_cells_or_radii_is_drawn_and_said():
    bare = answer(cells=None, radius_50_km=None, radius_90_km=None, cell=None, probability=None)
    assert set(traces(answer_map(bare, LAND))) == {"answer"}
    assert radius_in_words(None, None) == "unknown: validation was too small to promise one"
    assert radius_in_words(None, 7.0) == "7.0 km holds the truth in 90 % of cases"


def test_a_page_of_several_answers_escapes_their_names():
    hostile = "<img src=x onerror=alert(1)>.jpg"
    page = answer_page([answer(name=hostile), answer(name="b.jpg", jpegs=[b"jpeg"])], "champion", LAND)
    assert hostile not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page
    assert page.count('class="plotly-graph-div"') == 2
    assert "answered by champion" in page


def test_a_landmark_stands_before_the_place():
    named = answer(landmark="42", landmark_name="Rialto Bridge", landmark_score=7.2, landmark_confidence=0.81234)
    assert list(facts(named)) == ["landmark", "place", "radius", "cell"]
    assert drawn_lines(named) == [
        "Rialto Bridge, confidence 0.81",
        "45.20000, 18.00000",
        "20.0 km holds the truth in 50 % of cases, 70.0 km in 90 %",
    ]
    assert drawn_lines(answer()) == drawn_lines(named)[1:]
    assert facts(answer(landmark="42", landmark_score=0.5))["landmark"] == "42"  # of a model that knows no more


def test_a_refused_landmark_is_said_to_be_none():
    refused = Answer("a.jpg", landmark_score=-0.1, landmark_confidence=0.0001)
    assert drawn_lines(refused) == ["no landmark; the best candidate has confidence below 0.01"]


def test_what_a_terminal_would_obey_is_shown_instead():
    hostile = Answer("a.jpg", landmark="1", landmark_name="Tower\x1b[31m\u202e\nanswered by me", landmark_score=1.0)
    assert drawn_lines(hostile) == [r"Tower\x1b[31m\u202e\nanswered by me"]


def test_an_answer_without_a_place_has_no_map_but_its_pictures():
    bare = Answer("a.jpg", jpegs=[b"one"], landmark="42", landmark_name="<b>Rialto</b>", landmark_score=0.5,
                  landmark_confidence=0.5, attention=[b"two"])  # fmt: skip
    page = answer_page([bare], "arcface", LAND)
    assert 'class="plotly-graph-div"' not in page
    assert "&lt;b&gt;Rialto&lt;/b&gt;, confidence 0.50" in page
    assert 'data:image/jpeg;base64,b25l" alt="view 1"' in page
    assert 'data:image/jpeg;base64,dHdv" alt="attention to view 1"' in page
    with pytest.raises(ParameterError, match="a model with a place head"):
        answer_map(bare, LAND)
