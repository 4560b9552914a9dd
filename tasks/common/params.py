"""Read params.yaml."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from waymark.errors import ParameterError, nearest_name
from waymark.system.terminal import printable

PARAMS_FILE = Path("params.yaml")
MOST_VALUES = 100_000  # of a file; aliases can expand a few lines beyond any memory
DEEPEST = 50
RENAMED = {"gap": "block_split"}  # sections, by their former names
LONGEST = 60  # characters of a value in messages


def shown(text: object) -> str:
    """Shorten a value for a message, without control characters."""
    line = printable(str(text)[: LONGEST + 1])
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def load_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read params.yaml as DVC reads it (YAML 1.2).

    Raises:
        ParameterError: the file is missing, no YAML mapping, far too large once its aliases are followed, or has a
            section under the name that it had before.
    """
    try:
        document = YAML(typ="safe", pure=True).load(path)  # the parser in C crashes at deep nesting
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing; run from the root of the checkout") from None
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ParameterError(f"{path} is not valid YAML{line}: {shown(error.problem or error.context)}") from error
    except (YAMLError, ValueError, OSError) as error:  # numbers and dates that Python cannot read; a folder
        raise ParameterError(f"{path} cannot be read: {shown(error)}; correct it") from error
    except RecursionError:
        raise ParameterError(f"{path} is nested too deeply; sections need a few levels only") from None
    if not isinstance(document, dict):
        raise ParameterError(f"{path} must contain sections with keys")
    _check_extent(document, path)
    for old, new in RENAMED.items():
        if old in document:
            raise ParameterError(f"{path}: the section {old} is called {new} now; rename it")
    return document


def _check_extent(document: dict[str, Any], path: Path) -> None:
    waiting, count = [(document, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        count += 1 + len(inside)
        if count > MOST_VALUES or depth > DEEPEST:
            raise ParameterError(f"{path} is nested too deeply or far too long, perhaps by an alias of itself")
        waiting.extend((each, depth + 1) for each in inside)


def look_up(document: dict[str, Any], dotted: str) -> Any:
    """Find the value of a dotted key.

    Raises:
        ParameterError: there is none.
    """
    found: Any = document
    for depth, key in enumerate(dotted.split(".")):
        if not isinstance(found, dict) or key not in found:
            at = ".".join(dotted.split(".")[:depth])
            known = found if isinstance(found, dict) else {}
            where = f"{at}." if at else ""
            raise ParameterError(f"params.yaml has no {where}{shown(key)}; {nearest_name(key, map(str, known))}")
        found = found[key]
    return found
