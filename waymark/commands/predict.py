"""`waymark predict`: answers for a folder of pictures, in one table."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from waymark.commands.asking import ask, squares_of, view_slots
from waymark.commands.terminal import say, whole_file
from waymark.data.names import one_form
from waymark.errors import ImageError, SourceError
from waymark.images.decode import MAX_PIXELS
from waymark.images.resizing import read_pictures
from waymark.inference.answering import Query, Undecodable
from waymark.inference.lookup import load_models
from waymark.sources.quad_folders import VIEW_NAMES
from waymark.sources.walking import Walk, walk_photos

AT_ONCE = 1024  # places whose pictures and embeddings are held in memory
DECIMALS = {
    **{"latitude": 6, "longitude": 6, "radius_50_km": 3, "radius_90_km": 3, "probability": 6},
    **{"landmark_score": 6, "landmark_confidence": 6},
}


def predict_folder(folder: Path, out: Path, references: Sequence[str], layout: str) -> None:
    """Answer for the pictures of a folder, and write the answers as CSV once they are all there.

    Raises:
        SourceError: the folder is missing, or holds no picture.
        ImageError: no picture of it can be decoded.
    """
    walk = _walk(folder)
    queries = _queries(folder, walk, layout)
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
        say(f"{one_form(str(picture.path))}: {picture.reason}")
    if table.empty:
        raise ImageError(f"no picture of {folder} can be decoded, so there is nothing to write")
    with whole_file(out) as path:
        _tidy(table).to_csv(path, index=False)
    say(_summary(len(table), len(queries), len(undecodable), out, models.name))
    if walk.skipped:
        say(f"skipped: {walk.summary()}")
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
        folder: to search, with its folders; what is no photo is left out, as the source `photos` does.
        layout: `quads` takes folders whose pictures are called 0, 90, 180 and 270 for places, `photos`
            each picture for one of its own; `auto` takes quads where all pictures are named so.

    Raises:
        SourceError: the folder is missing, holds no picture, or is not laid out so.
    """
    return _queries(folder, _walk(folder), layout)


def _walk(folder: Path) -> Walk:
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; for single pictures use waymark guess")
    walk = walk_photos(folder)
    if not walk.photos:
        held = f" (skipped: {walk.summary()})" if walk.skipped else ""
        raise SourceError(f"{folder} holds no picture{held}")
    return walk


def _queries(folder: Path, walk: Walk, layout: str) -> list[Query]:
    folders: dict[Path, list[Path]] = {}
    for photo in walk.photos:
        folders.setdefault(photo.path.parent, []).append(photo.path)
    quads = {place: its for place, its in folders.items() if all(path.stem in VIEW_NAMES for path in its)}
    if layout == "photos" or (layout == "auto" and not quads):
        return [Query(photo.name, (photo.path,), (None,)) for photo in walk.photos]
    others = [its[0] for place, its in folders.items() if place not in quads]
    if layout == "auto" and others:
        raise SourceError(
            f"{folder} holds places ({next(iter(quads))}) and others ({others[0]}); say --layout quads or photos"
        )
    if not quads:
        raise SourceError(f"{folder} holds no place; a place is a folder with 0.jpg, 90.jpg, 180.jpg and 270.jpg")
    return _places(quads)


def _places(quads: dict[Path, list[Path]]) -> list[Query]:
    found: dict[str, Query] = {}
    for place, pictures in sorted(quads.items()):
        by_heading = sorted(pictures, key=lambda path: (int(path.stem), path.name))
        headings = tuple(float(path.stem) for path in by_heading)
        name = one_form(place.name)
        if len(set(headings)) < len(headings):
            raise SourceError(f"{place} has two pictures of one heading; keep one of them")
        if name in found:
            raise SourceError(f"{place} and {found[name].pictures[0].parent} have one name; rename one of them")
        found[name] = Query(name, tuple(by_heading), headings)
    return [found[name] for name in sorted(found)]
