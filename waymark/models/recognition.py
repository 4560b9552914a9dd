"""Which landmark a record shows: what the head says and what training records look alike, put together."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from waymark.metrics.functional import global_average_precision
from waymark.models.calibration import Confidence, fit_confidence, unit_length
from waymark.models.decoding import row_chunks
from waymark.system.untrusted import CLOSED

logger = logging.getLogger(__name__)

CANDIDATES = 5
BLOCK = 4096  # training records that are compared at once
WEIGHTS = tuple(tenth / 10 for tenth in range(11))  # of retrieval, of which `auto` chooses
EVEN = 0.5
STILL = 1e-6  # scores that spread less do not vary: a cosine of float32 is known to 1e-7
AUTO_PRECISION = 0.9  # of the answers on val, where `auto` asks for one
FEW = 10  # answers on val; with fewer, nine of ten right is chance
SLACK = 1e-4  # below a score: sums in float32 change a little with the batch that a record comes in

Floats = NDArray[np.float64]
Truths = Sequence[Sequence[str]]
Precision = float | Literal["auto"] | None
Deviation = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Fusion:
    """How the two are put together, and when the answer is refused.

    Args:
        retrieval_weight: share of retrieval in the score, 0 to 1.
        head: mean and standard deviation of the head's highest score.
        index: mean and standard deviation of the highest cosine.
        threshold: least score of an answer; None never refuses.
        wanted_precision: share of right answers that the threshold was to reach, None for any.
        reached_precision: share of right answers on val; None where there was nothing to answer.
        answered: share of the val records that were answered.
        confidence: how probable it is that an answer of some score is right; None where that was never learnt.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    retrieval_weight: Annotated[float, Field(ge=0, le=1)]
    head: tuple[float, Deviation]
    index: tuple[float, Deviation]
    threshold: float | None = None
    wanted_precision: float | None = None
    reached_precision: float | None = None
    answered: float = 1.0
    confidence: Confidence | None = None


class Evidence(NamedTuple):
    """What speaks for each landmark, in float64."""

    head: Floats  # (N, C) scores of the head's classes, the first C of the landmarks
    cosine: Floats  # (N, L) the highest to a training record of each landmark


class Recognised(NamedTuple):
    """The best candidates of each record, as numbers of landmarks, and the rank of the truth."""

    candidates: NDArray[np.int64]  # (N, k) at most five, the best first
    scores: Floats  # (N, k) of them
    rank: NDArray[np.int64]  # (N,) from 1 on, of the best true landmark; -1 where none is known


class LandmarkIndex:
    """Training records of landmarks by what the network sees in them.

    Every record is compared: among the nearest alone, one landmark with many records could hide the others.

    Args:
        embedding: `(N, D)` of unit length.
        label: `(N,)` number of the landmark.
        landmarks: how many there are.
    """

    def __init__(self, embedding: NDArray[np.float32], label: NDArray[np.int64], landmarks: int) -> None:
        order = np.argsort(label, kind="stable")  # those of one landmark together
        self.embedding, self.label, self.landmarks = embedding[order], label[order], landmarks

    def highest_cosines(self, embedding: Tensor) -> Floats:
        """Compute the `(M, landmarks)` highest cosine of `(M, D)` embeddings to a record of each landmark.

        It is -1, the lowest that there is, for a landmark without any record.
        """
        looks = unit_length(embedding)
        best = np.full((len(looks), self.landmarks), -1.0)
        for start in range(0, len(self.label), BLOCK):
            label = self.label[start : start + BLOCK]
            firsts = np.flatnonzero(np.diff(label, prepend=-1))  # of each landmark
            highest = np.maximum.reduceat(looks @ self.embedding[start : start + BLOCK].T, firsts, axis=1)
            best[:, label[firsts]] = np.maximum(best[:, label[firsts]], highest)
        return best


