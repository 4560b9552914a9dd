import landmark_frames
import numpy as np
import pandas as pd
import pytest
import report_frames as made

from waymark.report.learning import learning_curves


def stars(drawn):
    return [trace for trace in drawn.data if trace.marker.symbol == "star"]


def titles(drawn):
    return [axis.title.text for axis in drawn.select_yaxes()]


def test_the_numbers_given_are_drawn_and_the_best_epoch_bears_a_star():
    curves = pd.concat([made.curves("cells"), made.curves("coordinates", final_km=80)])
    drawn = learning_curves(curves)
    cells = made.curves("cells")
    for column in ("val_mean_km", "train_loss", "val_loss", "learning_rate"):
        assert any(np.array_equal(trace.y, cells[column]) for trace in drawn.data), column
    lowest = [made.curves("c", final_km=km)["val_mean_km"].min() for km in (60, 80)]
    assert [star.y[0] for star in stars(drawn)] == lowest
    assert sorted(trace.name for trace in drawn.data if trace.showlegend) == ["cells", "coordinates"]


def test_panels_without_numbers_are_left_out():
    curves = made.curves("arcface", steps=False).assign(val_mean_km=np.nan)
    assert titles(learning_curves(curves)) == ["loss (dots: train)"]
    (note,) = learning_curves(curves.iloc[:0]).layout.annotations
    assert note.text == "No epoch has been trained."


def test_a_model_of_landmarks_is_drawn_by_its_gap_and_the_highest_bears_the_star():
    curves = landmark_frames.curves("arcface")
    drawn = learning_curves(curves)
    assert titles(drawn) == ["val GAP (dots: top 1)", "loss (dots: train)", "rate"]
    assert [star.y[0] for star in stars(drawn)] == [curves["val_gap"].max()]
    dashes = {trace.line.dash for trace in drawn.data if np.array_equal(trace.y, curves["val_top1"])}
    assert dashes == {"dot"}


def test_a_joint_model_has_a_panel_for_each_and_one_star():
    curves = landmark_frames.joint("joint").curves
    drawn = learning_curves(curves)
    assert titles(drawn)[:2] == ["val mean error, km", "val GAP (dots: top 1)"]
    assert [star.y[0] for star in stars(drawn)] == [curves["val_mean_km"].min()]


@pytest.mark.parametrize("frame", [made.curves, landmark_frames.curves])
def test_the_epoch_that_is_said_to_be_kept_bears_the_star(frame):
    curves = frame("m").assign(kept=np.arange(12) == 5)
    assert [star.x[0] for star in stars(learning_curves(curves))] == [5]
