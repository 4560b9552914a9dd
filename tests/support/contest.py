"""A registry with two models of which one is right, a test that they can be held against each other on."""

import shutil

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from mlflow.tracking import MlflowClient
from tiny_model import SHARD_PX, make_tiny_model, write_picture

from tasks.registry.runs import TEST_TAG
from tasks.training.lineage import test_digest
from waymark.data.exposure import EXPOSURE_SCHEMA
from waymark.data.records import records_table
from waymark.images.decode import square_pixels
from waymark.images.resizing import perceptual_hash
from waymark.inference.answering import answer_bytes
from waymark.inference.lookup import trained_files
from waymark.inference.mlflow_model import log_registered_model
from waymark.inference.predictor import load_predictor

LOCATION, LANDMARK = "waymark-location", "waymark-landmark"
RECORDS = 60
PARAMS = "evaluate: {}\n"


class Contest:
    """A checkout with a test and a store; `right` answers the test as it is, `wrong` otherwise."""

    def __init__(self, folder):
        self.folder = folder
        self.sources = {}

    @property
    def uri(self):
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def store(self):
        return MlflowClient(self.uri)

    @property
    def ids(self):
        return [f"r{number:02d}" for number in range(RECORDS)]

    def picture(self, number):
        return self.folder / "data/raw/images" / f"{number}.png"

    def make(self):
        """Write pictures, models, a test whose truth the right model answers, and log both models."""
        for name, seed, landmark in (("right", 3, "arcface"), ("wrong", 8, "softmax")):
            make_tiny_model(self.folder / "trained", name, slots=(None,), landmark=landmark, seed=seed)
        for number in range(RECORDS):
            write_picture(self.picture(number), 1000 + number)
        files = trained_files(self.folder / "trained/right")
        rows = pd.DataFrame({"views": [[self.picture(number).read_bytes()] for number in range(RECORDS)]})
        self.write_test(answer_bytes(load_predictor(files.checkpoint, files.calibration), rows))
        (self.folder / "params.yaml").write_text(PARAMS)
        mlflow.set_tracking_uri(self.uri)
        self.experiment = self.store.create_experiment("waymark", artifact_location=(self.folder / "mlruns").as_uri())
        for name in ("right", "wrong"):
            with mlflow.start_run(experiment_id=self.experiment):
                info = log_registered_model(
                    trained_files(self.folder / "trained" / name), rows.head(1), f"spare-{name}"
                )
            self.sources[name] = info.model_uri
        return self

    def write_test(self, truth):
        """Write the tables of a finished split, all of them test."""
        records = [
            {
                "record_id": record_id,
                "views": [{"path": f"images/{number}.png", "heading_deg": None}],
                "latitude": truth["latitude"][number] + 0.001,  # so that nobody is right to the metre
                "longitude": truth["longitude"][number],
                "landmarks": [truth["landmark"][number]],
            }
            for number, record_id in enumerate(self.ids)
        ]
        for name in ("filtered", "split"):
            (self.folder / "data" / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(records_table(records), self.folder / "data/filtered/records.parquet")
        split = pd.DataFrame({"record_id": self.ids, "split": "test", "reason": None})
        split.to_parquet(self.folder / "data/split/records.parquet")

    def write_groups(self, groups):
        """Give records a group."""
        path = self.folder / "data/filtered/records.parquet"
        rows = pq.read_table(path).to_pylist()
        pq.write_table(records_table([{**row, "group": groups.get(row["record_id"])} for row in rows]), path)

    def looks(self, number):
        """How a picture looks to the models, as an exposure has it."""
        pixels = square_pixels(self.picture(number).read_bytes(), SHARD_PX, max_pixels=10**6)
        flat = pixels.reshape(-1, 3)
        return {"hashes": [perceptual_hash(pixels)], "means": [*flat.mean(axis=0)], "stds": [*flat.std(axis=0)]}

    def copy(self, folder):
        """Give a checkout and a store that a test may change; the logged models stay where they are."""
        other = Contest(folder)
        other.experiment, other.sources = self.experiment, self.sources
        for name in ("data", "params.yaml", "mlflow.db"):
            source = self.folder / name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
        return other

    def add(self, model, name=LOCATION, exposure=(), kept=True, source=None):
        """Register a version of a model that has seen what `exposure` lists; give its number."""
        store = self.store
        run = store.create_run(self.experiment)
        if kept:
            path = self.folder / "exposure.parquet"
            seen(exposure).to_parquet(path, index=False)
            store.log_artifact(run.info.run_id, str(path))
        if not store.search_registered_models(f"name = '{name}'"):
            store.create_registered_model(name)
        tags = {TEST_TAG: test_digest(self.folder / "data/split/records.parquet")}
        its = store.create_model_version(name, source or self.sources[model], run_id=run.info.run_id, tags=tags)
        store.set_registered_model_alias(name, "challenger", its.version)
        return str(its.version)


def seen(rows):
    """Fill up rows of an exposure."""
    empty = {"split": "train", "group": None, "hashes": [None], "means": [None] * 3, "stds": [None] * 3}
    rows = [{"landmark": "L1", **empty, **row} for row in rows] or [{"record_id": "other", "landmark": "L1", **empty}]
    table = pd.DataFrame(rows).reindex(columns=EXPOSURE_SCHEMA.names)
    return table.astype({name: np.float64 for name in ("latitude", "longitude", "red", "green", "blue")})
