"""The public Python API: `waymark.load(model).predict(picture)`."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waymark.errors import ImageError
from waymark.images.batches import stack
from waymark.images.decode import MAX_PIXELS, Fit, Picture, picture_of, read_picture
from waymark.images.views import Heading
from waymark.inference.answering import BATCH_SIZE, Undecodable, best_places, make_example
from waymark.inference.candidates import Candidate, named_candidates
from waymark.inference.lookup import Model, Models, load_models
from waymark.inference.predictor import Guesses

View = str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
Record = View | Sequence[View]


@dataclass(frozen=True)
class Answer:
    """Where a photo was taken, and which landmark it shows; None where the model does not know.

    Args:
        latitude: in degrees.
        longitude: in degrees.
        radius_50_km: radius that holds the truth in half of all cases.
        radius_90_km: radius that holds the truth in nine of ten cases.
        candidates: the most probable places, the best first.
        landmark: its id; None where the model names none.
        landmark_name: what people call it.
        landmark_confidence: 0 to 1, how probable it is that the best candidate is right, named or not.
    """

    latitude: float | None
    longitude: float | None
    radius_50_km: float | None
    radius_90_km: float | None
    candidates: tuple[Candidate, ...]
    landmark: str | None
    landmark_name: str | None
    landmark_confidence: float | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values that JSON knows."""
        return {**asdict(self), "candidates": [asdict(candidate) for candidate in self.candidates]}


class PicturePredictor:
    """Answers for pictures, as `waymark.load` returns it.

    Args:
        models: who answers which question.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.models.name

    def predict(self, picture: Record, *, headings_deg: Sequence[Heading] | None = None, top_k: int = 5) -> Answer:
        """Answer for one photo, or for the views of one place.

        Args:
            picture: path, bytes of a file, PIL image, `(H, W, 3)` RGB array, or a list of these: views of one place.
            headings_deg: of each view, in degrees clockwise from north; None where unknown.
            top_k: most candidates.

        Raises:
            ImageError: no view can be decoded.
            ValueError: `headings_deg` are not one for each view, or `top_k` is below 1.
        """
        (answer,) = self._answers([picture], headings_deg, top_k)
        if isinstance(answer, Undecodable):
            raise ImageError(f"{answer.path}: {answer.reason}" if answer.path else answer.reason)
        return answer

    def predict_many(self, pictures: Iterable[Record], *, top_k: int = 5) -> Iterator[Answer | Undecodable]:
        """Answer for many photos, in their order.

        Args:
            pictures: as of `predict`; they are read as the answers are asked for, some at a time.
            top_k: most candidates of each.

        Yields:
            An answer for each, or `Undecodable` where no view of it can be decoded.
        """
        waiting = iter(pictures)
        while chunk := list(islice(waiting, BATCH_SIZE)):
            yield from self._answers(chunk, None, top_k)

    def _answers(
        self, records: Sequence[Record], headings_deg: Sequence[Heading] | None, top_k: int
    ) -> Iterator[Answer | Undecodable]:
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; ask for at least 1 candidate")
        views = [_views(record) for record in records]
        headings = [_headings(headings_deg, len(each)) for each in views]
        reasons: dict[int, str] = {}
        rows = {model.name: _ask(model, views, headings, top_k, reasons) for model in self.models.each}
        place, landmark = (
            {} if model is None else rows[model.name] for model in (self.models.place, self.models.landmark)
        )
        for number, each in enumerate(views):
            if number in place or number in landmark:
                yield _answer(place.get(number), landmark.get(number))
            else:
                path = next((Path(view) for view in each if isinstance(view, str | PathLike)), None)
                yield Undecodable(path, reasons[number])


def _views(record: Record) -> Sequence[View]:
    if isinstance(record, str | PathLike | bytes | Image.Image | np.ndarray):
        return [record]
    return record


class _Row(NamedTuple):
    guesses: Guesses
    row: int


def _ask(
    model: Model,
    records: Sequence[Sequence[View]],
    headings_deg: Sequence[Sequence[Heading]],
    top_k: int,
    reasons: dict[int, str],
) -> dict[int, _Row]:
    """Ask a model for the records that can be decoded, and note the reasons of the others."""
    config = model.predictor.locator.config
    examples = {}
    for number, (views, headings) in enumerate(zip(records, headings_deg, strict=True)):
        pictures = [_decode(view, config.shard_px, config.fit) for view in views]
        example = make_example(config, [picture.pixels for picture in pictures], headings)
        if example.present.any():
            examples[number] = example
        else:
            broken = dict.fromkeys(picture.reason or picture.status for picture in pictures if picture.pixels is None)
            reasons[number] = "; ".join(broken) or "there is no view"
    if not examples:
        return {}
    guesses = model.predictor.predict([stack(list(examples.values()))], best_cells=top_k)
    return {number: _Row(guesses, row) for row, number in enumerate(examples)}


def _headings(headings_deg: Sequence[Heading] | None, views: int) -> Sequence[Heading]:
    if headings_deg is None:
        return [None] * views
    if len(headings_deg) != views:
        raise ValueError(f"headings_deg has {len(headings_deg)} for {views} views; give one for each")
    return headings_deg


def _decode(view: View, size_px: int, fit: Fit) -> Picture:
    if isinstance(view, bytes | Image.Image):
        opened = BytesIO(view) if isinstance(view, bytes) else view
        return picture_of(opened, size_px, max_pixels=MAX_PIXELS, fit=fit)
    if isinstance(view, np.ndarray):
        if view.dtype != np.uint8 or view.ndim != 3 or view.shape[2] != 3 or not view.size:
            return Picture("unreadable", f"an array of {view.dtype} {view.shape} is no (H, W, 3) of uint8", None)
        return picture_of(Image.fromarray(view), size_px, max_pixels=MAX_PIXELS, fit=fit)
    return read_picture(Path(view), size_px, max_pixels=MAX_PIXELS, fit=fit)


def _answer(place: _Row | None, landmark: _Row | None) -> Answer:
    known: dict[str, Any] = dict.fromkeys(field.name for field in fields(Answer)) | {"candidates": ()}
    if place is not None:
        guesses, row = place
        latitude, longitude = guesses.lat_lon[row].tolist()
        known |= {
            "latitude": latitude,
            "longitude": longitude,
            "radius_50_km": _number(guesses.radius_50_km[row]),
            "radius_90_km": _number(guesses.radius_90_km[row]),
            "candidates": named_candidates(best_places(guesses)[row]),
        }
    if landmark is not None:
        guesses, row = landmark
        known |= {
            "landmark": guesses.landmark[row],
            "landmark_name": guesses.landmark_name[row],
            "landmark_confidence": _number(guesses.landmark_confidence[row]),
        }
    return Answer(**known)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def load(model: str | PathLike[str] | None = None) -> PicturePredictor:
    """Load a model.

    Args:
        model: path of an exported file, of a checkpoint or of its folder; or a name in the registry, such as
            `champion` or `waymark-landmark@champion`. None takes the champions, each for its own question.

    Raises:
        ModelError: there is no such model.
    """
    return PicturePredictor(load_models([] if model is None else [fspath(model)]))
