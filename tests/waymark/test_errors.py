import inspect

import pytest

from waymark import errors
from waymark.errors import WaymarkError, nearest_name

TYPED = [
    its_type
    for _, its_type in inspect.getmembers(errors, inspect.isclass)
    if issubclass(its_type, Exception) and its_type is not WaymarkError
]


def test_there_is_a_type_for_each_thing_that_goes_wrong():
    names = {its_type.__name__.removesuffix("Error") for its_type in TYPED}
    assert {"Parameter", "Source", "Region", "Coordinate", "Grid", "Split", "Image", "Model"} <= names


@pytest.mark.parametrize("its_type", TYPED)
def test_one_except_catches_every_typed_error_and_no_bug(its_type):
    assert issubclass(its_type, WaymarkError)
    assert not issubclass(its_type, ValueError | LookupError | OSError)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("batch_sise", "did you mean 'batch_size'?"),
        ("epoch", "did you mean 'epochs'?"),
        ("zzz", "known: batch_size, epochs, seed"),
    ],
)
def test_nearest_name_is_the_one_that_was_probably_meant(name, said):
    assert nearest_name(name, ["seed", "epochs", "batch_size"]) == said


def test_nearest_name_takes_any_iterable_once():
    assert nearest_name("q", iter(["b", "a"])) == "known: a, b"
