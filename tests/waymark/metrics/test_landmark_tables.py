from collections import Counter

import numpy as np
import pandas as pd
import pytest
from landmark_answers import NAMES, answers_by_hand, gap_by_hand, landmark_predictions

from waymark.metrics.landmarks import UNSEEN, confused_pairs, landmark_parts, landmark_table, parts_of

TRAIN = dict(zip(NAMES, [300, 250, 90, 60, 60, 60, 20, 9, 9, 4, 2, 2], strict=True))
PARTS = dict(zip(NAMES, ["head"] * 3 + ["middle"] * 4 + ["tail"] * 5, strict=True))


@pytest.fixture
def landmarks():
    """The table of the split, without the landmark that no training image shows."""
    names = [f"Tower {name}" for name in NAMES[:-1]] + [None]
    return pd.DataFrame({"landmark": NAMES, "name": names, "train": [TRAIN[name] for name in NAMES], "test": 1})


def first_truth(row):
    return next(iter(row.landmarks), None)


def test_parts_are_thirds_of_the_landmarks():
    assert parts_of(pd.Series(TRAIN)).to_dict() == PARTS
    counts = pd.Series(np.random.default_rng(1).permutation(99) + 1)
    assert parts_of(counts).value_counts().to_dict() == {"head": 33, "middle": 33, "tail": 33}
    assert counts[parts_of(counts) == "head"].min() > counts[parts_of(counts) == "middle"].max()
    assert parts_of(counts.sample(frac=1, random_state=2)).sort_index().equals(parts_of(counts))


def test_landmarks_with_as_many_images_stay_together():
    assert set(parts_of(pd.Series([50] * 27))) == {"middle"}
    long_tail = pd.Series([500, 80, 30] + [1] * 60)
    assert parts_of(long_tail).tolist() == ["head"] * 3 + ["middle"] * 60
    steps = pd.Series([500] * 10 + [80] * 8 + [1] * 18)  # 18 of the 36, of which 12 alone would be the tail
    assert parts_of(steps).tolist() == ["head"] * 10 + ["middle"] * 8 + ["tail"] * 18
    assert parts_of(pd.Series([3, 0])).tolist() == ["middle", UNSEEN]
    assert parts_of(pd.Series([], dtype=int)).empty


@pytest.mark.parametrize("relevant", ["all", "known"])
def test_each_part_is_measured_as_if_it_were_all(landmarks, relevant):
    frame = landmark_predictions()
    found = landmark_parts(frame, landmarks, relevant).set_index("part")
    assert list(found.index) == ["head", "middle", "tail"] + [UNSEEN] * (relevant == "all")
    part = [PARTS.get(first_truth(row), UNSEEN) if len(row.landmarks) else None for row in frame.itertuples()]
    for name, row in found.iterrows():
        its = frame[[one == name for one in part]]
        assert row["queries"] == len(its) > 0
        assert row["gap"] == pytest.approx(gap_by_hand(*answers_by_hand(its, "predicted_landmark")), rel=1e-12)
        assert row["top1"] == pytest.approx((its["rank"] == 1).fillna(False).mean())
        assert row["top5"] == pytest.approx((its["rank"] <= 5).fillna(False).mean())
    assert found["queries"].sum() == sum(
        len(row.landmarks) > 0 and (relevant == "all" or row.rank is not pd.NA) for row in frame.itertuples()
    )
    bounds = found.loc["head":"tail", ["landmarks", "fewest_images", "most_images"]]
    assert bounds.to_numpy().tolist() == [[3, 90, 300], [4, 20, 60], [5, 2, 9]]


def test_a_part_without_landmarks_or_queries_is_empty(landmarks):
    frame = landmark_predictions()
    even = landmark_parts(frame, landmarks.assign(train=7)).set_index("part")
    assert even.loc["head", ["landmarks", "queries"]].tolist() == [0, 0]
    assert even.loc["tail", ["fewest_images", "gap", "top1"]].isna().all()
    nothing = landmark_parts(frame.head(0), landmarks)
    assert nothing["queries"].tolist() == [0, 0, 0]
    assert nothing["gap"].isna().all()
    assert nothing.dtypes.astype(str).to_dict() == even.reset_index().dtypes.astype(str).to_dict()


def test_every_landmark_has_its_row_the_worst_first(landmarks):
    frame = landmark_predictions()
    found = landmark_table(frame, landmarks)
    assert list(found) == ["landmark", "name", "train", "queries", "top1", "mean_score"]
    truths = Counter(first_truth(row) for row in frame.itertuples() if len(row.landmarks))
    assert dict(zip(found["landmark"], found["queries"], strict=True)) == truths
    for row in found.itertuples():
        its = frame[[first_truth(one) == row.landmark for one in frame.itertuples()]]
        assert row.top1 == pytest.approx((its["rank"] == 1).fillna(False).mean())
        assert row.mean_score == pytest.approx(its["score"].mean())
        assert row.train == TRAIN.get(row.landmark, 0)
        assert row.name == (f"Tower {row.landmark}" if row.landmark in NAMES[:-1] else row.landmark)
    order = [(row.top1, -row.queries, row.name) for row in found.itertuples()]
    assert order == sorted(order)
    assert "far" in set(found["landmark"])
    assert "far" not in set(landmark_table(frame, landmarks, "known")["landmark"])
    assert landmark_table(frame.head(0), landmarks).empty


def test_confused_pairs_are_counted_the_most_frequent_first(landmarks):
    frame = landmark_predictions(600)
    found = confused_pairs(frame, landmarks, pairs=1000)
    assert list(found) == ["landmark", "name", "answer", "answer_name", "count", "examples"]
    wrong = [row for row in frame.itertuples() if len(row.landmarks) and row.best_landmark not in list(row.landmarks)]
    expected = Counter((first_truth(row), row.best_landmark) for row in wrong)
    assert {
        (row.landmark, row.answer): row.count
        for row in found[["landmark", "answer"]].assign(count=found["count"]).itertuples(index=False)
    } == expected
    order = [(-count, name, answer) for count, name, answer in found[["count", "name", "answer_name"]].to_numpy()]
    assert order == sorted(order)
    for _, row in found.head(30).iterrows():
        its = [one for one in wrong if (first_truth(one), one.best_landmark) == (row["landmark"], row["answer"])]
        its = sorted(its, key=lambda one: (-one.score, one.record_id))
        assert row["examples"] == [one.record_id for one in its[:3]]
    assert max(len(names) for names in found["examples"]) == 3 < found["count"].max()
    assert confused_pairs(frame, landmarks, pairs=4).equals(found.head(4))


def test_another_true_landmark_is_no_confusion(landmarks):
    frame = pd.DataFrame(
        {
            "record_id": ["a", "b", "c"],
            "landmarks": [["L00", "L01"], ["L00"], []],
            "predicted_landmark": [None, None, None],
            "best_landmark": ["L01", "L11", "L02"],
            "score": [0.2, 0.1, 0.9],
            "rank": pd.array([1, 3, None], dtype="Int64"),
        }
    )
    found = confused_pairs(frame, landmarks)
    assert found.to_dict("records") == [
        {"landmark": "L00", "name": "Tower L00", "answer": "L11", "answer_name": "L11", "count": 1, "examples": ["b"]}
    ]
    assert confused_pairs(frame.head(1), landmarks).empty
