"""`waymark predict`: answers for a folder of pictures, as one table."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from waymark.commands.asking import ask, squares_of, view_slots
from waymark.commands.terminal import say
from waymark.data.names import one_form
from waymark.errors import ImageError, SourceError
from waymark.images.decode import MAX_PIXELS
from waymark.images.resizing import read_pictures
from waymark.inference.answering import Answers, Query, Undecodable
from waymark.inference.candidates import candidate_columns, named_candidates
from waymark.inference.lookup import load_models
from waymark.sources.quad_folders import VIEW_NAMES
from waymark.sources.walking import Walk, walk_photos
from waymark.system.files import whole_file

AT_ONCE = 1024  # places whose pictures and embeddings are in memory
DECIMALS = {
    **{"latitude": 6, "longitude": 6, "radius_50_km": 3, "radius_90_km": 3, "probability": 6},
    **{"landmark_score": 6, "landmark_confidence": 6},
}


def predict_folder(folder: Path, out: Path, references: Sequence[str], layout: str, top_k: int = 0) -> None:
    """Answer the pictures of a folder, and write the answers as one CSV.

    Args:
        folder: of the pictures.
        out: CSV to write.
        references: of models, see `waymark.inference.lookup.load_models`.
        layout: how the folder is read, see `find_queries`.
        top_k: how many candidates of each get columns, with their names; 0 for none.

    Raises:
        SourceError: the folder is missing, or has no picture.
        ImageError: no picture can be decoded.
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
        answers = ask(models, chunk, {square: islice(decoded, count) for square, decoded in pictures.items()}, top_k)
        tables.append(_with_candidates(answers, top_k))
        undecodable += answers.undecodable
    table = pd.concat(tables, ignore_index=True).rename(columns={"name": "uuid"})
    for picture in undecodable:
        say(f"{one_form(str(picture.path))}: {picture.reason}")
    if table.empty:
        raise ImageError(f"no picture of {folder} can be decoded; there is nothing to write")
    with whole_file(out) as path:
        _tidy(table).to_csv(path, index=False)
    say(_summary(len(table), len(queries), len(undecodable), out, models.name))
    if walk.skipped:
        say(f"skipped: {walk.summary()}")
    most = max(len(query.pictures) for query in queries)
    for model in models.each:
        if view_slots(model) < most:
            say(f"{model.name} takes {view_slots(model)} views of a place; the rest of the {most} were not used")


def _with_candidates(answers: Answers, top_k: int) -> pd.DataFrame:
    """Add the columns of candidates, where they are asked for."""
    if not top_k:
        return answers.table
    places = [answers.places.get(number, np.empty((0, 3))) for number in answers.table.index.tolist()]
    named = iter(named_candidates(np.concatenate(places))) if places else iter(())
    kept = [int(np.isfinite(few[:, :2]).all(axis=1).sum()) for few in places]
    columns = candidate_columns([list(islice(named, count)) for count in kept], top_k)
    return answers.table.join(columns.set_axis(answers.table.index))


def _summary(rows: int, queries: int, undecodable: int, out: Path, model: str) -> str:
    lost = f"; {undecodable} pictures could not be decoded" if undecodable else ""
    without = f", {queries - rows} have no picture" if rows < queries else ""
    return f"{rows} of {queries} answered by {model} in {out}{without}{lost}"


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    cell = table["cell"].astype("Int64")
    decimals = {name: DECIMALS.get(re.sub(r"^candidate_\d+_", "", str(name)), 6) for name in table.columns}
    return table.round(decimals).assign(cell=cell.mask(cell < 0))


def find_queries(folder: Path, layout: str) -> list[Query]:
    """Find the places or photos of a folder, in the order of their names.

    Args:
        folder: searched recursively; other files are skipped, as in the source `photos`.
        layout: `quads` treats folders whose pictures are called 0, 90, 180 and 270 as places, `photos` each
            picture as a photo; `auto` means quads if all pictures have such names.

    Raises:
        SourceError: the folder is missing, has no picture, or has another layout.
    """
    return _queries(folder, _walk(folder), layout)


def _walk(folder: Path) -> Walk:
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; for single pictures use waymark guess")
    walk = walk_photos(folder)
    if not walk.photos:
        skipped = f" (skipped: {walk.summary()})" if walk.skipped else ""
        raise SourceError(f"{folder} has no picture{skipped}")
    return walk


def _queries(folder: Path, walk: Walk, layout: str) -> list[Query]:
    folders: dict[Path, list[Path]] = {}
    for photo in walk.photos:
        folders.setdefault(photo.path.parent, []).append(photo.path)
    quads = {place: paths for place, paths in folders.items() if all(path.stem in VIEW_NAMES for path in paths)}
    if layout == "photos" or (layout == "auto" and not quads):
        return [Query(photo.name, (photo.path,), (None,)) for photo in walk.photos]
    others = [paths[0] for place, paths in folders.items() if place not in quads]
    if layout == "auto" and others:
        raise SourceError(
            f"{folder} has places ({next(iter(quads))}) and others ({others[0]}); set --layout quads or photos"
        )
    if not quads:
        raise SourceError(f"{folder} has no place; a place is a folder with 0.jpg, 90.jpg, 180.jpg and 270.jpg")
    return _places(quads)


def _places(quads: dict[Path, list[Path]]) -> list[Query]:
    found: dict[str, Query] = {}
    for place, pictures in sorted(quads.items()):
        by_heading = sorted(pictures, key=lambda path: (int(path.stem), path.name))
        headings = tuple(float(path.stem) for path in by_heading)
        name = one_form(place.name)
        if len(set(headings)) < len(headings):
            raise SourceError(f"{place} has two pictures of the same heading; keep one of them")
        if name in found:
            raise SourceError(f"{place} and {found[name].pictures[0].parent} have the same name; rename one of them")
        found[name] = Query(name, tuple(by_heading), headings)
    return [found[name] for name in sorted(found)]
