import numpy as np
import pandas as pd
import pytest
import report_frames as made

from waymark.report import counts, plots


def notes(drawn):
    return [annotation.text for annotation in drawn.layout.annotations]


def test_error_distribution_is_the_share_within_each_distance():
    errors = made.predictions(700)["distance_km"].to_numpy()
    drawn = plots.error_distribution({"cells": np.append(errors, np.nan)}, np.full(700, 130.0))
    baseline, model = drawn.data
    for limit in plots.NAMED_DISTANCES_KM:
        at = list(model.x).index(limit)
        assert model.y[at] == pytest.approx((errors <= limit).mean())
    assert baseline.y[0] == 0
    assert baseline.y[-1] == 1
    assert notes(plots.error_distribution({"cells": [np.nan]})) == ["No record with a place was answered."]


def test_coverage_plot_shows_what_was_achieved_and_how_many():
    metrics = {
        "cells": {"val": {"records": 40, "coverage_50": 0.5, "coverage_90": 0.925}, "test": {"coverage_50": None}}
    }
    half, most = plots.coverage_plot(metrics).data
    assert (half.x[0], most.x[0]) == (0.5, 0.925)
    assert "n = 40" in most.text[0]
    # Wilson (1927) for 37 of 40, as statsmodels gives it.
    assert most.x[0] - most.error_x.arrayminus[0] == pytest.approx(0.8014, abs=1e-3)
    assert most.x[0] + most.error_x.array[0] == pytest.approx(0.9742, abs=1e-3)
    assert notes(plots.coverage_plot({"arcface": {"test": {"gap": 0.5}}})) == ["No model gives a radius."]


def test_radius_against_error_tells_inside_from_outside():
    frame = made.predictions(300, without_place=10)
    line, inside, outside = plots.radius_against_error(frame).data
    known = frame.dropna(subset=["distance_km"])
    assert len(inside.x) == (known["distance_km"] <= known["radius_90_km"]).sum()
    assert len(inside.x) + len(outside.x) == len(known) == 290
    assert line.x == line.y


def test_radius_against_error_of_exact_answers_stays_on_the_axes():
    frame = made.predictions(4).assign(distance_km=0.0, radius_90_km=0.0)
    drawn = plots.radius_against_error(frame)
    assert np.isfinite(drawn.layout.xaxis.range).all()
    assert min(drawn.data[1].x) > 0


def test_landmark_histogram_shows_the_hundred_largest():
    landmarks = made.landmarks(140).sample(frac=1, random_state=1)
    bar = counts.landmark_histogram(landmarks).data[0]
    assert list(bar.y) == sorted(landmarks["images"], reverse=True)[:100]
    assert bar.text[0] == "Landmark 000"
    assert notes(counts.landmark_histogram(landmarks.iloc[:0])) == ["No record has a landmark."]


@pytest.mark.parametrize(("images", "scale"), [([400, 90, 39], "log"), ([400, 90, 41], None), ([9, 1, 0], None)])
def test_a_long_tail_has_a_logarithmic_axis(images, scale):
    landmarks = pd.DataFrame({"landmark": ["1", "2", "3"], "name": ["a", "b", "c"], "images": images})
    assert counts.landmark_histogram(landmarks).layout.yaxis.type == scale


def test_orientations_without_any_picture_are_left_out():
    drawn = counts.orientation_counts({"landscape": 3, "portrait": 1, "unknown": 0})
    assert drawn.layout.yaxis.ticktext == ("landscape", "portrait")
    assert drawn.data[0].text == ("3 · 75%", "1 · 25%")


def test_landmarks_of_the_same_name_keep_a_bar_each():
    same = pd.DataFrame({"landmark": ["1", "2"], "name": ["St Mark", None], "images": [5, 4]})
    drawn = counts.landmark_histogram(same)
    assert list(drawn.data[0].x) == [1, 2]
    assert drawn.layout.xaxis.ticktext == ("St Mark", "2")


def test_counts_show_every_number():
    drawn = counts.dropped_reasons({"outside": 2, "duplicate": 1200})
    assert list(drawn.data[0].x) == [1200, 2]
    assert drawn.data[0].text == ("1,200 · 100%", "2 · 0%")
    assert list(counts.split_counts({"train": 8, "test": 0}).data[0].x) == [8, 0]
    assert notes(counts.split_counts({})) == ["Nothing to count."]
