"""Ask two registered models the same test records again, by the same code and from the original pictures."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from tasks.registry.runs import SPLIT_RECORDS, TEST_TAG
from tasks.training.landmark_classes import first_landmark
from tasks.training.lineage import test_digest
from tasks.training.tables import RECORDS, headings, places_of
from waymark.data.duplicates import Looks, looks_of
from waymark.data.records import read_records
from waymark.errors import ModelError
from waymark.images.decode import MAX_PIXELS, Picture
from waymark.images.resizing import channel_figures, perceptual_hash, read_pictures
from waymark.images.shards import INDEX_SCHEMA
from waymark.images.tars import read_bytes
from waymark.inference.answering import Query, answer_bytes, answer_files
from waymark.inference.predictor import Predictor, load_predictor
from waymark.inference.registry import download_registered
from waymark.metrics.functional import haversine_km
from waymark.promotion.checks import Question
from waymark.system.checkout import NIGHT, checkout

logger = logging.getLogger(__name__)

RAW = Path("data/raw")
TIMED, REPEATS = 10, 3  # records that latency is taken from, and answers to each
LONGEST_S = 20.0  # after which it must do with fewer records


class TestSet(NamedTuple):
    """The test records of a checkout.

    Attributes:
        folder: root of the checkout.
        records: `record_id`, `views`, `landmarks`, `landmark` (the first, or null), `latitude`, `longitude`, `group`.
    """

    __test__ = False  # of pytest, which takes the name for one of its own

    folder: Path
    records: pd.DataFrame


class Answered(NamedTuple):
    """What a model answers.

    Attributes:
        rows: as in predictions.parquet, a row for each record of which it saw a picture.
        looks: of all records, in their order, as the model sees them.
    """

    rows: pd.DataFrame
    looks: Looks


def find_test(digest: str | None) -> TestSet:
    """Find the test that a model was evaluated on, in the night's checkout or here.

    Args:
        digest: of its test records, from the tags of its version.

    Raises:
        ModelError: neither has that test.
    """
    folders = [checkout().joinpath(*NIGHT), Path()]
    found = {folder: test_digest(folder / SPLIT_RECORDS) for folder in folders if (folder / SPLIT_RECORDS).exists()}
    if not found:
        where = " or ".join(str(folder / SPLIT_RECORDS) for folder in folders)
        raise ModelError(f"there is no test to score on: {where} is missing; run the stages with make run first")
    match = next((folder for folder, tested in found.items() if tested == digest), None)
    if match is None:
        places = " and ".join(str(folder.resolve()) for folder in found)
        raise ModelError(
            f"the split of {places} has another test than the one that the challenger was evaluated on"
            f" ({TEST_TAG} {str(digest)[:12]}); run dvc repro at the revision in its tag waymark.git.revision, or"
            " register a model of this split with make run"
        )
    records = read_records(match / RECORDS).to_pandas().drop(columns="split")
    split = pd.read_parquet(match / SPLIT_RECORDS, columns=["record_id", "split"])
    test = split.loc[split["split"] == "test", ["record_id"]]
    rows = records.merge(test, on="record_id").sort_values("record_id", ignore_index=True)
    return TestSet(match, rows.assign(landmark=first_landmark(rows)))


def load_registered(name: str, version: str) -> Predictor:
    """Load a version of the registry, ready to answer.

    Raises:
        ModelError: it cannot be read.
    """
    with TemporaryDirectory(prefix="waymark-") as folder:
        files = download_registered(f"{name}/{version}", Path(folder))
        assert files is not None
        return load_predictor(files.checkpoint, files.calibration)


def answer_test(predictor: Predictor, test: TestSet) -> Answered:
    """Answer for every test record, from the original pictures."""
    config, records = predictor.locator.config, test.records
    queries = [
        Query(row.record_id, tuple(test.folder / RAW / view["path"] for view in row.views), tuple(headings(row.views)))
        for row in records.itertuples()
    ]
    paths = [path for query in queries for path in query.pictures]
    views = [(query.name, view) for query in queries for view in range(len(query.pictures))]
    index: list[dict[str, Any]] = []
    pictures = read_pictures(paths, config.shard_px, max_pixels=MAX_PIXELS, fit=config.fit)
    answers = answer_files(predictor, queries, _indexed(pictures, views, index))
    logger.info("answered for %d of %d test records", len(answers.table), len(queries))
    schema = INDEX_SCHEMA.with_metadata({"size_px": str(config.shard_px)})
    looks = looks_of(pa.Table.from_pylist(index, schema), records["record_id"].tolist())
    return Answered(_rows(records.loc[answers.table.index], answers.table), looks)


def _indexed(
    pictures: Iterator[Picture], views: Sequence[tuple[str, int]], index: list[dict[str, Any]]
) -> Iterator[Picture]:
    """Hand pictures on, and write into the index how they look, as `resize` does."""
    for (record_id, view), picture in zip(views, pictures, strict=True):
        row: dict[str, Any] = {"record_id": record_id, "view": view, "status": picture.status}
        if picture.pixels is not None:
            row |= {"perceptual_hash": perceptual_hash(picture.pixels), **channel_figures(picture.pixels)}
        index.append(row)
        yield picture


def _rows(records: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Compare answers with the truth, in the columns of predictions.parquet."""
    rows = records[["record_id", "latitude", "longitude", "landmarks"]].assign(split="test")
    rows["predicted_latitude"], rows["predicted_longitude"] = answers["latitude"], answers["longitude"]
    answered = torch.tensor(answers[["latitude", "longitude"]].to_numpy(dtype=np.float64))
    rows["distance_km"] = haversine_km(answered, torch.from_numpy(places_of(records))).numpy()
    rows["radius_50_km"], rows["radius_90_km"] = answers["radius_50_km"], answers["radius_90_km"]
    rows["predicted_landmark"], rows["best_landmark"] = answers["landmark"], answers["best_landmark"]
    rows["score"] = answers["landmark_score"]
    right = [best in set(truth) for best, truth in zip(rows["best_landmark"], rows["landmarks"], strict=True)]
    rows["rank"] = pd.Series(1, index=rows.index, dtype="Int64").where(np.array(right, dtype=bool))
    return rows.reset_index(drop=True)


