"""`waymark recipe`: complete params files of real systems, put in place without losing one's own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from waymark.commands.terminal import say, whole_file
from waymark.errors import ParameterError, nearest_name

RECIPES = Path("recipes")
PARAMS = Path("params.yaml")
ABSENT = "(absent)"


def list_recipes() -> None:
    """Print each recipe with the first line of its comment.

    Raises:
        ParameterError: there are none here.
    """
    recipes = _recipes()
    width = max(map(len, recipes))
    for name, path in recipes.items():
        first = path.read_text().split("\n", 1)[0]
        typer.echo(f"{name:<{width}}  {first.lstrip('# ') if first.startswith('#') else ''}".rstrip())


def show_recipe(name: str) -> None:
    """Print a recipe.

    Raises:
        ParameterError: there is no such recipe.
    """
    typer.echo(_find(name).read_text(), nl=False)


def use_recipe(name: str) -> None:
    """Put a recipe in the place of params.yaml, and keep the present one where it is no recipe itself.

    Raises:
        ParameterError: there is no such recipe, or it is no params file.
    """
    recipe = _find(name)
    text = recipe.read_bytes()
    before = PARAMS.read_bytes() if PARAMS.exists() else None
    if before == text:
        say(f"params.yaml is {recipe} already")
        return
    changes = list(_changes(_load(PARAMS) if before is not None else {}, _load(recipe)))
    if before is not None and before not in [path.read_bytes() for path in _recipes().values()]:
        kept = _free_name()
        kept.write_bytes(before)
        say(f"the params.yaml that was here is kept as {kept}")
    with whole_file(PARAMS) as path:
        path.write_bytes(text)
    for change in changes:
        typer.echo(change)
    say(f"params.yaml is now {recipe}; dvc repro runs what that changes")


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
    try:
        document = YAML(typ="safe").load(path)
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
