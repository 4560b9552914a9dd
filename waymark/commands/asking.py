"""Answers of one or two models to the same pictures."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import tee
from typing import NamedTuple

from waymark.images.decode import Fit, Picture
from waymark.inference.answering import Answers, Query, answer_files, join_answers
from waymark.inference.lookup import Model, Models


class Square(NamedTuple):
    """Size of the square to which pictures are decoded, and how they become square."""

    side_px: int
    fit: Fit


def square_of(model: Model) -> Square:
    """Return the square to which a model needs pictures decoded."""
    config = model.predictor.locator.config
    return Square(config.shard_px, config.fit)


def squares_of(models: Models) -> list[Square]:
    """Return the distinct squares that the models need."""
    return sorted({square_of(model) for model in models.each})


def view_slots(model: Model) -> int:
    """Return the number of views of a place that a model takes."""
    return len(model.predictor.locator.config.slots)


def ask(
    models: Models, queries: Sequence[Query], pictures: Mapping[Square, Iterator[Picture]], top_k: int = 0
) -> Answers:
    """Answer queries with each model, and join the answers.

    Args:
        models: for places, landmarks or both.
        queries: places or photos.
        pictures: by square of `squares_of`, all pictures of the queries in order.
        top_k: how many of the best places are listed for each query.
    """
    readers = {square: iter(tee(decoded, len(models.each))) for square, decoded in pictures.items()}
    answers = [answer_files(model.predictor, queries, next(readers[square_of(model)]), top_k) for model in models.each]
    return answers[0] if len(answers) == 1 else join_answers(*answers)
