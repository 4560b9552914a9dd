"""Training of heads that no gradient teaches: one look at the training records."""

import math

import torch

from waymark.images.batches import Examples, RecordLoaders
from waymark.metrics.functional import global_average_precision, haversine_km
from waymark.models.heads import NO_LANDMARK
from waymark.models.heads.adapter import AtOnce
from waymark.models.inference import Outputs, run
from waymark.models.locator import Locator
from waymark.models.training.fitting import Fitted


def learn_at_once(locator: Locator, loaders: RecordLoaders, train: Examples, val: Examples) -> Fitted:
    """Let the heads of a locator learn from what its backbone makes of the training records.

    Returns:
        The figures on val, as of a training of one epoch.
    """
    seen = run(locator, loaders.evaluation(train)).embedding
    landmark, lat_lon = torch.from_numpy(train.landmark), torch.from_numpy(train.lat_lon)
    if isinstance(locator.place_head, AtOnce):
        placed = ~lat_lon.isnan().any(dim=1)
        locator.place_head.learn(seen[placed], landmark[placed])
    if isinstance(locator.landmark_head, AtOnce):
        shown, shows_none = landmark >= 0, landmark == NO_LANDMARK
        wanted = shown | shows_none if locator.landmark_head.background else shown
        locator.landmark_head.learn(seen[wanted], landmark[wanted])
    return Fitted([{"epoch": 0, **_figures(locator, run(locator, loaders.evaluation(val)), val)}], 0)


def _figures(locator: Locator, outputs: Outputs, val: Examples) -> dict[str, float]:
    figures = {}
    if locator.place_head is not None:
        distance_km = haversine_km(locator.place(outputs.place).lat_lon, torch.from_numpy(val.lat_lon))
        figures["val_mean_km"] = float(distance_km.nanmean())
    if locator.landmark_head is not None:
        score, answer = locator.landmark_head.scores(outputs.landmark).max(dim=1)
        landmark = torch.from_numpy(val.landmark)
        right, known = answer == landmark, landmark >= 0
        figures["val_gap"] = float(global_average_precision(score, right, int(known.sum())))
        figures["val_top1"] = float(right[known].float().mean()) if known.any() else math.nan
    return figures
