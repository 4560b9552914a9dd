"""`waymark guess`: where a photo was taken, for people, for machines, and for maps."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import typer
from PIL import Image, ImageOps

from waymark.answering import Query, answer_files, cell_probabilities
from waymark.commands.geojson import feature_collection
from waymark.commands.terminal import say, whole_file, write_text
from waymark.errors import ImageError, ParameterError
from waymark.geo import load_land
from waymark.images.decode import MAX_PIXELS, Picture, read_picture
from waymark.images.views import Heading
from waymark.lookup import Model, load_model
from waymark.report.drawing import draw_answer
from waymark.report.wording import Answer, facts, place_in_words, radius_in_words
from waymark.sources.quad_folders import VIEW_NAMES

SHOWN_PX = 480  # longer side of a picture on the page


class Outputs(NamedTuple):
    """What is to be written besides, or instead of, the words."""

    as_json: bool = False
    geojson: Path | None = None
    html: Path | None = None
    draw: Path | None = None


class Asked(NamedTuple):
    """A query with its pictures decoded."""

    query: Query
    pictures: list[Picture]


def guess_images(images: Sequence[Path], reference: str | None, headings: str | None, each: bool, out: Outputs) -> None:
    """Answer for images, and print or write the answers.

    Raises:
        ImageError: an image cannot be decoded; of several photos the others are answered before.
        ParameterError: options that do not go together.
    """
    queries = make_queries(images, headings, each)
    _check(queries, images, out)
    model = load_model(reference)
    _check_views(queries, model)
    asked = [_read(query, model) for query in queries]
    broken = [(path, picture) for its in asked for path, picture in zip(its.query.pictures, its.pictures, strict=True)
              if picture.pixels is None]  # fmt: skip
    whole = [its for its in asked if all(picture.pixels is not None for picture in its.pictures)]
    if whole:
        _give(_answer(model, whole, with_cells=out.geojson is not None or out.html is not None), whole, model, out)
    if broken:
        raise ImageError("; ".join(f"{path}: {picture.reason or picture.status}" for path, picture in broken))


def make_queries(images: Sequence[Path], headings: str | None, each: bool) -> list[Query]:
    """Say which images belong together, and where each looks to.

    Raises:
        ParameterError: headings that are no numbers, too few or too many.
    """
    for image in images:
        if image.is_dir():
            raise ParameterError(f"{image} is a folder; name its pictures, or use waymark predict {image} --out FILE")
    if each:
        if headings is not None:
            raise ParameterError("--each takes single photos, which have no use for --headings; leave out one of them")
        return [Query(str(image), (image,), (None,)) for image in images]
    angles = _from_names(images) if headings is None else _given(headings, len(images))
    return [Query(", ".join(image.name for image in images), tuple(images), angles)]


def _from_names(images: Sequence[Path]) -> tuple[Heading, ...]:
    """Read the headings from the names of a quadruplet, such as 90.jpg, where all images are named so and differ.

    Other numbers, such as 17.jpg, are rather those of a camera or of a folder.
    """
    names = [image.stem for image in images]
    if len(set(names)) < len(images) or not set(names) <= VIEW_NAMES:
        return (None,) * len(images)
    return tuple(map(float, names))


def _given(headings: str, images: int) -> tuple[Heading, ...]:
    try:
        angles = tuple(float(part) for part in headings.split(","))
    except ValueError:
        raise ParameterError(f"--headings {headings} are no numbers; write degrees such as 0,90,180,270") from None
    if not all(map(math.isfinite, angles)):
        raise ParameterError(f"--headings {headings} are no angles; write degrees such as 0,90,180,270")
    if len(angles) != images:
        raise ParameterError(f"--headings names {len(angles)} for {images} images; give one for each")
    return angles


def _check(queries: Sequence[Query], images: Sequence[Path], out: Outputs) -> None:
    if out.draw is not None and len(queries) > 1:
        raise ParameterError("--draw writes one picture; ask for one place at a time")
    if out.as_json and str(out.geojson) == "-":
        raise ParameterError("--json and --geojson - both write to stdout; give --geojson a file")
    originals = {image.resolve() for image in images}
    for path in (out.geojson, out.html, out.draw):
        if path is not None and path.resolve() in originals:
            raise ParameterError(f"{path} is one of the images, which are never changed; write to another file")
    if out.draw is not None and out.draw.suffix.lower() not in Image.registered_extensions():
        raise ParameterError(f"{out.draw}: no picture format is called {out.draw.suffix!r}; write a .jpg or .png")


def _check_views(queries: Sequence[Query], model: Model) -> None:
    slots = len(model.guesser.locator.blueprint.slots)
    if (views := max(len(query.pictures) for query in queries)) > slots:
        raise ParameterError(
            f"{model.name} takes {slots} view{'s' * (slots > 1)} of a place, and {views} images are given;"
            " --each answers for each of them"
        )
    headed = any(slot is not None for slot in model.guesser.locator.blueprint.slots)
    if headed and views > 1 and any(None in query.headings_deg for query in queries):
        say(f"no headings are known, so the images stand for those of {model.name} in order; --headings tells them")


def _read(query: Query, model: Model) -> Asked:
    size_px = model.guesser.locator.blueprint.shard_px
    return Asked(query, [read_picture(path, size_px, max_pixels=MAX_PIXELS) for path in query.pictures])


def _answer(model: Model, asked: Sequence[Asked], *, with_cells: bool) -> list[Answer]:
    pictures = iter([picture for its in asked for picture in its.pictures])
    table = answer_files(model.guesser, [its.query for its in asked], pictures).table
    answers = []
    for its, row in zip(asked, table.to_dict("records"), strict=True):
        pixels = [picture.pixels for picture in its.pictures if picture.pixels is not None]
        cells = cell_probabilities(model.guesser, pixels, its.query.headings_deg) if with_cells else None
        answers.append(_as_answer(row, cells))
    return answers


def _as_answer(row: dict[Any, Any], cells: Any) -> Answer:
    radius_50_km, radius_90_km = (
        None if pd.isna(row[name]) else row[name] for name in ("radius_50_km", "radius_90_km")
    )
    cell, probability = (None, None) if row["cell"] < 0 else (int(row["cell"]), row["probability"])
    return Answer(row["name"], row["latitude"], row["longitude"], radius_50_km, radius_90_km, cell, probability, cells)


def _give(answers: list[Answer], asked: Sequence[Asked], model: Model, out: Outputs) -> None:
    if out.geojson is not None:
        write_text(json.dumps(feature_collection(answers, model.name), allow_nan=False) + "\n", out.geojson)
    if out.html is not None:
        from waymark.report.answers import answer_page  # late, for Plotly takes its time

        shown = [_with_pictures(answer, its.query) for answer, its in zip(answers, asked, strict=True)]
        write_text(answer_page(shown, model.name, load_land()), out.html)
    if out.draw is not None:
        _draw(answers[0], asked[0].query, out.draw)
    if out.as_json:
        typer.echo(json.dumps({"model": model.name, "answers": _as_json(answers, asked)}, indent=2, allow_nan=False))
    elif str(out.geojson) != "-":
        for answer in answers:
            typer.echo("\n".join([answer.name, *(f"  {name:<7} {value}" for name, value in facts(answer).items())]))
        say(f"answered by {model.name}")


def _as_json(answers: Sequence[Answer], asked: Sequence[Asked]) -> list[dict[str, Any]]:
    names = ("latitude", "longitude", "radius_50_km", "radius_90_km", "cell", "probability")
    return [
        {
            "images": [str(path) for path in its.query.pictures],
            "headings_deg": list(its.query.headings_deg),
            **{name: getattr(answer, name) for name in names},
        }
        for answer, its in zip(answers, asked, strict=True)
    ]


def _with_pictures(answer: Answer, query: Query) -> Answer:
    return Answer(**{**vars(answer), "jpegs": [_jpeg(path) for path in query.pictures]})


def _jpeg(path: Path) -> bytes:
    picture = _open(path)
    picture.thumbnail((SHOWN_PX, SHOWN_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _draw(answer: Answer, query: Query, path: Path) -> None:
    lines = [
        place_in_words(answer.latitude, answer.longitude),
        radius_in_words(answer.radius_50_km, answer.radius_90_km),
    ]
    drawn = draw_answer([_open(picture) for picture in query.pictures], lines)
    with whole_file(path) as beside:
        drawn.save(beside, Image.registered_extensions()[path.suffix.lower()])


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
