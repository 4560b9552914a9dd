"""Names and kinds that params.yaml has, beside those of waymark/options."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tasks.common.params import shown
from waymark.errors import ParameterError, WaymarkError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NAMES = "names consist of letters, digits, _ and -, the first a letter or digit, at most 64 in all"


def checked_by(check: Callable[[Any], object]) -> AfterValidator:
    """Make a validator of a function that raises an error of this project where a value is wrong."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except WaymarkError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(validate)


def check_name(section: str, name: str) -> None:
    """Refuse a name of the user's own that could be no folder's: it is one below trained/ and reports/.

    Raises:
        ParameterError: it has other letters, or too many.
    """
    if not isinstance(name, str):
        raise ParameterError(f"params.yaml: {section}: the name {shown(name)} is no text; put it in quotes")
    if not NAME.fullmatch(name):
        raise ParameterError(f"params.yaml: {section}.{shown(name)}: {NAMES}")


def _is_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(NAMES)
    return name


Name = Annotated[str, Field(description="a name"), AfterValidator(_is_name)]
