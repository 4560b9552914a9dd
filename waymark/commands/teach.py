"""`waymark teach`: a new landmark for a model, from a few pictures and without training."""

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
from waymark.commands.terminal import say, whole_file
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

ENOUGH = 3  # pictures of a landmark; with fewer, one that is unlike the others decides


class Tried(NamedTuple):
    """A picture that the model was asked for without having been shown it."""

    picture: Path
    found: bool  # whether it was named as what it shows
    instead: str | None  # what else it was named, None for no landmark


def teach_landmark(name: str, images: Sequence[Path], reference: str | None, out: Path, landmark: str | None) -> None:
    """Add pictures of a new landmark to the index of a model, write it as a new file, and say how well it knows it.

    The network stays as it is: a picture is recognised by the pictures of the index that look most like it.
    What validation said of the model, the threshold among it, stays as it was, too.

    Args:
        name: what people call the landmark.
        images: pictures that show it, as `waymark.commands.arguments.check_teach` lets them pass.
        reference: of the model, see `waymark.inference.lookup.model_files`.
        out: file to write.
        landmark: its id, by default its name.

    Raises:
        ModelError: the model knows no landmarks.
        ParameterError: the landmark is known already.
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
        taught = ModelFiles(files.name, files.checkpoint, calibration, files.metrics, files.attribution)
        load_predictor(taught.checkpoint, taught.calibration)  # raises where it could not answer
        with whole_file(out) as path:
            export_model(taught, path)
    say(f"{out} is {files.name} with {name}, from {len(images)} picture{'s' * (len(images) > 1)}")
    for line in _in_words(name, leave_one_out(predictor, images, embedding)):
        say(line)
    if len(images) < ENOUGH:
        say(f"{ENOUGH} pictures or more, from several sides and days, are recognised better")


def leave_one_out(predictor: Predictor, images: Sequence[Path], embedding: Tensor) -> list[Tried]:
    """Ask for each picture of a new landmark what it shows, as if the model had been shown the others alone.

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
    names = [predictor.names.get(its, its) for its in np.array(recogniser.landmarks)[known.candidates[:, 0]].tolist()]
    return [
        Tried(image, score >= threshold and score > other, called if other >= max(score, threshold) else None)
        for image, score, other, called in zip(images, new, known.scores[:, 0], names, strict=True)
    ]


def _in_words(name: str, tried: Sequence[Tried]) -> list[str]:
    if not tried:
        return ["one picture cannot be tried: there is no other to recognise it by"]
    found = sum(its.found for its in tried)
    missed = [f"  {its.picture}: {its.instead or 'no landmark'}" for its in tried if not its.found]
    return [f"each picture left out in turn, {found} of {len(tried)} are recognised as {name} by the others", *missed]


def _check_model(predictor: Predictor, model: str) -> None:
    if predictor.recogniser is None or predictor.calibration.landmark is None:
        raise ModelError(f"{model} knows no landmarks; name a model that does with --model")


def _check_new(predictor: Predictor, landmark: str, name: str) -> None:
    assert predictor.recogniser is not None
    if landmark in map(one_form, predictor.recogniser.landmarks):
        called = predictor.names.get(landmark, landmark)
        raise ParameterError(f"the model knows the landmark {landmark} already ({called}); give another --id")
    if name in map(one_form, predictor.names.values()):
        raise ParameterError(f"the model knows a landmark called {name} already; give another name")


def _embed(predictor: Predictor, images: Sequence[Path]) -> Tensor:
    """Give the `(N, D)` embeddings of pictures, each a photo of its own."""
    config = predictor.locator.config
    pictures = [read_named(image, config.shard_px, config.fit) for image in images]
    broken = [f"{path}: {its.reason or its.status}" for path, its in zip(images, pictures, strict=True)
              if its.pixels is None]  # fmt: skip
    if broken:
        raise ImageError("; ".join(broken))
    batches = [stack([make_example(config, [its.pixels], [None])]) for its in pictures]
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
