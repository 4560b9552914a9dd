"""Compare landmark models with nearest neighbours on colours.

The baselines of each landmark model of `reports/` (after `make run`) are nearest neighbours without training: on 4 x 4
mean colours, and on histograms of hue, saturation and value. Each answers with the landmark of the nearest training
picture, once among those with a landmark, once among all, where it rejects if the nearest shows none.

    python -m scripts.nearest
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from scripts.honest import mean_colours
from tasks.common.outputs import read_json
from tasks.training.landmark_classes import first_landmark
from tasks.training.tables import open_shards, read_table
from waymark.metrics.functional import global_average_precision

MODELS = Path("reports/models")
BINS = 8  # of hue, of saturation and of value


def first_views(table: pd.DataFrame) -> pd.DataFrame:
    """Keep only the first view of each record, which is all that the baselines use."""
    return table.assign(views=[views[:1] for views in table["views"]])


def histograms(table: pd.DataFrame) -> NDArray[np.float64]:
    """Compute square roots of histograms of 8 x 8 x 8 colours, `(N, 512)`; their distance is the Hellinger distance."""
    shards = open_shards()
    rows = []
    for record_id in table["record_id"]:
        hsv = np.asarray(Image.fromarray(shards[record_id, 0]).convert("HSV")).reshape(-1, 3).astype(int)
        bins = hsv * BINS // 256 @ np.array([BINS**2, BINS, 1])
        rows.append(np.sqrt(np.bincount(bins, minlength=BINS**3) / len(bins)))
    return np.stack(rows)


def figures_of(
    train: pd.DataFrame, test: pd.DataFrame, features: dict[str, NDArray[np.float64]]
) -> tuple[float, float]:
    """Compute GAP and top-1 of the nearest training picture, scored by its distance."""
    search = NearestNeighbors(n_neighbors=1).fit(features["train"])
    distance, found = search.kneighbors(features["test"])
    answer = first_landmark(train).to_numpy()[found[:, 0]]
    truth = [set(landmarks) for landmarks in test["landmarks"]]
    right = np.array([name is not None and name in true for name, true in zip(answer, truth, strict=True)])
    given = np.array([name is not None for name in answer])
    queries = sum(map(bool, truth))
    gap = global_average_precision(torch.tensor(-distance[given, 0]), torch.tensor(right[given]), queries)
    return float(gap), float(right.sum() / queries)


def main() -> None:
    """Print the metrics of the baselines and of the models."""
    table = first_views(read_table())
    table = table[[(record_id, 0) in open_shards() for record_id in table["record_id"]]].reset_index(drop=True)
    parts = {split: table[table["split"] == split].reset_index(drop=True) for split in ("train", "test")}
    named = parts["train"][first_landmark(parts["train"]).notna()].reset_index(drop=True)
    print(f"{'on test':<58}    GAP   top-1")
    for words, describe in (("4 x 4 mean colours", mean_colours), ("HSV histogram", histograms)):
        for among, train in (("pictures of landmarks", named), ("all pictures", parts["train"])):
            features = {"train": describe(train), "test": describe(parts["test"])}
            gap, top1 = figures_of(train, parts["test"], features)
            print(f"nearest {words + ', among ' + among:<50} {gap:5.3f}   {top1:5.3f}")
    for folder in sorted(MODELS.iterdir()):
        figures = read_json(folder / "metrics.json")["test"]
        if figures.get("gap") is not None:
            print(f"{folder.name:<58} {figures['gap']:5.3f}   {figures['top1']:5.3f}")


if __name__ == "__main__":
    main()
