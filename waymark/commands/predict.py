"""`waymark predict`: answers for a folder of pictures, in one table."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from waymark.answering import Query, Undecodable
from waymark.commands.asking import ask, squares_of, view_slots
from waymark.commands.terminal import say, whole_file
from waymark.errors import ImageError, SourceError
from waymark.images.decode import MAX_PIXELS
from waymark.images.resizing import read_pictures
from waymark.lookup import load_models
from waymark.sources.photos import PHOTOS
from waymark.sources.quad_folders import VIEW_NAMES

AT_ONCE = 1024  # places whose pictures and embeddings are held in memory
DECIMALS = {"latitude": 6, "longitude": 6, "radius_50_km": 3, "radius_90_km": 3, "probability": 6, "landmark_score": 6}


def predict_folder(folder: Path, out: Path, references: Sequence[str], layout: str) -> None:
    """Answer for the pictures of a folder, and write the answers as CSV once they are all there.

    Raises:
        SourceError: the folder is missing, or holds no picture.
        ImageError: no picture of it can be decoded.
    """
    queries = find_queries(folder, layout)
    models = load_models(references)
    paths = [path for query in queries for path in query.pictures]
    pictures = {
        square: read_pictures(paths, square.side_px, max_pixels=MAX_PIXELS, fit=square.fit)
        for square in squares_of(models)
    }
    undecodable: list[Undecodable] = []
    tables = []
    chunks = [queries[start : start + AT_ONCE] for start in range(0, len(queries), AT_ONCE)]
    for chunk in tqdm(chunks, unit=f"{AT_ONCE} places", disable=True if len(chunks) == 1 else None):
        count = sum(len(query.pictures) for query in chunk)
        answers = ask(models, chunk, {square: islice(its, count) for square, its in pictures.items()})
        tables.append(answers.table)
        undecodable += answers.undecodable
    table = pd.concat(tables, ignore_index=True).rename(columns={"name": "uuid"})
    for picture in undecodable:
        say(f"{picture.path}: {picture.reason}")
    if table.empty:
        raise ImageError(f"no picture of {folder} can be decoded, so there is nothing to write")
    with whole_file(out) as path:
        _tidy(table).to_csv(path, index=False)
    say(_summary(len(table), len(queries), len(undecodable), out, models.name))
    most = max(len(query.pictures) for query in queries)
    for model in models.each:
        if view_slots(model) < most:
            say(f"{model.name} takes {view_slots(model)} views of a place; of {most} the others were not used")


def _summary(rows: int, queries: int, undecodable: int, out: Path, model: str) -> str:
    lost = f"; {undecodable} pictures could not be decoded" if undecodable else ""
    without = f", {queries - rows} have no picture" if rows < queries else ""
    return f"{rows} of {queries} answered by {model} in {out}{without}{lost}"


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    cell = table["cell"].astype("Int64")
    return table.round(DECIMALS).assign(cell=cell.mask(cell < 0))


def find_queries(folder: Path, layout: str) -> list[Query]:
    """Find the places or photos of a folder, in the order of their names.

    Args:
        folder: to search, with its folders; names that begin with a dot are left out.
        layout: `quads` takes folders whose pictures are called 0, 90, 180 and 270 for places, `photos`
            each picture for one of its own; `auto` takes quads where all pictures are named so.

    Raises:
        SourceError: the folder is missing, holds no picture, or is not laid out so.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; for single pictures use waymark guess")
    folders = {place: pictures for place, pictures in _walk(folder) if pictures}
    if not folders:
        raise SourceError(f"{folder} holds no picture")
    quads = {place: its for place, its in folders.items() if all(path.stem in VIEW_NAMES for path in its)}
    if layout == "photos" or (layout == "auto" and not quads):
        return _photos(folder, folders.values())
    others = [its[0] for place, its in folders.items() if place not in quads]
    if layout == "auto" and others:
        raise SourceError(
            f"{folder} holds places ({next(iter(quads))}) and others ({others[0]}); say --layout quads or photos"
        )
    if not quads:
        raise SourceError(f"{folder} holds no place; a place is a folder with 0.jpg, 90.jpg, 180.jpg and 270.jpg")
    return _quads(quads)


def _photos(folder: Path, pictures: Iterable[list[Path]]) -> list[Query]:
    paths = sorted(path for its in pictures for path in its)
    return [Query(path.relative_to(folder).as_posix(), (path,), (None,)) for path in paths]


def _quads(quads: dict[Path, list[Path]]) -> list[Query]:
    found: dict[str, Query] = {}
    for place, pictures in sorted(quads.items()):
        by_heading = sorted(pictures, key=lambda path: (int(path.stem), path.name))
        headings = tuple(float(path.stem) for path in by_heading)
        if len(set(headings)) < len(headings):
            raise SourceError(f"{place} has two pictures of one heading; keep one of them")
        if place.name in found:
            raise SourceError(f"{place} and {found[place.name].pictures[0].parent} have one name; rename one of them")
        found[place.name] = Query(place.name, tuple(by_heading), headings)
    return [found[name] for name in sorted(found)]


def _walk(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """List the pictures of each folder, also behind links, but of no folder twice."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), [Path(place, name) for name in sorted(files) if is_picture(name)]


def is_picture(name: str) -> bool:
    """Tell pictures by their name, as the source of photos does."""
    return not name.startswith(".") and Path(name).suffix.lower() in PHOTOS
