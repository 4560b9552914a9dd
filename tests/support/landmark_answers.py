"""Made-up answers of a landmark model, and its figures counted by hand."""

import numpy as np
import pandas as pd

NAMES = [f"L{number:02d}" for number in range(12)]


def landmark_predictions(number=240, seed=4):
    """Rows of predictions.parquet in no order: ties, several truths, none, unknown ones, and rejected answers."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in rng.permutation(number):
        # A quarter shows no landmark; "far" is a landmark that the model never saw.
        truths = (
            [] if row % 4 == 0 else ["far"] if row % 13 == 5 else list(rng.choice(NAMES, 1 + row % 3, replace=False))
        )
        known = bool(truths) and truths != ["far"]
        rank = int(rng.choice([1, 1, 1, 2, 4, 6])) if known else None
        wrong = rng.choice([name for name in NAMES if name not in truths])
        best = str(rng.choice(truths)) if rank == 1 else str(wrong)
        score = round(float(rng.normal(0.3 if rank == 1 else 0.0, 0.3)), 1)
        rows.append(
            {
                "record_id": f"r{row:04d}",
                "split": "test",
                "landmarks": np.array(truths, dtype=object) if row % 2 else truths,
                "predicted_landmark": best if score >= 0.0 else None,
                "best_landmark": best,
                "score": score,
                "rank": rank,
            }
        )
    return pd.DataFrame(rows).astype({"rank": "Int64"})


def answers_by_hand(frame, column):
    """Truths and answers by id, as the reference's dictionaries hold them."""
    truths = {row.record_id: set(row.landmarks) for row in frame.itertuples()}
    given = {
        row["record_id"]: (row[column], row["score"]) for _, row in frame.iterrows() if isinstance(row[column], str)
    }
    return truths, given


def gap_by_hand(truths, given, relevant=None):
    """Go down the ranking query by query, in the words of Weyand et al. 2020."""
    order = sorted(given, key=lambda query: (-given[query][1], query, given[query][0]))
    total = right = 0.0
    for rank, query in enumerate(order, 1):
        if given[query][0] in truths[query]:
            right += 1
            total += right / rank
    return total / (sum(bool(truth) for truth in truths.values()) if relevant is None else relevant)
