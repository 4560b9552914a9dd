"""What a model learns: the section `head` of an entry of `models:`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.common.kinds import AtLeastOne, DistanceKm, Few, Margin, OrName, Scale, Share, Weight, Width
from tasks.common.stage import STRICT

# Not strict: behind the name of a union pydantic takes YAML's lists for Python's, which are no tuples.
Hidden = Annotated[tuple[Width, ...], Field(strict=False, max_length=16)]


@dataclass(frozen=True, config=STRICT)
class Cells:
    """Head `cells`.

    Args:
        answer: mean of the cells weighted with their probabilities, the best cell, the geometric
            median, or the place with the highest expected score.
        position: of a cell: the mean of its training records, or its clipped centre.
        smoothing_km: distance over which the label fades into neighbouring cells; null is a hard label.
        score_km: scale of the score; null is a tenth of the diagonal of the training records.
    """

    name: Literal["cells"]
    answer: Literal["mean", "best", "median", "score"] = "mean"
    position: Literal["training", "centre"] = "training"
    smoothing_km: DistanceKm | None = None
    score_km: DistanceKm | None = None


@dataclass(frozen=True, config=STRICT)
class Hybrid:
    """Head `hybrid`: a cell, and where inside it.

    Args:
        answer: as of `cells`.
        position: of a cell, from which the offset counts, as of `cells`.
        smoothing_km: as of `cells`.
        score_km: as of `cells`.
        offset_weight: what the loss of the offset counts beside that of the cell.
    """

    name: Literal["hybrid"]
    answer: Literal["mean", "best", "median", "score"] = "mean"
    position: Literal["training", "centre"] = "training"
    smoothing_km: DistanceKm | None = None
    score_km: DistanceKm | None = None
    offset_weight: Weight = 1.0


@dataclass(frozen=True, config=STRICT)
class Coordinates:
    """Head `coordinates`.

    Args:
        space: that of the CRS, the unit sphere, or cosine-transformed degrees.
        scaling: one scale for both axes, or each axis to 0-1; null is isotropic, and all that the sphere takes.
    """

    name: Literal["coordinates"]
    space: Literal["crs", "sphere", "cosine"] = "crs"
    scaling: Literal["isotropic", "per_axis"] | None = None


PlaceEntry = Cells | Hybrid | Coordinates


@dataclass(frozen=True, config=STRICT)
class Landmarks:
    """What all heads for landmarks have.

    Args:
        least_images: training records that make a landmark a class of the head; one with fewer is
            recognised by its pictures in the retrieval index alone.
        label_smoothing: share of each label that all classes share.
        background: what a picture that shows no landmark counts in the training beside one that does; such
            pictures get a class of their own. 0 leaves them out.
    """

    least_images: AtLeastOne = 1
    label_smoothing: Share = 0.0
    background: Weight = 0.0


@dataclass(frozen=True, config=STRICT)
class Softmax(Landmarks):
    """Head `softmax`.

    Args:
        hidden: widths of fully connected layers before the classes', as VGG's 4096, 4096.
        dropout: after each of them.
    """

    name: Literal["softmax"] = "softmax"
    hidden: Hidden = ()
    dropout: Share = 0.5


@dataclass(frozen=True, config=STRICT)
class _Cosines(Landmarks):
    """What the heads with a margin have.

    Args:
        scale: what cosines are multiplied with; null follows the number of classes.
        centres: of each landmark, of which the nearest counts.
    """

    scale: Scale | None = 30.0
    centres: Few = 1


@dataclass(frozen=True, config=STRICT)
class ArcFace(_Cosines):
    """Head `arcface`: a margin on the angle.

    Args:
        margin: in radians, or dynamic: the larger, the fewer pictures a landmark has; null is the head's usual one.
        margin_low: of the dynamic ones, of the landmark with the most pictures.
        margin_high: of the dynamic ones, of that with the fewest.
    """

    name: Literal["arcface"] = "arcface"
    margin: Margin | Literal["dynamic"] | None = None
    margin_low: Margin = 0.05
    margin_high: Margin = 0.5


@dataclass(frozen=True, config=STRICT)
class CosFace(_Cosines):
    """Head `cosface`: a margin on the cosine, as of `arcface`."""

    name: Literal["cosface"] = "cosface"
    margin: Margin | Literal["dynamic"] | None = None
    margin_low: Margin = 0.05
    margin_high: Margin = 0.5


@dataclass(frozen=True, config=STRICT)
class SphereFace(_Cosines):
    """Head `sphereface`: the angle of the record's own landmark times `margin`; null as of `arcface`."""

    name: Literal["sphereface"] = "sphereface"
    margin: Annotated[Margin, Field(ge=1)] | None = None


@dataclass(frozen=True, config=STRICT)
class Attention(Landmarks):
    """Head `attention`: an attention branch network.

    Args:
        stage: of the backbone after which the branch looks: -1 the last, -2 the one before.
        apply: residual lets what it does not attend to through, (1 + M) x; product does not, M x.
        alpha: what the loss of the attention branch counts.
        beta: what the loss of the perception branch counts.
        hidden: as of `softmax`.
        dropout: as of `softmax`.
    """

    name: Literal["attention"] = "attention"
    stage: Annotated[int, Field(ge=-1000, lt=0)] = -1
    apply: Literal["residual", "product"] = "residual"
    alpha: Weight = 1.0
    beta: Weight = 1.0
    hidden: Hidden = ()
    dropout: Share = 0.0


LandmarkEntry = Softmax | ArcFace | CosFace | SphereFace | Attention


@dataclass(frozen=True, config=STRICT)
class Joint:
    """Head `joint`: two heads on one backbone; each record teaches those for which it has a truth.

    Args:
        place: a head for places.
        landmark: a head for landmarks.
        place_weight: what the loss of places counts.
        landmark_weight: what the loss of landmarks counts.
    """

    name: Literal["joint"]
    place: Annotated[PlaceEntry, Field(discriminator="name"), OrName]
    landmark: Annotated[LandmarkEntry, Field(discriminator="name"), OrName]
    place_weight: Weight = 1.0
    landmark_weight: Weight = 1.0
