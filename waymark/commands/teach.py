"""`waymark teach`: add a landmark to a model, from a few pictures and without training."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from waymark.commands.pictures import read_named
from waymark.commands.terminal import say
from waymark.data.names import one_form
from waymark.errors import ImageError, ModelError, ParameterError
from waymark.images.batches import stack
from waymark.inference.answering import make_example
from waymark.inference.bundle import ModelFiles, export_model
from waymark.inference.lookup import model_files
from waymark.inference.predictor import Predictor, load_predictor
from waymark.inference.references import LANDMARK
from waymark.models.calibration import unit_length
from waymark.models.calibration_files import NAMES
from waymark.models.inference import run
from waymark.models.recognition import Evidence, fuse
from waymark.system.files import whole_file

ENOUGH = 3  # pictures of a landmark; with fewer, one unusual picture decides


class Tried(NamedTuple):
    """A picture that was recognised by the other pictures of its landmark."""

    picture: Path
    found: bool  # whether it was recognised
    instead: str | None  # the wrong landmark, None for no landmark


def teach_landmark(name: str, images: Sequence[Path], reference: str | None, out: Path, landmark: str | None) -> None:
    """Add pictures of a new landmark to the index of a model, write it as a new file, and report how it is recognised.

    The network is unchanged: a picture is recognised by the most similar pictures of the index. Everything learnt on
    val, including the threshold, is unchanged, too.

    Args:
        name: readable name of the landmark.
        images: pictures that show it and passed `waymark.commands.arguments.check_teach`.
        reference: of the model, see `waymark.inference.lookup.model_files`.
        out: file to write.
        landmark: its id, by default its name.

    Raises:
        ModelError: the model has no landmarks.
        ParameterError: the model already has the landmark.
        ImageError: an image cannot be decoded.
    """
    name, landmark = one_form(name), one_form(landmark or name)
    with model_files(reference, prefer=LANDMARK) as files, TemporaryDirectory(prefix="waymark-") as folder:
        predictor = load_predictor(files.checkpoint, files.calibration)
        _check_model(predictor, files.name)
        _check_new(predictor, landmark, name)
        embedding = _embed(predictor, images)
        calibration = Path(shutil.copytree(files.calibration, Path(folder) / "calibration"))
        _add_records(calibration, landmark, unit_length(embedding))
        _add_name(calibration, landmark, name)
        extended = ModelFiles(files.name, files.checkpoint, calibration, files.metrics, files.attribution)
        load_predictor(extended.checkpoint, extended.calibration)  # raises if it could not answer
        with whole_file(out) as path:
            export_model(extended, path)
    say(f"{out} is {files.name} with {name}, from {len(images)} picture{'s' * (len(images) > 1)}")
    for line in _in_words(name, leave_one_out(predictor, images, embedding)):
        say(line)
    if len(images) < ENOUGH:
        say(f"{ENOUGH} or more pictures, from several sides and days, give better recognition")


def leave_one_out(predictor: Predictor, images: Sequence[Path], embedding: Tensor) -> list[Tried]:
    """Recognise each picture of a new landmark by the others (leave-one-out).

    Args:
        predictor: the model without the landmark.
        images: pictures that show it, at least one.
        embedding: `(N, D)` of them.
    """
    recogniser, fusion = predictor.recogniser, predictor.calibration.landmark
    assert recogniser is not None
    assert fusion is not None
    if len(images) == 1:
        return []
    known = recogniser.recognise(embedding, fusion)
    looks = unit_length(embedding)
    cosine = looks @ looks.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = cosine.max(axis=1, keepdims=True).astype(np.float64)  # (N, 1) to another picture of the landmark
    new = fuse(Evidence(np.empty((len(images), 0)), nearest), fusion)[:, 0]
    threshold = -np.inf if fusion.threshold is None else fusion.threshold
    best = np.array(recogniser.landmarks)[known.candidates[:, 0]].tolist()
    names = [predictor.names.get(landmark, landmark) for landmark in best]
    return [
        Tried(image, score >= threshold and score > other, called if other >= max(score, threshold) else None)
        for image, score, other, called in zip(images, new, known.scores[:, 0], names, strict=True)
    ]


def _in_words(name: str, tried: Sequence[Tried]) -> list[str]:
    if not tried:
        return ["one picture cannot be tested: there is no other to recognise it by"]
    found = sum(one.found for one in tried)
    missed = [f"  {one.picture}: {one.instead or 'no landmark'}" for one in tried if not one.found]
    return [f"each picture left out in turn, {found} of {len(tried)} are recognised as {name} by the others", *missed]


def _check_model(predictor: Predictor, model: str) -> None:
    if predictor.recogniser is None or predictor.calibration.landmark is None:
        raise ModelError(f"{model} has no landmarks; name a model that has with --model")


def _check_new(predictor: Predictor, landmark: str, name: str) -> None:
    assert predictor.recogniser is not None
    if landmark in map(one_form, predictor.recogniser.landmarks):
        called = predictor.names.get(landmark, landmark)
        raise ParameterError(f"the model already has the landmark {landmark} ({called}); choose another --id")
    if name in map(one_form, predictor.names.values()):
        raise ParameterError(f"the model already has a landmark called {name}; choose another name")


def _embed(predictor: Predictor, images: Sequence[Path]) -> Tensor:
    """Compute the `(N, D)` embeddings of single photos."""
    config = predictor.locator.config
    pictures = [read_named(image, config.shard_px, config.fit) for image in images]
    broken = [f"{path}: {picture.reason or picture.status}" for path, picture in zip(images, pictures, strict=True)
              if picture.pixels is None]  # fmt: skip
    if broken:
        raise ImageError("; ".join(broken))
    batches = [stack([make_example(config, [picture.pixels], [None])]) for picture in pictures]
    return run(predictor.locator, batches, landmark=False).embedding


def _add_records(calibration: Path, landmark: str, embedding: NDArray[np.float32]) -> None:
    index = pq.read_table(calibration / "index.parquet")
    count = len(embedding)
    columns = {
        "record_id": [f"{landmark}/{number}" for number in range(1, count + 1)],
        "latitude": [None] * count,
        "longitude": [None] * count,
        "landmark": [landmark] * count,
        "embedding": embedding.tolist(),
    }
    added = pa.table(columns, index.schema)
    pq.write_table(pa.concat_tables([index, added]), calibration / "index.parquet", compression="zstd")


def _add_name(calibration: Path, landmark: str, name: str) -> None:
    path = calibration / "landmarks.parquet"
    known = pq.read_table(path).cast(NAMES) if path.exists() else NAMES.empty_table()
    added = pa.table({"landmark": [landmark], "name": [name]}, NAMES)
    pq.write_table(pa.concat_tables([known, added]), path, compression="zstd")
