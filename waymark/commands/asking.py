"""Ask the models: each answers its question, from the same pictures."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import tee
from typing import NamedTuple

from waymark.images.decode import Fit, Picture
from waymark.inference.answering import Answers, Query, answer_files, join_answers
from waymark.inference.lookup import Model, Models


class Square(NamedTuple):
    """What pictures are decoded to: a square of so many pixels, and how they become one."""

    side_px: int
    fit: Fit


def square_of(model: Model) -> Square:
    """Give the square to which a model wants pictures decoded."""
    config = model.predictor.locator.config
    return Square(config.shard_px, config.fit)


def squares_of(models: Models) -> list[Square]:
    """Give the squares to which pictures are to be decoded, each once."""
    return sorted({square_of(model) for model in models.each})


def view_slots(model: Model) -> int:
    """Give how many views of a place a model takes."""
    return len(model.predictor.locator.config.slots)


def ask(models: Models, queries: Sequence[Query], pictures: Mapping[Square, Iterator[Picture]]) -> Answers:
    """Let each model answer its question.

    Args:
        models: who is asked.
        queries: places or photos.
        pictures: by the square of `squares_of` that they were decoded to, all pictures of the queries in their order.
    """
    readers = {square: iter(tee(its, len(models.each))) for square, its in pictures.items()}
    answers = [answer_files(model.predictor, queries, next(readers[square_of(model)])) for model in models.each]
    return answers[0] if len(answers) == 1 else join_answers(*answers)
