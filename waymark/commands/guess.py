"""`waymark guess`: where a photo was taken and what it shows, for people, for machines, and for maps."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import typer
from PIL import Image

from waymark.commands.arguments import Outputs, parse_headings
from waymark.commands.asking import Square, ask, square_of, squares_of, view_slots
from waymark.commands.geojson import feature_collection
from waymark.commands.pictures import as_jpeg, open_upright, read_named, with_attention
from waymark.commands.terminal import say, show, write_text
from waymark.errors import ImageError, ParameterError
from waymark.geo.regions import load_land
from waymark.images.decode import Picture
from waymark.images.views import Heading
from waymark.inference.answering import BEST, COLUMNS, Pixels, Places, Query, attention_maps, cell_probabilities
from waymark.inference.candidates import named_candidates
from waymark.inference.lookup import Model, Models, load_models
from waymark.report.drawing import draw_answer
from waymark.report.wording import Answer, drawn_lines, facts
from waymark.sources.quad_folders import VIEW_NAMES
from waymark.system.files import whole_file
from waymark.system.terminal import printable

TOP_K = 5
NAMES = ("place", "region", "country")


class Asked(NamedTuple):
    """A query with its pictures decoded to each square that a model needs."""

    query: Query
    pictures: dict[Square, list[Picture]]

    def broken(self) -> list[str]:
        """List the pictures that cannot be decoded, each with the reason."""
        decoded = zip(self.query.pictures, next(iter(self.pictures.values())), strict=True)
        return [f"{path}: {picture.reason or picture.status}" for path, picture in decoded if picture.pixels is None]

    def pixels(self, model: Model) -> list[Pixels]:
        """Return the decoded pictures in the size of a model."""
        return [picture.pixels for picture in self.pictures[square_of(model)] if picture.pixels is not None]


def guess_images(
    images: Sequence[Path], references: Sequence[str], headings: str | None, each: bool, out: Outputs
) -> None:
    """Answer for images, and print or write the answers.

    Args:
        images: pictures that passed `check_guess`.
        references: of models, see `waymark.inference.lookup.load_models`.
        headings: of the images in degrees, separated by commas; None if unknown.
        each: whether each image is a photo of its own.
        out: what to write.

    Raises:
        ImageError: an image cannot be decoded; of several photos the others are answered first.
        ParameterError: more views than a model takes.
    """
    queries = make_queries(images, headings, each)
    models = load_models(references)
    _check_views(queries, models)
    asked = [_read(query, models) for query in queries]
    if whole := [query for query in asked if not query.broken()]:
        _write(_answer(models, whole), whole, models, out)
    if broken := list(chain.from_iterable(query.broken() for query in asked)):
        raise ImageError("; ".join(broken))


def make_queries(images: Sequence[Path], headings: str | None, each: bool) -> list[Query]:
    """Group images into queries, with the heading of each.

    Raises:
        ParameterError: headings are not numbers, too few or too many.
    """
    if each:
        return [Query(str(image), (image,), (None,)) for image in images]
    angles = _from_names(images) if headings is None else parse_headings(headings, len(images))
    return [Query(", ".join(image.name for image in images), tuple(images), angles)]


def _from_names(images: Sequence[Path]) -> tuple[Heading, ...]:
    """Read the headings from the names of a quadruplet, such as 90.jpg, if all images have such names and differ.

    Other numbers, such as 17.jpg, come from a camera or a folder.
    """
    names = [image.stem for image in images]
    if len(set(names)) < len(images) or not set(names) <= VIEW_NAMES:
        return (None,) * len(images)
    return tuple(map(float, names))


def _check_views(queries: Sequence[Query], models: Models) -> None:
    views, most = max(len(query.pictures) for query in queries), max(map(view_slots, models.each))
    if views > most:
        raise ParameterError(
            f"{models.name} takes {_count(most)} of a place, and {views} images are named; --each answers each of them"
        )
    for model in models.each:
        if (slots := view_slots(model)) < views:
            say(f"{model.name} takes {_count(slots)} of a place; the rest of the {views} were not used")
        headed = any(slot is not None for slot in model.predictor.locator.config.slots)
        if headed and views > 1 and any(None in query.headings_deg for query in queries):
            say(f"no headings are known, so the images are taken in the order of those of {model.name}; set --headings")


def _count(views: int) -> str:
    return f"{views} view{'s' * (views > 1)}"


def _read(query: Query, models: Models) -> Asked:
    def decoded(square: Square) -> list[Picture]:
        return [read_named(path, square.side_px, square.fit) for path in query.pictures]

    return Asked(query, {square: decoded(square) for square in squares_of(models)})


def _answer(models: Models, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """Return name, `COLUMNS`, best_landmark, names of the place and candidates of each answer, None for unknowns."""
    pictures = {square: chain.from_iterable(one.pictures[square] for one in asked) for square in squares_of(models)}
    found = ask(models, [one.query for one in asked], pictures, TOP_K)
    rows = zip(found.table.index.tolist(), found.table[["name", *COLUMNS, BEST]].to_dict("records"), strict=True)
    return [_known(row) | _named(row, found.places[number]) for number, row in rows]


def _named(row: dict[Any, Any], places: Places) -> dict[str, Any]:
    """Name the place of an answer and its candidates."""
    answered = np.array([[row["latitude"], row["longitude"], np.nan]])
    place, *candidates = named_candidates(np.concatenate([answered, places])) or [None]
    return {**{name: getattr(place, name, None) for name in NAMES}, "candidates": candidates}


def _known(row: dict[Any, Any]) -> dict[str, Any]:
    known = {name: None if pd.isna(value) else value for name, value in row.items()}
    return {**known, "cell": row["cell"] if row["cell"] >= 0 else None}


def _write(rows: list[dict[str, Any]], asked: Sequence[Asked], models: Models, out: Outputs) -> None:
    answers = [_as_answer(row, one, models, out) for row, one in zip(rows, asked, strict=True)]
    if out.geojson is not None:
        write_text(json.dumps(feature_collection(answers, models.name), allow_nan=False) + "\n", out.geojson)
    if out.html is not None:
        from waymark.report.answers import answer_page  # here, because Plotly is slow to import

        write_text(answer_page(answers, models.name, load_land()), out.html)
    if out.draw is not None:
        _draw(answers[0], asked[0], models, out.draw)
    if out.as_json:
        document = {"model": models.name, "answers": _as_json(rows, asked)}
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    elif str(out.geojson) != "-":
        for answer in answers:
            known = facts(answer)
            width = max(map(len, known))
            show("\n".join([printable(answer.name), *(f"  {name:<{width}}  {value}" for name, value in known.items())]))
        say(f"answered by {models.name}")


def _as_answer(row: dict[str, Any], asked: Asked, models: Models, out: Outputs) -> Answer:
    """Combine an answer with what the outputs show in addition."""
    cells = None
    if models.place is not None and (out.geojson is not None or out.html is not None):
        cells = cell_probabilities(models.place.predictor, asked.pixels(models.place), asked.query.headings_deg)
    shown: dict[str, Any] = {}
    if out.html is not None:
        shown["jpegs"] = [as_jpeg(open_upright(path)) for path in asked.query.pictures]
        shown["attention"] = [as_jpeg(picture) for picture in _attention(asked, models.landmark)]
    return Answer(**{name: value for name, value in row.items() if name != BEST}, cells=cells, **shown)


def _attention(asked: Asked, model: Model | None) -> list[Image.Image]:
    """Overlay the attention maps of the model for landmarks; empty if it has none."""
    if model is None:
        return []
    maps = attention_maps(model.predictor, asked.pixels(model), asked.query.headings_deg)
    pairs = zip(asked.query.pictures, maps, strict=True)
    fit = model.predictor.locator.config.fit
    return [with_attention(open_upright(path), attention, fit) for path, attention in pairs if attention is not None]


def _as_json(rows: Sequence[dict[str, Any]], asked: Sequence[Asked]) -> list[dict[str, Any]]:
    return [
        {
            "images": [str(path) for path in one.query.pictures],
            "headings_deg": list(one.query.headings_deg),
            **{name: row[name] for name in (*COLUMNS, BEST, *NAMES)},
            "candidates": [asdict(candidate) for candidate in row["candidates"]],
        }
        for row, one in zip(rows, asked, strict=True)
    ]


def _draw(answer: Answer, asked: Asked, models: Models, path: Path) -> None:
    pictures = [open_upright(picture) for picture in asked.query.pictures]
    drawn = draw_answer([*pictures, *_attention(asked, models.landmark)], drawn_lines(answer))
    with whole_file(path) as beside:
        drawn.save(beside, Image.registered_extensions()[path.suffix.lower()])
