"""Which landmarks a model tells apart."""

import numpy as np
import pandas as pd
import pytest

from tasks.training.landmark_classes import balanced_chances, landmark_labels, learn_classes
from waymark.errors import ModelError
from waymark.models.heads import NO_LANDMARK


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/split").mkdir(parents=True)
    names = {"b": "The Bridge", "a": "The Arch", "r": "Rare", "v": "Val alone"}
    pd.DataFrame({"landmark": list(names), "name": list(names.values())}).to_parquet("data/split/landmarks.parquet")
    train = [["b"], ["b", "v"], ["a"], ["a"], ["r"], []]
    held_out = [["a"], ["v"], []]
    split = ["train"] * len(train) + ["val"] * len(held_out)
    return pd.DataFrame({"landmarks": train + held_out, "split": split})


def test_classes_are_those_of_training_with_pictures_enough(table):
    classes = learn_classes(table, "m", 2)
    assert classes.landmarks == ("a", "b")
    assert classes.names == ("The Arch", "The Bridge")
    assert classes.counts.tolist() == [2, 2]
    assert learn_classes(table, "m", 1).landmarks == ("a", "b", "r")  # and not v, which val alone shows first
    label = landmark_labels(table, classes.landmarks)
    assert label.tolist() == [1, 1, 0, 0, -1, NO_LANDMARK, 0, -1, NO_LANDMARK]


def test_what_cannot_be_learnt_is_refused(table):
    with pytest.raises(ModelError, match="m learns landmarks, but 0 of them have 3 training records or more"):
        learn_classes(table, "m", 3)
    with pytest.raises(ModelError, match="no val record shows one of training"):
        learn_classes(table[table["split"] == "train"], "m", 1)


def test_balanced_draws_show_each_landmark_equally_often():
    label = np.array([0] * 90 + [1] * 9 + [2] + [NO_LANDMARK] * 400)
    chances = balanced_chances(label)
    assert chances.sum() == pytest.approx(1)
    shares = [chances[label == its].sum() for its in (0, 1, 2, NO_LANDMARK)]
    assert shares == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    few = balanced_chances(np.array([0, 0, 1, NO_LANDMARK]))
    assert few[3] == pytest.approx(1 / 4)  # no more often than it is there
