"""Which landmarks a model recognises: the frequent and the rare ones, each of them, and those that it confuses."""

import pandas as pd

from waymark.metrics.figures import query_figures
from waymark.metrics.queries import Relevant, queries_of

PARTS = ("head", "middle", "tail")
UNSEEN = "unseen"  # not one training image
EXAMPLES = 3
PAIRS = 20

PART_COLUMNS = ("part", "landmarks", "fewest_images", "most_images", "queries", "gap", "top1", "top5")
LANDMARK_COLUMNS = ("landmark", "name", "train", "queries", "top1", "mean_score")
PAIR_COLUMNS = ("landmark", "name", "answer", "answer_name", "count", "examples")


def parts_of(train: "pd.Series[int]") -> "pd.Series[str]":
    """Divide landmarks into head, middle and tail: thirds of them by their number of training images.

    The bounds follow the data, because fixed ones such as those of Liu et al. 2019 (Large-Scale Long-Tailed Recognition
    in an Open World: over 100 images, 20 to 100, under 20) leave a small data set in one part. Landmarks with as many
    images stay together, in the part of their mean rank: where all have the same number, all are middle.

    Args:
        train: `(N,)` training images by landmark.

    Returns:
        `(N,)` part by landmark; `unseen` for one without training images.

    >>> parts_of(pd.Series({"a": 90, "b": 40, "c": 40, "d": 7, "e": 3, "f": 0})).tolist()
    ['head', 'middle', 'middle', 'tail', 'tail', 'unseen']
    """
    seen = train[train > 0]
    third = 3 * (seen.rank(ascending=False) - 0.5) // len(seen)
    return third.map(dict(enumerate(PARTS))).reindex(train.index).fillna(UNSEEN)


def landmark_parts(predictions: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant = "all") -> pd.DataFrame:
    """Sum up the queries of frequent and of rare landmarks, each part as if it were all there is.

    A query belongs to the part of its first landmark. Records without a landmark are in no part, so that answers to
    them spoil no part's GAP: it is not to be held against that of the whole split.

    Args:
        predictions: rows of predictions.parquet, of one split.
        landmarks: with `landmark` and `train` (training images), as in data/split/landmarks.parquet.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.

    Returns:
        Columns `part` (head, middle, tail, and `unseen` where a query is of a landmark without training images),
        `landmarks` and the `fewest_images` and `most_images` of one (null where there is none), `queries`, `gap`,
        `top1`, `top5` (null without queries).
    """
    train = landmarks.set_index("landmark")["train"]
    parts = parts_of(train)
    queries = queries_of(predictions, relevant).query("counts")
    its_part = queries["landmark"].map(parts).fillna(UNSEEN)
    rows = []
    for part in (*PARTS, *([UNSEEN] if (its_part == UNSEEN).any() else [])):
        images, figures = train[parts == part], query_figures(queries[its_part == part])
        bounds = (images.min(), images.max()) if len(images) else (pd.NA, pd.NA)
        rows.append((part, len(images), *bounds, *(figures[name] for name in PART_COLUMNS[4:])))
    table = pd.DataFrame(rows, columns=list(PART_COLUMNS))
    whole = dict.fromkeys(("fewest_images", "most_images"), "Int64")
    return table.astype(whole | dict.fromkeys(("gap", "top1", "top5"), "float64"))


def landmark_table(predictions: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant = "all") -> pd.DataFrame:
    """Sum up the queries of each landmark, the worst first.

    Args:
        predictions: rows of predictions.parquet, of one split.
        landmarks: with `landmark`, `name` and `train` (training images), as in data/split/landmarks.parquet.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.

    Returns:
        Columns `landmark` (the first of a query), `name`, `train`, `queries`, `top1`, `mean_score` of its answers
        before rejection; by `top1`, then the most queries, then name. Landmarks without a query are left out.
    """
    queries = queries_of(predictions, relevant).query("counts")
    table = queries.groupby("landmark", sort=True).agg(
        queries=("counts", "size"), top1=("top1", "mean"), mean_score=("score", "mean")
    )
    train = landmarks.set_index("landmark")["train"].reindex(table.index).fillna(0).astype("int64")
    table = table.assign(name=names_of(landmarks).reindex(table.index).fillna(table.index.to_series()), train=train)
    order = {"top1": True, "queries": False, "name": True, "landmark": True}
    return table.reset_index()[list(LANDMARK_COLUMNS)].sort_values(
        list(order), ascending=list(order.values()), ignore_index=True
    )


def confused_pairs(
    predictions: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant = "all", *, pairs: int = PAIRS
) -> pd.DataFrame:
    """Count which landmark is taken for which other, before rejection.

    Args:
        predictions: rows of predictions.parquet, of one split.
        landmarks: with `landmark` and `name`, as in data/split/landmarks.parquet.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.
        pairs: how many are kept at most.

    Returns:
        Columns `landmark` (the first true one) and its `name`, `answer` and `answer_name`, `count`, and `examples` (up
        to three record_ids, the surest first); the most frequent first, then by the two names.
    """
    queries = queries_of(predictions, relevant)
    wrong = queries[queries["counts"] & queries["guessed"] & ~queries["guessed_right"]]
    wrong = wrong.sort_values("score", ascending=False, kind="stable")
    names = names_of(landmarks)
    rows = [
        (
            truth,
            names.get(truth, truth),
            answer,
            names.get(answer, answer),
            len(group),
            group["record_id"].tolist()[:EXAMPLES],
        )
        for (truth, answer), group in wrong.groupby(["landmark", "best"], sort=True)
    ]
    table = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    order = {"count": False, "name": True, "answer_name": True, "landmark": True, "answer": True}
    return table.sort_values(list(order), ascending=list(order.values()), ignore_index=True).head(pairs)


def names_of(landmarks: pd.DataFrame) -> "pd.Series[str]":
    """Look up the readable name of each landmark, which is its id where it has none."""
    return landmarks["name"].fillna(landmarks["landmark"]).set_axis(landmarks["landmark"])
