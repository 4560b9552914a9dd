"""`waymark recipe`: complete params files of real systems, put in place without losing one's own."""

import json
import shutil
import textwrap
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from waymark.commands.terminal import say, show, whole_file
from waymark.errors import ParameterError, nearest_name

RECIPES = Path("recipes")
PARAMS = Path("params.yaml")
ABSENT = "(absent)"
NARROWEST = 30  # column of descriptions
OWN = ("photos", "quads", "table")  # sources that read pictures of the user's own


def list_recipes() -> None:
    """Print each recipe with the comment that it begins with.

    Raises:
        ParameterError: there are none here.
    """
    recipes = _recipes()
    indent = " " * (max(map(len, recipes)) + 2)
    columns = max(shutil.get_terminal_size().columns, len(indent) + NARROWEST)
    for name, path in recipes.items():
        said = " ".join(line.lstrip("# ") for line in takewhile(_is_comment, path.read_text().splitlines()))
        text = textwrap.fill(said, columns, initial_indent=indent, subsequent_indent=indent)
        show(f"{name:<{len(indent)}}{text.removeprefix(indent)}".rstrip())


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def show_recipe(name: str) -> None:
    """Print a recipe.

    Raises:
        ParameterError: there is no such recipe.
    """
    typer.echo(_find(name).read_text(), nl=False)


def use_recipe(name: str, path: Path | None = None) -> None:
    """Put a recipe in the place of params.yaml, and keep the present one where it is no recipe itself.

    Args:
        name: of the recipe.
        path: folder or table that it is to learn from; None for what the recipe names.

    Raises:
        ParameterError: there is no such recipe, it is no params file, or it cannot learn from the path.
    """
    recipe = _find(name)
    text = recipe.read_bytes() if path is None else _with_path(recipe, path)
    before = PARAMS.read_bytes() if PARAMS.exists() else None
    if before == text:
        say(f"params.yaml is {recipe} already")
        return
    changes = list(_changes(_load(PARAMS) if before is not None else {}, _parse(text, recipe)))
    if before is not None and before not in [path.read_bytes() for path in _recipes().values()]:
        kept = _free_name()
        kept.write_bytes(before)
        say(f"the params.yaml that was here is kept as {kept}")
    with whole_file(PARAMS) as beside:
        beside.write_bytes(text)
    for change in changes:
        show(change)
    learns = "" if path is None else f", and learns from {_parse(text, recipe)['download']['path']}"
    say(f"params.yaml is now {recipe}{learns}; make run runs what that changes")


def _with_path(recipe: Path, path: Path) -> bytes:
    """Give a recipe with a path of the user's own, its comments as they are.

    A path below the checkout stays relative to it, so that both can move; any other is written in full.

    Raises:
        ParameterError: there is nothing at the path, or the recipe brings its own pictures.
    """
    text = recipe.read_bytes()
    download = _parse(text, recipe, "rt")["download"]
    if (source := download["source"]) not in OWN:
        known = ", ".join(name for name, its in _recipes().items() if _load(its)["download"]["source"] in OWN)
        raise ParameterError(f"{recipe} brings its own pictures (download.source: {source}); --path goes with {known}")
    place = path.expanduser().absolute()
    if not place.exists():
        raise ParameterError(f"there is no {place}; name the folder of your pictures with --path")
    if source != "table" and not place.is_dir():
        raise ParameterError(f"{place} is no folder; {recipe} learns from a folder of pictures")
    if not str(place).isprintable():  # as where the name is no UTF-8
        raise ParameterError(f"{str(place)!r} has characters that no params file holds; rename it, or link to it")
    named = str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)
    line, column = download.lc.value("path")
    lines = text.decode().splitlines(keepends=True)
    before, after = lines[line][:column], lines[line][column:].removeprefix(str(download["path"]))
    lines[line] = f"{before}{json.dumps(named, ensure_ascii=False)}{after}"
    return "".join(lines).encode()


def _recipes() -> dict[str, Path]:
    found = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if not found:
        raise ParameterError("there is no recipes/ here; run from the root of a checkout")
    return found


def _find(name: str) -> Path:
    recipes = _recipes()
    if name not in recipes:
        raise ParameterError(f"no recipe is called {name}; {nearest_name(name, recipes)}")
    return recipes[name]


def _free_name() -> Path:
    """Give params.yaml.before, or the first of params.yaml.before-2, -3 that nothing is called."""
    names = (PARAMS.with_name(f"{PARAMS.name}.before{'' if rank == 1 else f'-{rank}'}") for rank in count(1))
    return next(path for path in names if not path.exists())


def _load(path: Path) -> dict[str, Any]:
    return _parse(path.read_bytes(), path)


def _parse(text: bytes, path: Path, typ: str = "safe") -> dict[str, Any]:
    """Read a params file.

    Raises:
        ParameterError: it is no mapping in YAML.
    """
    yaml = YAML(typ=typ)
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise ParameterError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ParameterError(f"{path} must hold sections with keys")
    return document


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Name each key that changes, with its value before and after."""
    old, new = dict(_flat(before)), dict(_flat(after))
    for key in [*new, *(key for key in old if key not in new)]:
        values = [_shown(flat[key]) if key in flat else ABSENT for flat in (old, new)]
        if values[0] != values[1]:
            yield f"{key}: {values[0]} -> {values[1]}"


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if _plain(value) else str(value)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)
