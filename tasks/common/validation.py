"""Validate a section of params.yaml, and explain wrong keys."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.common.params import shown
from waymark.errors import ParameterError, nearest_name
from waymark.system.terminal import printable

MOST_BITS = 1000  # of a number; Python may refuse to print larger ones
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
OWN_MESSAGE = "value_error"  # from a validator of ours

S = TypeVar("S")
Path = tuple[str, ...]
Schema = Mapping[str, Any]  # JSON Schema, with its definitions
Naming = Callable[[Path], str]


def validate(settings: type[S], values: dict[str, Any], place: str, shared: tuple[str, ...] = ()) -> S:
    """Validate values as a frozen dataclass, and name the wrong key.

    Args:
        settings: dataclass.
        values: its fields.
        place: dotted key of their section; empty for the top level.
        shared: those of them that are top-level keys.

    Raises:
        ParameterError: a key is unknown, missing or of the wrong type.
    """

    def named(path: Path) -> str:
        at_top = not place or path[:1] in [(key,) for key in shared]
        return ".".join([*([] if at_top else [place]), *map(shown, path)]) or "its text"

    for path, complaint in _not_plain(values, ()):
        raise ParameterError(f"params.yaml: {named(path)}: {complaint}")
    try:
        return _adapter(settings).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ParameterError(f"params.yaml: {_explain(error, settings, values, named)}") from None


@cache
def _adapter(settings: type[S]) -> TypeAdapter[S]:
    return TypeAdapter(settings)


@cache
def schema_of(settings: type) -> Schema:
    """Return the JSON Schema of a dataclass."""
    return _adapter(settings).json_schema()


def _not_plain(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Find values that YAML has and parameters cannot be: dates, sets, keys that are not text."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if isinstance(key, str):
                yield from _not_plain(inside, (*path, key))
            else:
                yield path, f"the key {shown(key)} is not text; put it in quotes"
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from _not_plain(inside, (*path, str(number)))
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        yield path, "the number is too large; use a smaller one"
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        yield path, f"{shown(repr(value))} contains half a character; write it again"
    elif value is not None and not isinstance(value, str | int | float):
        yield path, f"{shown(value)} is read as a {type(value).__name__}; put it in quotes if it is text"


def _explain(error: ValidationError, settings: type, values: dict[str, Any], named: Naming) -> str:
    """Explain which key is wrong and what it may be: unknown keys first, as they may be misspelt."""
    errors = error.errors(include_url=False, include_context=False)
    wrong = next((each for each in errors if each["type"] in UNKNOWN), errors[0])
    kind, given, last = wrong["type"], wrong["input"], (*wrong["loc"], "")[-2]
    path = _keys(wrong["loc"], values)
    own = [each["msg"] for each in errors if each["type"] == OWN_MESSAGE and _keys(each["loc"], values) == path]
    if own:
        return f"{named(path)}: {printable(own[0].removeprefix('Value error, '))}"
    if kind in UNKNOWN or last == "[key]":
        known = {key for each in _at(settings, path[:-1], values) for key in _known_keys(each)}
        return f"unknown key {named(path)}; {nearest_name(path[-1], known)}"
    if kind in MISSING and isinstance(last, str):
        return f"{named((*path, last))} is missing; set it to {_allowed(settings, (*path, last), values)}"
    if kind == "union_tag_not_found":
        return f"{named((*path, 'name'))} is missing; set it to {_allowed(settings, (*path, 'name'), values)}"
    if kind == "union_tag_invalid":
        given = given["name"]
        path = (*path, "name") if _keys((*path, "name"), values)[-1:] == ("name",) else path  # `head: cells` has no key
    actual = "" if isinstance(given, dict) else f" (it is {shown(repr(given))})"
    return f"{named(path)}: must be {_allowed(settings, path, values)}{actual}"


def _keys(location: Sequence[int | str], values: Any) -> Path:
    """Select the keys in a location of pydantic, which also names branches of unions and validators."""
    path: list[str] = []
    for part in location:
        inside = dict(enumerate(values)) if isinstance(values, list) else values
        if isinstance(inside, dict) and part in inside:
            values = inside[part]
            path.append(str(part))
    return tuple(path)


def _allowed(settings: type, path: Path, values: dict[str, Any]) -> str:
    """Describe the allowed values of a path."""
    kinds = dict.fromkeys(phrase for each in _at(settings, path, values) for phrase in _phrases(each))
    return _either(list(kinds)) or "something else"


def _at(settings: type, path: Path, values: Any) -> list[Schema]:
    """Find the schema of a path, or several if it depends on a name that is missing or wrong."""
    schema = schema_of(settings)
    definitions = schema.get("$defs", {})
    found = list(_branches(schema, definitions))
    for part in path:
        name = values.get("name") if isinstance(values, dict) else None
        named = [each for each in found if name in _names(each)] or found
        inside = [schema for each in named for schema in _inside(each, part)]
        found = [branch for each in inside for branch in _branches(each, definitions)]
        values = values.get(part) if isinstance(values, dict) else None
    return found


def _branches(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """Resolve references and unions."""
    if "$ref" in schema:
        yield from _branches(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif inner := schema.get("anyOf", schema.get("oneOf")):
        for each in inner:
            yield from _branches(each, definitions)
    else:
        yield schema


def _known_keys(schema: Schema) -> Iterable[str]:
    return schema.get("properties", schema.get("propertyNames", {}).get("enum", ()))


def _names(schema: Schema) -> Sequence[Any]:
    name = schema.get("properties", {}).get("name", {})
    return name.get("enum", [name.get("const")])


def _inside(schema: Schema, part: str) -> Iterator[Schema]:
    if part in schema.get("properties", {}):
        yield schema["properties"][part]
    elif isinstance(schema.get("additionalProperties"), Mapping):
        yield schema["additionalProperties"]
    elif schema.get("type") == "array":
        some = schema.get("prefixItems", ())
        number = int(part)
        yield some[number] if number < len(some) else schema.get("items", {})


def _phrases(schema: Schema) -> Iterator[str]:
    """Describe what a schema allows."""
    kind = schema.get("type")
    if "enum" in schema or "const" in schema:
        yield from (repr(each) for each in schema.get("enum", [schema.get("const")]))
    elif kind == "object":
        yield from (f"{{name: {name}}}" if name else "a section with keys" for name in _names(schema))
    elif "description" in schema:
        yield schema["description"]
    elif kind in ("integer", "number"):
        yield f"{'a whole number' if kind == 'integer' else 'a number'}{_bounds(schema)}"
    elif kind == "array":
        least = schema.get("minItems", 0)
        count = f"{least} or more" if least != schema.get("maxItems") else f"{least}"
        yield f"a list of {count}, in brackets"
    else:
        yield {"string": "text", "boolean": "true or false", "null": "null"}[kind or "string"]


def _bounds(schema: Schema) -> str:
    words = {
        "minimum": "from {:.10g}",
        "exclusiveMinimum": "above {:.10g}",
        "maximum": "up to {:.10g}",
        "exclusiveMaximum": "below {:.10g}",
    }
    return "".join(f" {phrase.format(schema[bound])}" for bound, phrase in words.items() if bound in schema)


def _either(words: list[str]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else "".join(words)
