"""One entry of `ensembles:` in params.yaml."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.common.kinds import Name
from tasks.common.stage import STRICT
from waymark.errors import ParameterError, nearest_name
from waymark.options.kinds import PositiveWeight

LANDMARKS = "data/filtered/landmarks.parquet"  # target of a model that answers no places
Answer = Literal["places", "landmarks"]
Models = Mapping[str, Mapping[str, Any]]  # section models, as it stands in params.yaml


@dataclass(frozen=True, config=STRICT)
class EnsembleEntry:
    """One entry of `ensembles:`.

    Args:
        models: names of two entries of `models:` or more, which answer the same: places, landmarks or, as joint
            models do, both. What only some of them answer is left out.
        weights: what each of them counts, null for all the same.
        combine: of places: the median, which one model that is far off moves little, or the mean.
    """

    models: Annotated[tuple[Name, ...], Field(min_length=2)]
    weights: tuple[PositiveWeight, ...] | None = None
    combine: Literal["median", "mean"] = "median"

    @property
    def shares(self) -> list[float]:
        """What each model counts."""
        return [1.0] * len(self.models) if self.weights is None else list(self.weights)


def answers_of(model: Mapping[str, Any]) -> frozenset[Answer]:
    """Determine what an entry of `models:` answers.

    >>> sorted(answers_of({"target": "data/grid", "head": {"name": "joint"}}))
    ['landmarks', 'places']
    """
    head = model.get("head")
    if (head.get("name") if isinstance(head, Mapping) else head) == "joint":
        return frozenset({"places", "landmarks"})
    return frozenset({"landmarks"} if model.get("target") == LANDMARKS else {"places"})


def answers_together(entry: EnsembleEntry, models: Models) -> frozenset[Answer]:
    """Determine what all models of an ensemble answer."""
    return frozenset.intersection(*(answers_of(models[model]) for model in entry.models))


def check_ensembles(ensembles: Mapping[str, EnsembleEntry], models: Models) -> None:
    """Refuse ensembles that cannot answer.

    Raises:
        ParameterError: a name is a model's, an entry names no model or one twice, its weights do not
            fit, or its models have no kind of answer in common.
    """
    for name, entry in ensembles.items():
        at = f"ensembles.{name}"
        if name in models:
            raise ParameterError(f"{at} bears the name of a model; give the ensemble a name of its own")
        for model in entry.models:
            if model not in models:
                raise ParameterError(f"{at}.models: {model} is no model; {nearest_name(model, models)}")
        if len(set(entry.models)) < len(entry.models):
            raise ParameterError(f"{at}.models names a model twice; let it count more by weights")
        if len(entry.shares) != len(entry.models):
            raise ParameterError(
                f"{at}.weights: {len(entry.shares)} weights for {len(entry.models)} models; give one for each"
            )
        _check_answers(at, entry, models)


def _check_answers(at: str, entry: EnsembleEntry, models: Models) -> None:
    answers = answers_together(entry, models)
    if not answers:
        answered = ", ".join(
            f"{model} answers {' and '.join(sorted(answers_of(models[model])))}" for model in entry.models
        )
        raise ParameterError(f"{at}.models: {answered}; name models that answer the same")
    heaviest = max(entry.shares)
    if "places" in answers and entry.combine == "median" and heaviest > sum(entry.shares) / 2:
        raise ParameterError(
            f"{at}.weights: {entry.models[entry.shares.index(heaviest)]} has more than half of the weight, so that the"
            " median is always its own answer; set combine to mean, or its weight lower"
        )