class Recogniser:
    """Recognises the landmarks of the head and of the index.

    Args:
        scores: from `(N, D)` embeddings to the head's `(N, C)` scores.
        classes: landmarks of the head, in the order of its classes.
        embedding: `(R, D)` of the training records that show a landmark, of unit length.
        landmark: `(R,)` which one; it need not be a class of the head.

    Attributes:
        landmarks: the head's classes and then the index's own, in the order of their ids.
    """

    def __init__(
        self,
        scores: Callable[[Tensor], Tensor],
        classes: Sequence[str],
        embedding: NDArray[np.float32],
        landmark: NDArray[np.object_],
    ) -> None:
        self.scores, self.classes = scores, len(classes)
        self.landmarks = (*classes, *sorted(set(landmark) - set(classes)))
        self.numbers = {name: number for number, name in enumerate(self.landmarks)}
        label = np.array([self.numbers[name] for name in landmark], dtype=np.int64)
        self.index = LandmarkIndex(embedding, label, len(self.landmarks))

    def evidence(self, embedding: Tensor) -> Iterator[tuple[slice, Evidence]]:
        """Weigh `(N, D)` embeddings, some at a time; gives rows and what speaks for their landmarks."""
        for rows in row_chunks(len(embedding), len(self.landmarks) + min(BLOCK, len(self.index.label))):
            with torch.inference_mode():
                head = self.scores(embedding[rows]).double().numpy()
            yield rows, Evidence(head, self.index.highest_cosines(embedding[rows]))

    def recognise(self, embedding: Tensor, fusion: Fusion, truths: Truths | None = None) -> Recognised:
        """Rank the landmarks for each record; of equal scores, that with the lower number is better.

        Args:
            embedding: `(N, D)`.
            fusion: learnt on val.
            truths: `(N,)` landmarks that each record shows, None where nobody knows.
        """
        known = self.known([()] * len(embedding) if truths is None else truths)
        kept = min(CANDIDATES, len(self.landmarks))
        candidates, scores = np.empty((len(embedding), kept), dtype=np.int64), np.empty((len(embedding), kept))
        rank = np.empty(len(embedding), dtype=np.int64)
        for rows, evidence in self.evidence(embedding):
            fused = fuse(evidence, fusion)
            rank[rows] = ranks(fused, known[rows])
            candidates[rows], scores[rows] = _best(fused, kept)
        return Recognised(candidates, scores, rank)

    def known(self, truths: Truths) -> list[list[int]]:
        """Return the numbers of the landmarks that each record shows, without those that are unknown."""
        return [[self.numbers[name] for name in labels if name in self.numbers] for labels in truths]


def fuse(evidence: Evidence, fusion: Fusion) -> Floats:
    """Compute the `(N, L)` scores: (1 - w) of the head and w of the index, each with mean 0 and deviation 1 on val.

    For a landmark that is no class of the head, the index speaks for both.

    >>> fusion = Fusion(0.25, head=(4.0, 2.0), index=(0.5, 0.5))
    >>> fuse(Evidence(np.array([[6.0, 2.0]]), np.array([[0.5, 1.0, 1.0]])), fusion).tolist()
    [[0.75, -0.5, 1.0]]
    """
    (head_mean, head_std), (mean, std) = fusion.head, fusion.index
    fused = (evidence.cosine - mean) / std
    classes, weight = evidence.head.shape[1], fusion.retrieval_weight
    fused[:, :classes] = (1 - weight) * (evidence.head - head_mean) / head_std + weight * fused[:, :classes]
    return fused


