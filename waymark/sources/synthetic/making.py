"""Making the pictures, on several processes: each record has draws of its own, so their number changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from waymark.errors import SourceError
from waymark.sources.synthetic.backdrop import Weather
from waymark.sources.synthetic.camera import take
from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.landmarks import Landmark, draw_photo
from waymark.sources.synthetic.places import Outlook
from waymark.sources.synthetic.view import draw_view
from waymark.system.workers import Lost, available_workers, in_processes

CHUNK = 40  # records that a process takes at a time
FEW = 60  # below so many records a second process does not pay


@dataclass(frozen=True)
class Sitting:
    """A record to be pictured: its outlooks if it is a place, its landmark if it is a photo of one."""

    record_id: str
    seed: int
    outlooks: tuple[Outlook, ...] = ()
    landmark: Landmark | None = None

    def paths(self) -> list[str]:
        """Return the path of each view, relative to the folder."""
        if not self.outlooks:
            return [f"images/{self.record_id}/view.jpg"]
        return [f"images/{self.record_id}/{outlook.heading:03d}.jpg" for outlook in self.outlooks]

    def pictures(self) -> list[bytes]:
        """Return the JPEG of each view."""
        if not self.outlooks:
            draws = Draws(self.seed, self.record_id)
            return [take(draw_photo(self.landmark, draws), draws)]
        weather = Weather.draw(Draws(self.seed, self.record_id))
        jpegs = []
        for outlook in self.outlooks:
            draws = Draws(self.seed, self.record_id, outlook.heading)
            jpegs.append(take(draw_view(outlook, weather, draws), draws))
        return jpegs


def make_all(sittings: Sequence[Sitting], folder: Path, workers: int | None) -> Iterator[str]:
    """Write the pictures of all records.

    Args:
        sittings: the records.
        folder: the views' paths are relative to it.
        workers: processes; by default one for each core.

    Yields:
        The id of each record as it is finished, in their order.

    Raises:
        SourceError: the process that draws a record ends each time.
    """
    make, workers = partial(_make, folder=folder), workers or available_workers()
    if workers == 1 or len(sittings) < FEW:
        yield from map(make, sittings)
        return
    made = in_processes(make, sittings, chunk=CHUNK, workers=workers)
    for sitting, record_id in zip(sittings, made, strict=True):
        if isinstance(record_id, Lost):
            raise SourceError(
                f"{sitting.record_id} could not be drawn, its process ended: {record_id.reason}; run the stage again"
            )
        yield record_id


def _make(sitting: Sitting, folder: Path) -> str:
    (folder / "images" / sitting.record_id).mkdir(parents=True, exist_ok=True)
    for path, jpeg in zip(sitting.paths(), sitting.pictures(), strict=True):
        (folder / path).write_bytes(jpeg)
    return sitting.record_id
