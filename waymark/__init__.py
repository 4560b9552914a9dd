"""Waymark learns where a photo was taken and which landmark it shows.

`waymark.load(model).predict(picture)` is the public way to an answer; see docs/api.md.
"""

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waymark.inference.answering import Undecodable
    from waymark.inference.api import Answer, PicturePredictor
    from waymark.inference.candidates import Candidate

__all__ = ["Answer", "Candidate", "PicturePredictor", "Undecodable", "__version__", "load"]


def load(model: str | PathLike[str] | None = None) -> "PicturePredictor":
    """Load a model: an exported file, a checkpoint or its folder, or a name in the registry; None for the champions.

    Raises:
        waymark.errors.ModelError: there is no such model.
    """
    from waymark.inference import api  # late, for torch takes seconds that `import waymark` should not

    return api.load(model)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("waymark")
    if name in __all__:
        from waymark.inference import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
