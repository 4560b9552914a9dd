"""Check that the bundled task cannot be solved by shortcuts.

Two checks on the present data and `reports/` (after `make run`):

- A nearest neighbour on 4 x 4 mean colours of the four views must be far worse than the model, or the pictures would
  be a colour code.
- The same model trained on pictures shuffled against their places must not be better than always answering the same
  place, or something other than the pictures would leak.

    python -m scripts.honest [--model cells] [--epochs N]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from tasks.common.outputs import read_json
from tasks.common.stage import load_params
from tasks.train import STAGE
from tasks.training.examples import make_examples
from tasks.training.setup import TrainingSetup, prepare, train_locator
from tasks.training.tables import open_shards, places_of, read_statistics, read_table
from waymark.geo.sphere import great_circle_km
from waymark.images.batches import Examples
from waymark.inference.predictor import places
from waymark.models.inference import run

TILES = 4


def mean_colours(table: pd.DataFrame) -> NDArray[np.float64]:
    """Compute the mean colours of 4 x 4 tiles of each view: `(N, views * 4 * 4 * 3)`."""
    shards = open_shards()
    side = shards.size_px // TILES
    rows = []
    for record_id, views in zip(table["record_id"], table["views"], strict=True):
        pixels = np.stack([shards[record_id, view] for view in range(len(views))]).astype(float)
        cut = pixels[:, : side * TILES, : side * TILES]
        rows.append(cut.reshape(len(views), TILES, side, TILES, side, 3).mean(axis=(2, 4)).ravel())
    return np.stack(rows)


def nearest_colours_km(table: pd.DataFrame) -> float:
    """Compute the mean test error of answering with the place of the training record that has the nearest colours."""
    train, test = (table[table["split"] == split] for split in ("train", "test"))
    search = NearestNeighbors(n_neighbors=1).fit(mean_colours(train))
    found = search.kneighbors(mean_colours(test), return_distance=False)[:, 0]
    return mean_km(places_of(train)[found], places_of(test))


def shuffled_km(model: str, table: pd.DataFrame, epochs: int | None) -> float:
    """Compute the mean test error of the same model, trained on pictures shuffled against their places."""
    entry = STAGE.read(load_params(), model)
    setup = prepare(model, replace(entry, epochs=epochs or entry.epochs), table, read_statistics())
    rng = np.random.default_rng(entry.seed)
    setup = setup._replace(train=shuffle(setup.train, rng), val=shuffle(setup.val, rng))
    with tempfile.TemporaryDirectory() as work:
        train_locator(setup, Path(work))
    return test_km(setup, table[table["split"] == "test"])


def shuffle(examples: Examples, rng: np.random.Generator) -> Examples:
    """Assign to each place the pictures of another."""
    order = rng.permutation(len(examples))
    return replace(
        examples,
        record_ids=[examples.record_ids[row] for row in order],
        headings=[examples.headings[row] for row in order],
    )


def test_km(setup: TrainingSetup, test: pd.DataFrame) -> float:
    """Compute the mean error of a trained locator on the test records."""
    nothing = np.full((len(test), 2), np.nan), np.full(len(test), -1, dtype=np.int64)
    outputs = run(setup.locator, setup.loaders.evaluation(make_examples(test, *nothing)))
    return mean_km(places(setup.locator, outputs)[0], places_of(test))


def mean_km(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Compute the mean great-circle distance."""
    return float(great_circle_km(predicted, truth).mean())


def main() -> None:
    """Print both checks next to the model's metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cells", help="entry of models: in params.yaml (%(default)s)")
    parser.add_argument("--epochs", type=int, help="train the shuffled model for this many epochs instead")
    arguments = parser.parse_args()
    figures = read_json(Path("reports/models") / arguments.model / "metrics.json")["test"]
    table = read_table()
    table = table[table["latitude"].notna()]
    constant, model = figures["constant_mean_km"], figures["mean_km"]
    colours = nearest_colours_km(table)
    shuffled = shuffled_km(arguments.model, table, arguments.epochs)
    print(f"always the same place   {constant:7.1f} km")
    print(f"{arguments.model:<23} {model:7.1f} km   {model / constant:.3f} of the constant")
    print(f"nearest 4 x 4 colours   {colours:7.1f} km   the model is {model / colours:.3f} of it")
    radius = pd.read_parquet(Path("reports/models") / arguments.model / "predictions.parquet")
    radius = radius[(radius["split"] == "test") & radius["distance_km"].notna()]
    rank = radius["radius_90_km"].corr(radius["distance_km"], method="spearman")
    print(f"90 % radius: covers {figures['coverage_90']:.3f} of test, rank correlation with the error {rank:.3f}")
    print(f"shuffled pictures       {shuffled:7.1f} km   {shuffled / constant:.3f} of the constant")


if __name__ == "__main__":
    main()
