import pandas as pd
import pytest

from waymark.metrics.asked import asked_of

PREDICTIONS = pd.DataFrame(
    {
        "record_id": list("abcdef"),
        "landmarks": [["tower"], ["bridge", "tower"], ["bridge"], [], None, ["new"]],
        "best_landmark": ["tower", "tower", "tower", "bridge", "bridge", "bridge"],
        "predicted_landmark": ["tower", None, "tower", "bridge", None, "bridge"],
        "score": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        "rank": pd.array([1, 1, 2, None, None, None], dtype="Int64"),
    }
)
TRAIN = pd.Series({"tower": 7, "bridge": 9, "new": 0})


@pytest.mark.parametrize(("relevant", "chance"), [("all", 2 / 4), ("known", 2 / 3)])
def test_all_that_was_asked_is_counted_and_chance_is_the_commonest_landmark(relevant, chance):
    asked = asked_of(PREDICTIONS, TRAIN, relevant)
    assert asked.pop("chance_top1") == pytest.approx(chance)  # b and c show the bridge
    assert asked == {"records": 6, "without": 2, "named": 4, "named_right": 1, "named_without": 1}


def test_without_queries_there_is_no_chance_level():
    assert asked_of(PREDICTIONS.iloc[3:5], TRAIN)["chance_top1"] is None
