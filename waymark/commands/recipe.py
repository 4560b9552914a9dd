"""`waymark recipe`: complete params files of real systems; the present one is backed up."""

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

from waymark.commands.terminal import say, show
from waymark.errors import ParameterError, nearest_name
from waymark.system.files import whole_file

RECIPES = Path("recipes")
PARAMS = Path("params.yaml")
ABSENT = "(absent)"
NARROWEST = 30  # column of descriptions
OWN = ("photos", "quads", "table")  # sources that read the user's pictures


def list_recipes() -> None:
    """Print each recipe with its leading comment.

    Raises:
        ParameterError: there are no recipes here.
    """
    recipes = _recipes()
    indent = " " * (max(map(len, recipes)) + 2)
    columns = max(shutil.get_terminal_size().columns, len(indent) + NARROWEST)
    for name, path in recipes.items():
        comment = " ".join(line.lstrip("# ") for line in takewhile(_is_comment, path.read_text().splitlines()))
        text = textwrap.fill(comment, columns, initial_indent=indent, subsequent_indent=indent)
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
    """Replace params.yaml by a recipe, and keep the present one unless it is itself a recipe.

    Args:
        name: of the recipe.
        path: folder or table to train on; None for the one that the recipe names.

    Raises:
        ParameterError: there is no such recipe, it is not a params file, or it cannot use the path.
    """
    recipe = _find(name)
    text = recipe.read_bytes() if path is None else _with_path(recipe, path)
    before = PARAMS.read_bytes() if PARAMS.exists() else None
    if before == text:
        say(f"params.yaml is already {recipe}")
        return
    changes = list(_changes(_load(PARAMS) if before is not None else {}, _parse(text, recipe)))
    if before is not None and before not in [path.read_bytes() for path in _recipes().values()]:
        kept = _free_name()
        kept.write_bytes(before)
        say(f"the previous params.yaml is kept as {kept}")
    with whole_file(PARAMS) as beside:
        beside.write_bytes(text)
    for change in changes:
        show(change)
    data = "" if path is None else f", with the data in {_parse(text, recipe)['download']['path']}"
    say(f"params.yaml is now {recipe}{data}; make run runs what that changes")


def _with_path(recipe: Path, path: Path) -> bytes:
    """Return a recipe with the user's path, its comments unchanged.

    A path below the checkout stays relative to it, so that both can move; any other is written in full.

    Raises:
        ParameterError: the path does not exist, or the recipe has a source of its own.
    """
    text = recipe.read_bytes()
    download = _parse(text, recipe, "rt")["download"]
    if (source := download["source"]) not in OWN:
        known = ", ".join(name for name, other in _recipes().items() if _load(other)["download"]["source"] in OWN)
        raise ParameterError(f"{recipe} has a source of its own (download.source: {source}); --path works with {known}")
    place = path.expanduser().absolute()
    if not place.exists():
        raise ParameterError(f"{place} does not exist; name the folder of your pictures with --path")
    if source != "table" and not place.is_dir():
        raise ParameterError(f"{place} is not a folder; {recipe} needs a folder of pictures")
    if not str(place).isprintable():  # for example if the name is not UTF-8
        raise ParameterError(
            f"{str(place)!r} has characters that a params file cannot contain; rename it, or link to it"
        )
    named = str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)
    line, column = download.lc.value("path")
    lines = text.decode().splitlines(keepends=True)
    before, after = lines[line][:column], lines[line][column:].removeprefix(str(download["path"]))
    lines[line] = f"{before}{json.dumps(named, ensure_ascii=False)}{after}"
    return "".join(lines).encode()


def _recipes() -> dict[str, Path]:
    found = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if not found:
        raise ParameterError("there is no folder recipes/ here; run from the root of a checkout")
    return found


def _find(name: str) -> Path:
    recipes = _recipes()
    if name not in recipes:
        raise ParameterError(f"there is no recipe {name}; {nearest_name(name, recipes)}")
    return recipes[name]


def _free_name() -> Path:
    """Return params.yaml.before, or the first of params.yaml.before-2, -3 that does not exist."""
    names = (PARAMS.with_name(f"{PARAMS.name}.before{'' if rank == 1 else f'-{rank}'}") for rank in count(1))
    return next(path for path in names if not path.exists())


def _load(path: Path) -> dict[str, Any]:
    return _parse(path.read_bytes(), path)


def _parse(text: bytes, path: Path, typ: str = "safe") -> dict[str, Any]:
    """Parse a params file.

    Raises:
        ParameterError: it is not a YAML mapping.
    """
    yaml = YAML(typ=typ)
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ParameterError(f"{path} must contain sections with keys")
    return document


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """List each key that changes, with its value before and after."""
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
