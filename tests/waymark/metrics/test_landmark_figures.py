import numpy as np
import pandas as pd
import pytest
from landmark_answers import answers_by_hand, gap_by_hand, landmark_predictions

from waymark.errors import ParameterError
from waymark.metrics.figures import landmark_figures, place_figures
from waymark.metrics.queries import queries_of

KEYS = ["queries", "gap", "gap_unrejected", "top1", "top5", "answered", "precision"]


def by_hand(frame, relevant):
    """All figures in plain Python."""
    rows = frame.to_dict("records")
    counted = [row for row in rows if len(row["landmarks"]) and (relevant == "all" or not pd.isna(row["rank"]))]
    answered = [row for row in rows if isinstance(row["predicted_landmark"], str)]
    return {
        "queries": len(counted),
        "gap": gap_by_hand(*answers_by_hand(frame, "predicted_landmark"), len(counted)),
        "gap_unrejected": gap_by_hand(*answers_by_hand(frame, "best_landmark"), len(counted)),
        "top1": sum(not pd.isna(row["rank"]) and row["rank"] == 1 for row in counted) / len(counted),
        "top5": sum(not pd.isna(row["rank"]) and row["rank"] <= 5 for row in counted) / len(counted),
        "answered": len(answered) / len(rows),
        "precision": sum(row["predicted_landmark"] in row["landmarks"] for row in answered) / len(answered),
    }


@pytest.mark.parametrize("relevant", ["all", "known"])
@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_those_counted_by_hand(relevant, seed):
    frame = landmark_predictions(seed=seed)
    found = landmark_figures(frame, relevant)
    assert list(found) == KEYS
    assert found == pytest.approx(by_hand(frame, relevant), rel=1e-12)


def test_the_made_up_answers_tell_the_figures_apart():
    every, known = (landmark_figures(landmark_predictions(), relevant) for relevant in ("all", "known"))
    assert every["queries"] > known["queries"] > 100
    assert every["gap"] < known["gap"]
    assert len({every[name] for name in KEYS}) == len(KEYS)
    assert (every["answered"], every["precision"]) == (known["answered"], known["precision"])


def test_a_query_of_an_unknown_landmark_stays_in_the_ranking():
    frame = pd.DataFrame(
        {
            "record_id": ["a", "b"],
            "landmarks": [["far"], ["L"]],
            "predicted_landmark": ["L", "L"],
            "best_landmark": ["L", "L"],
            "score": [2.0, 1.0],
            "rank": [None, 1],
        }
    )
    assert landmark_figures(frame, "known") == pytest.approx(
        {"queries": 1, "gap": 0.5, "gap_unrejected": 0.5, "top1": 1, "top5": 1, "answered": 1, "precision": 0.5}
    )
    assert landmark_figures(frame, "all")["gap"] == 0.25


@pytest.mark.parametrize("rank", ["Int64", "float64", "object"])
@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
def test_nulls_of_every_kind_read_alike(rank, nothing):
    frame = landmark_predictions()
    turned = frame.copy()
    empty = [len(truths) == 0 for truths in frame["landmarks"]]
    turned["landmarks"] = [None if none else truths for none, truths in zip(empty, frame["landmarks"], strict=True)]
    turned["predicted_landmark"] = frame["predicted_landmark"].astype(object).where(frame["score"] >= 0, nothing)
    numbers = frame["rank"].astype("Float64")
    turned["rank"] = numbers if rank == "Int64" else numbers.to_numpy(dtype=np.float64, na_value=np.nan).astype(rank)
    turned["rank"] = turned["rank"].astype(rank)
    assert landmark_figures(turned, "known") == landmark_figures(frame, "known")


def test_figures_survive_parquet_and_any_order(tmp_path):
    frame = landmark_predictions()
    frame.to_parquet(tmp_path / "predictions.parquet")
    read = pd.read_parquet(tmp_path / "predictions.parquet").sample(frac=1, random_state=3)
    assert landmark_figures(read) == landmark_figures(frame)


def test_nothing_to_measure_is_none():
    frame = landmark_predictions()
    nowhere = frame.assign(landmarks=[[]] * len(frame), rank=pd.array([None] * len(frame), dtype="Int64"))
    found = landmark_figures(nowhere)
    assert found["queries"] == 0
    assert [found[name] for name in ("gap", "gap_unrejected", "top1", "top5")] == [None] * 4
    assert found["precision"] == 0
    silent = landmark_figures(frame.assign(predicted_landmark=None))
    assert (silent["precision"], silent["answered"], silent["gap"]) == (None, 0, 0)
    assert silent["gap_unrejected"] == landmark_figures(frame)["gap_unrejected"]
    assert landmark_figures(frame.head(0)) == dict.fromkeys(KEYS) | {"queries": 0}


def test_a_joint_models_figures_do_not_share_a_name():
    places = pd.DataFrame(
        columns=["distance_km", "cell", "predicted_cell", "constant_km", "oracle_km", "radius_50_km", "radius_90_km"]
    )
    assert not set(place_figures(places)) & set(KEYS)


def test_what_cannot_be_counted_is_refused():
    frame = landmark_predictions()
    with pytest.raises(ParameterError, match=r"'knwon' is neither 'all' nor 'known'"):
        landmark_figures(frame, "knwon")
    with pytest.raises(ParameterError, match=r"1 answers have no score, such as that of 'r0007'"):
        queries_of(frame.assign(score=frame["score"].where(frame["record_id"] != "r0007")))


@pytest.mark.parametrize("rows", [0, 3])
def test_what_is_right_is_true_or_false_also_of_no_rows(rows):
    queries = queries_of(landmark_predictions().head(rows))
    kinds = ["counts", "guessed", "guessed_right", "answered", "answered_right", "top1", "top5"]
    assert set(queries.dtypes[kinds]) == {np.dtype(bool)}