def ranks(fused: Floats, known: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Compute the `(N,)` rank of the best true landmark among `(N, L)` scores; -1 where none is known.

    >>> ranks(np.array([[0.1, 0.7, 0.7], [0.3, 0.2, 0.1]]), [[0, 2], []]).tolist()
    [2, -1]
    """
    found = np.full(len(fused), -1, dtype=np.int64)
    for row, numbers in enumerate(known):
        if numbers:
            best = min(numbers, key=lambda number: (-fused[row, number], number))
            score = fused[row, best]
            found[row] = 1 + (fused[row] > score).sum() + (fused[row, :best] == score).sum()
    return found


def _best(fused: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """List the `(N, count)` numbers and scores of the best; of equal ones the first, which a partial sort ignores."""
    left, rows = fused.copy(), np.arange(len(fused))
    numbers = np.empty((len(fused), count), dtype=np.int64)
    for place in range(count):
        numbers[:, place] = left.argmax(axis=1)
        left[rows, numbers[:, place]] = -np.inf
    return numbers, np.take_along_axis(fused, numbers, axis=1)


def fit_recognition(
    recogniser: Recogniser,
    embedding: Tensor,
    truths: Truths,
    *,
    retrieval_weight: float | Literal["auto"] = "auto",
    precision: Precision = "auto",
) -> Fusion:
    """Learn from val how head and index are put together, and from which score on an answer is given.

    Args:
        recogniser: of the training records.
        embedding: `(N, D)` of the val records, in the order of their ids.
        truths: `(N,)` landmarks that each shows, none for a record without one.
        retrieval_weight: of the index; auto is that of `WEIGHTS` with the highest GAP, then the highest top-1,
            then that nearest to 0.5.
        precision: share of the answers that shall be right, see `wanted_precision`.
    """
    weights = WEIGHTS if retrieval_weight == "auto" else (retrieval_weight,)
    standards = _standards(recogniser, embedding)
    fusions = [Fusion(weight, *standards) for weight in weights]
    known = recogniser.known(truths)
    scores, right = np.empty((len(weights), len(known))), np.empty((len(weights), len(known)), dtype=bool)
    for rows, evidence in recogniser.evidence(embedding):
        for place, fusion in enumerate(fusions):
            fused = fuse(evidence, fusion)
            scores[place, rows] = fused.max(axis=1)
            right[place, rows] = ranks(fused, known[rows]) == 1
    shown = np.array([len(labels) > 0 for labels in truths], dtype=bool)
    place = max(range(len(weights)), key=lambda at: _merit(weights[at], scores[at], right[at], shown))
    wanted = wanted_precision(precision, shown)
    found = rejection(scores[place], right[place], wanted)
    confidence = fit_confidence(scores[place], right[place])
    head, index = fusions[place].head, fusions[place].index
    return Fusion(weights[place], head, index, found.threshold, wanted, found.precision, found.answered, confidence)


def _standards(recogniser: Recogniser, embedding: Tensor) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return mean and standard deviation of the winning scores of the head, and of the index."""
    highest = np.concatenate(
        [np.stack([scores.max(axis=1) for scores in evidence]) for _, evidence in recogniser.evidence(embedding)],
        axis=1,
    )  # (2, N)
    means, deviations = highest.mean(axis=1).tolist(), highest.std(axis=1).tolist()
    head, index = zip(means, (deviation if deviation > STILL else 1.0 for deviation in deviations), strict=True)
    return head, index


def _merit(weight: float, scores: Floats, right: NDArray[np.bool_], shown: NDArray[np.bool_]) -> tuple[float, ...]:
    """Order weights: by GAP, by top-1, by how near they are to one half; without any landmark by the last alone."""
    nearness = -abs(weight - EVEN)
    if not shown.any():
        return 0.0, 0.0, nearness
    gap = float(global_average_precision(torch.from_numpy(scores), torch.from_numpy(right), int(shown.sum())))
    return round(gap, 12), float(right[shown].mean()), nearness


class Rejection(NamedTuple):
    """From which score on an answer is given, and what came of it on val."""

    threshold: float | None
    precision: float | None
    answered: float


def wanted_precision(precision: Precision, shown: NDArray[np.bool_]) -> float | None:
    """Determine which share of the answers must be right; None never refuses.

    Args:
        precision: that share; None for any; `auto` is 0.9 where validation holds a record without a landmark, without
            which nobody can tell what should be refused, and else None.
        shown: `(N,)` whether a val record shows a landmark.
    """
    if precision == "auto":
        return None if shown.all() else AUTO_PRECISION
    return precision


def rejection(scores: Floats, right: NDArray[np.bool_], precision: float | None) -> Rejection:
    """Find the lowest score from which on a share of the answers is right.

    Args:
        scores: `(N,)` of the best candidates; at least one.
        right: `(N,)` whether it is one of the record's landmarks, False for a record without one.
        precision: that share, None for any.

    Returns:
        Where no score reaches it, the lowest of those that come nearest. The threshold lies a little below that score,
        and above the next; above all scores where no answer is right.

    >>> found = rejection(np.array([0.9, 0.4, 0.7, 0.2]), np.array([True, True, False, False]), 0.6)
    >>> [round(value, 4) for value in found]
    [0.3999, 0.6667, 0.75]
    """
    if precision is None:
        return Rejection(None, float(right.mean()), 1.0)
    if not right.any():
        logger.warning("no landmark named on val is right, so that the model refuses them all; train it longer")
        return Rejection(float(scores.max()) + SLACK, None, 0.0)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of the answers with one score
    reached = (right[order].cumsum() / np.arange(1, len(order) + 1))[last]
    if reached.max() < precision:
        logger.warning(
            "no threshold reaches a precision of %g on val; %g is the best; train the model longer, or lower"
            " calibrate.precision",
            precision,
            reached.max(),
        )
    lowest = np.flatnonzero(reached >= min(precision, reached.max()))[-1]
    place = np.flatnonzero(last)[lowest]
    if place + 1 < FEW:
        logger.warning(
            "the threshold rests on %d answers on val, too few to promise any precision; bring more pictures", place + 1
        )
    score, lower = scores[order][place], scores[order][place + 1 :]
    threshold = max(score - SLACK, (score + lower[0]) / 2) if len(lower) else score - SLACK
    return Rejection(float(threshold), float(reached[lowest]), float((place + 1) / len(order)))