def unseen(
    question: Question, test: TestSet, answered: dict[str, Answered], seen: dict[str, pd.DataFrame]
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Keep the records that both answered and neither has seen; count the others by the reason."""
    ids = test.records["record_id"]
    reasons = pd.Series(None, index=ids, dtype=object)
    both = set.intersection(*(set(answers.rows["record_id"]) for answers in answered.values()))
    reasons[~ids.isin(both).to_numpy()] = "without a picture"
    for role, found in seen.items():
        new = reasons.index.isin(found["record_id"]) & reasons.isna().to_numpy()
        ways = found.set_index("record_id")["way"].reindex(reasons.index[new])
        reasons[new] = [f"seen by the {role} (by {way})" for way in ways]
    if question == "places":
        nowhere = ~np.isfinite(places_of(test.records)).all(axis=1)
        reasons[nowhere & reasons.isna().to_numpy()] = "without coordinates"
    kept = set(reasons.index[reasons.isna()])
    rows = {
        role: answers.rows[answers.rows["record_id"].isin(kept)].reset_index(drop=True)
        for role, answers in answered.items()
    }
    return rows, {str(reason): int(count) for reason, count in reasons.value_counts().sort_index().items()}


def latency_s(predictor: Predictor, test: TestSet) -> float:
    """Measure how long a model takes for one record, from the bytes of its pictures to the answer.

    The median over some records of the fastest of three answers each: what else the machine does delays the others.

    Raises:
        ModelError: no picture of the first test records can be decoded.
    """
    taken: list[float] = []
    start = time.perf_counter()
    for record in test.records.head(TIMED).itertuples():
        row = pd.DataFrame([{"views": _bytes(test.folder, record.views), "headings_deg": headings(record.views)}])
        if answer_bytes(predictor, row)["error"].isna().all():  # no picture in quarantine
            taken.append(min(_seconds(predictor, row) for _ in range(REPEATS)))
        if taken and time.perf_counter() - start > LONGEST_S:
            break
    if not taken:
        raise ModelError("no picture of the first test records can be decoded; see data/shards/quarantine.parquet")
    return float(np.median(taken))


def _seconds(predictor: Predictor, row: pd.DataFrame) -> float:
    start = time.perf_counter()
    answer_bytes(predictor, row)
    return time.perf_counter() - start


def _bytes(folder: Path, views: Any) -> list[bytes]:
    found = []
    for view in views:
        with suppress(FileNotFoundError):
            found.append(read_bytes(folder / RAW, view["path"]))
    return found
