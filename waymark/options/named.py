"""Alternatives, such as heads, poolings, optimizers and sources: each is one class of options with a `name`.

The class is what a section of a configuration parses into, it builds the thing itself, and a checkpoint keeps it.
An alternative exists as soon as its module is imported.
"""

from inspect import get_annotations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar, Union, get_args

from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationError

from waymark.errors import ModelError, nearest_name

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

T = TypeVar("T")


class Named:
    """Base of the options of alternatives; each has a field `name`, a `Literal`."""

    kind: ClassVar[str]  # what they are alternatives of, for messages
    name: Any  # a `Literal` in each

    @classmethod
    def alternatives(cls) -> dict[str, type[Self]]:
        """Find the classes below this one that have a name, by that name, in the order of their import."""
        found: dict[str, type[Self]] = {}
        for option in cls.__subclasses__():
            own = get_annotations(option)
            name = get_annotations(option, eval_str=True)["name"] if "name" in own else None
            found |= dict.fromkeys(get_args(name), option) | option.alternatives()
        return found

    @classmethod
    def choose(cls, name: str, **options: Any) -> Self:
        """Take the alternative of a name, with its options.

        Raises:
            ModelError: there is no such alternative, or an option is unknown or out of its range.
        """
        known = cls.alternatives()
        if name not in known:
            raise ModelError(f"unknown {cls.kind} {name!r}; {nearest_name(name, known)}")
        try:
            return known[name](**{"name": name}, **options)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = first["msg"].removeprefix("Value error, ")
            at = f"{where} is {first['input']!r}: " if where else ""
            raise ModelError(f"{cls.kind} {name}: {at}{reason}") from None


def _or_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


class ByName:
    """Mark a field as one of the alternatives of its type; `head: cells` stands for `{name: cells}`."""

    def __get_pydantic_core_schema__(self, source: type[Named], handler: GetCoreSchemaHandler) -> "CoreSchema":
        """Let pydantic choose among the alternatives that are known by now."""
        union: Any = Union[tuple(dict.fromkeys(source.alternatives().values()))]  # noqa: UP007
        return handler.generate_schema(Annotated[union, Field(discriminator="name"), BeforeValidator(_or_name)])
