"""Which training images are wanted, and how much that means, before anything large is downloaded."""

from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from waymark.errors import SourceError
from waymark.options.kinds import AtLeastOne, NoneOrMore
from waymark.options.named import STRICT
from waymark.sources.gldv2.layout import SIZES, Split, Subset, Tars, tar_numbers


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class Choice:
    """Which images of train are wanted; the rules go one after the other.

    Args:
        subset: `clean` (train_clean.csv: 1.58 million images of 81,313 landmarks) or `full` (train.csv).
        landmarks: ids of landmarks; null takes all.
        min_images: landmarks with fewer images in the subset are left out.
        largest: how many landmarks are taken, the largest first, ties by id.
    """

    subset: Subset = "clean"
    landmarks: Annotated[tuple[NoneOrMore, ...], Field(strict=False)] | None = None
    min_images: AtLeastOne | None = None
    largest: AtLeastOne | None = None

    @field_validator("landmarks")
    @classmethod
    def _some(cls, landmarks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if landmarks is not None and not landmarks:
            raise ValueError("must name at least one landmark, or be null for all")
        return landmarks

    def choose(self, labels: pa.Table) -> pa.Table:
        """Keep the wanted images.

        Args:
            labels: all images of the subset, a table of `metadata.LABELS` with one landmark each.

        Raises:
            SourceError: a landmark is unknown, or nothing is left.
        """
        landmark = pc.list_flatten(labels["landmarks"])
        if not pc.all(pc.utf8_is_digit(landmark)).as_py() or len(landmark) != labels.num_rows:
            raise SourceError(f"the {self.subset} training set has images without one landmark id; download it again")
        counts = pc.value_counts(landmark)
        sizes = pa.table({"landmark": counts.field("values"), "images": counts.field("counts")})
        sizes = sizes.append_column("id", pc.cast(sizes["landmark"], pa.int64()))
        sizes = sizes.sort_by([("images", "descending"), ("id", "ascending")])
        sizes = self._within(sizes)
        if self.min_images is not None:
            sizes = sizes.filter(pc.greater_equal(sizes["images"], self.min_images))
        kept = sizes["landmark"].slice(0, self.largest)
        if not len(kept):
            raise SourceError(f"no landmark has {self.min_images} images; lower download.gldv2.min_images")
        return labels.filter(pc.is_in(landmark, value_set=kept.combine_chunks()))

    def _within(self, sizes: pa.Table) -> pa.Table:
        if self.landmarks is None:
            return sizes
        wanted = pa.array(self.landmarks, pa.int64())
        unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=sizes["id"].combine_chunks())))
        if len(unknown):
            raise SourceError(
                f"landmark {unknown[0]} has no image in the {self.subset} training set; take it out of"
                " download.gldv2.landmarks, or set download.gldv2.subset to full"
            )
        return sizes.filter(pc.is_in(sizes["id"], value_set=wanted))


@dataclass(frozen=True)
class Estimate:
    """How much a choice means.

    Attributes:
        images: wanted ones of all tars of their splits.
        expected: about how many of them lie in the chosen tars.
        landmarks: landmarks of the wanted images.
        tars: how many are downloaded.
        download_gb: about how much that is.
        kept_gb: about how much the pictures take once the others are left out.
    """

    images: int
    expected: int
    landmarks: int
    tars: int
    download_gb: float
    kept_gb: float

    def __str__(self) -> str:
        choice = f"{self.images:,} images of {self.landmarks:,} landmarks"
        if self.expected != self.images:
            choice += f", about {self.expected:,} of them in the chosen tars"
        sizes = f"about {self.download_gb:,.1f} GB to download and {self.kept_gb:,.1f} GB to keep"
        return f"{choice}; {self.tars:,} tars, {sizes}"


def estimate(images: dict[Split, int], landmarks: int, tars: Tars) -> Estimate:
    """Estimate how much a choice means, from the numbers of images and the sizes that the dataset tells of itself.

    Args:
        images: number of wanted images of each split.
        landmarks: number of their landmarks.
        tars: chosen tars of each split.
    """
    chosen = tar_numbers(tars)
    expected = kept = 0.0
    for split, wanted in images.items():
        size = SIZES[split]
        inside = wanted * sum(one == split for one, _ in chosen) / size.tars
        expected += inside
        kept += inside * size.tars * size.tar_bytes / size.images
    return Estimate(
        images=sum(images.values()),
        expected=round(expected),
        landmarks=landmarks,
        tars=len(chosen),
        download_gb=sum(SIZES[split].tar_bytes for split, _ in chosen) / 1e9,
        kept_gb=kept / 1e9,
    )
