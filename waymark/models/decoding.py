"""Decoders: from the probabilities of cells to one place.

Each takes `(B, K)` float64 probabilities, and positions of the cells that are the same for all records,
`(K, 2)`, or each record's own, `(B, K, 2)`.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from waymark.geo.sphere import EARTH_RADIUS_KM

Answer = Literal["mean", "best", "median", "score"]

CHUNK = 2**22  # numbers in the largest intermediate tensor, 32 MB in float64
MEDIAN_STEPS, MEDIAN_M = 200, 0.01  # a median is final when a step gets shorter than that
SCORE_STEPS, SCORE_CANDIDATES = 60, 64
STILL = 1e-8  # of the Earth's radius, 6 cm
HERE_M, NEAR_KM = 1e-6, 1e-3  # closer than that is the same place
TINY = 1e-300  # no divisor is 0


def row_chunks(rows: int, width: int) -> Iterator[slice]:
    """Divide rows of so many numbers so that no chunk needs much memory; at least one row each.

    >>> list(row_chunks(5, CHUNK // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, CHUNK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def mean_position(probabilities: Tensor, positions: Tensor) -> Tensor:
    """Weigh the positions with the probabilities: `(B, 2)`."""
    if positions.ndim == 2:
        return probabilities @ positions
    return (probabilities[..., None] * positions).sum(dim=1)


def best_position(probabilities: Tensor, positions: Tensor) -> Tensor:
    """Take the position of the most probable cell: `(B, 2)`."""
    return _pick(positions, probabilities.argmax(dim=1))


def geometric_median(probabilities: Tensor, positions_m: Tensor) -> Tensor:
    """Find the places with the smallest expected distance in the plane.

    Weiszfeld's fixed point (Weiszfeld 1937), and on a position itself the step of Vardi and Zhang 2000,
    The multivariate L1-median and associated data depth, which leaves that position out. Where a longer
    step or Newton's gets lower it is taken instead, for Weiszfeld's own shrink to nothing where positions
    lie nearly on a line. A position is the median where the pull of all others does not exceed its own
    weight (the same paper); that is asked of the one nearest to each iterate.

    Args:
        probabilities: `(B, K)`.
        positions_m: `(K, 2)` or `(B, K, 2)` metres.

    Returns:
        `(B, 2)` metres, right to less than a metre unless the expected distance is flat there to a millimetre.

    >>> geometric_median(torch.tensor([[0.2, 0.2, 0.6]]), torch.tensor([[0.0, 0.0], [9.0, 0.0], [5.0, 7.0]]))
    tensor([[5., 7.]], dtype=torch.float64)
    """
    weights = probabilities.double()
    positions = positions_m.double()
    found = mean_position(weights, positions)
    moving = torch.arange(len(found), device=found.device)
    for _ in range(MEDIAN_STEPS):
        own = positions if positions.ndim == 2 else positions[moving]
        found[moving], final = _median_step(found[moving], weights[moving], own)
        moving = moving[~final]
        if not len(moving):
            break
    return found


def _median_step(place: Tensor, weights: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the `(B, 2)` next places, and which are final."""
    corner = _pick(positions, _distance_m(place, positions).argmin(dim=1))
    pull, curvature, here = _slope(corner, weights, positions)
    length = torch.linalg.vector_norm(pull, dim=1)
    is_median = length <= here
    free = (1 - here / length.clamp(min=TINY)).clamp(min=0)  # the share of the pull that the weight here leaves
    on_corner = torch.linalg.vector_norm(place - corner, dim=1) < MEDIAN_M
    start = torch.where(on_corner[:, None], corner + _weiszfeld(pull, curvature) * free[:, None], place)
    pull, curvature, _ = _slope(start, weights, positions)
    fixed_point = _weiszfeld(pull, curvature)
    steps = (0 * pull, fixed_point, 8 * fixed_point, 64 * fixed_point, _newton(pull, curvature))
    trials = torch.stack([start + step for step in steps])
    costs = torch.stack([(_distance_m(trial, positions) * weights).sum(dim=1) for trial in trials])
    lowest = trials[costs.argmin(dim=0), torch.arange(len(place), device=place.device)]
    still = (torch.linalg.vector_norm(lowest - place, dim=1) < MEDIAN_M) & ~on_corner
    return torch.where(is_median[:, None], corner, lowest), is_median | still


def _slope(place: Tensor, weights: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute how the expected distance falls around `(B, 2)` places, without the positions that lie there.

    Returns:
        `(B, 2)` negative gradient, `(B, 3)` second derivatives xx, xy, yy, and the `(B,)` weight left out.
    """
    away = positions - place[:, None]  # (B, K, 2)
    distance = torch.linalg.vector_norm(away, dim=2)
    there = distance > HERE_M
    x, y = (away / distance.clamp(min=HERE_M)[..., None]).unbind(dim=2)
    weight = torch.where(there, weights, 0.0)
    stiff = weight / distance.clamp(min=HERE_M)  # (B, K)
    pull = torch.stack([(weight * x).sum(dim=1), (weight * y).sum(dim=1)], dim=1)
    curvature = torch.stack(
        [(stiff * y * y).sum(dim=1), -(stiff * x * y).sum(dim=1), (stiff * x * x).sum(dim=1)], dim=1
    )
    return pull, curvature, torch.where(there, 0.0, weights).sum(dim=1)


def _weiszfeld(pull: Tensor, curvature: Tensor) -> Tensor:
    """Step to the mean weighted with probability over distance, whose sum is the trace of the curvature."""
    return pull / (curvature[:, 0] + curvature[:, 2]).clamp(min=TINY)[:, None]


def _newton(pull: Tensor, curvature: Tensor) -> Tensor:
    xx, xy, yy = curvature.unbind(dim=1)
    east, north = pull.unbind(dim=1)
    step = torch.stack([yy * east - xy * north, xx * north - xy * east], dim=1) / (xx * yy - xy * xy)[:, None]
    return torch.where(step.isfinite(), step, 0.0)


def highest_score(probabilities: Tensor, lat_lon: Tensor, scale_km: float) -> Tensor:
    """Find the places with the highest expected score, the sum over cells of p exp(-distance / scale).

    The candidates are the positions of the cells (where each record has its own, of the 64 most
    probable cells). From the best of them, and from the mean of all, mean shift climbs on: its fixed
    points are where the slope of that sum is nought. A climb ends on the hill where it started; the answer is
    never worse than the best candidate.

    Args:
        probabilities: `(B, K)`.
        lat_lon: `(K, 2)` or `(B, K, 2)` latitude, longitude in degrees.
        scale_km: distance over which a score falls to 1 / e, in GeoGuessr a tenth of the map's diagonal.

    Returns:
        `(B, 2)` latitude, longitude in degrees.

    >>> highest_score(torch.tensor([[0.3, 0.7]]), torch.tensor([[45.0, 15.0], [46.0, 16.0]]), 10.0)
    tensor([[46., 16.]], dtype=torch.float64)
    """
    weights, positions = probabilities.double(), unit_vectors(lat_lon.double())
    candidates, score = _best_candidates(weights, positions, scale_km)
    found = candidates
    for start in (_local_mean(candidates, weights, positions, scale_km), mean_position(weights, positions)):
        place, step = F.normalize(start, dim=1), torch.tensor(1.0)
        for _ in range(SCORE_STEPS):
            kernel, angle_km = _kernel(place[:, None], positions, scale_km)  # (B, 1, K)
            reached = (kernel[:, 0] * weights).sum(dim=1)
            better = reached > score
            found, score = torch.where(better[:, None], place, found), torch.where(better, reached, score)
            if step < STILL:
                break
            before = place
            near = weights * kernel[:, 0] / angle_km[:, 0].clamp(min=NEAR_KM)
            place = F.normalize(mean_position(near, positions), dim=1)
            step = torch.linalg.vector_norm(place - before, dim=1).amax()
    return to_degrees(found)


def _best_candidates(weights: Tensor, positions: Tensor, scale_km: float) -> tuple[Tensor, Tensor]:
    """Find the `(B, 3)` cells' positions with the highest expected scores, and those."""
    rows, cells = weights.shape
    found, scores = [], []
    if positions.ndim == 2:
        expected = torch.cat(
            [weights @ _kernel(positions[part], positions, scale_km)[0].T for part in row_chunks(cells, cells)], dim=1
        )
        score, best = expected.max(dim=1)
        return positions[best], score
    number = min(cells, SCORE_CANDIDATES)
    likely = weights.topk(number, dim=1).indices  # (B, M)
    for part in row_chunks(rows, number * cells):
        own = positions[part].gather(1, likely[part, :, None].expand(-1, -1, 3))  # (b, M, 3)
        expected = (_kernel(own, positions[part], scale_km)[0] * weights[part, None]).sum(dim=2)
        score, best = expected.max(dim=1)
        found.append(_pick(own, best))
        scores.append(score)
    return torch.cat(found), torch.cat(scores)


def _local_mean(place: Tensor, weights: Tensor, positions: Tensor, scale_km: float) -> Tensor:
    """Step off a candidate, on which mean shift would stay: the slope has no direction there."""
    kernel, _ = _kernel(place[:, None], positions, scale_km)
    return mean_position(weights * kernel[:, 0], positions)


def _kernel(places: Tensor, positions: Tensor, scale_km: float) -> tuple[Tensor, Tensor]:
    """Compute the `(..., M, K)` scores from 0 to 1, and the great-circle distances in km, of `(..., M, 3)` places."""
    chord = torch.cdist(places, positions, compute_mode="donot_use_mm_for_euclid_dist")  # right also for near ones
    angle_km = 2 * EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1))
    return torch.exp(-angle_km / scale_km), angle_km


def unit_vectors(lat_lon: Tensor) -> Tensor:
    """Turn `(..., 2)` latitude, longitude in degrees into `(..., 3)` unit vectors.

    >>> unit_vectors(torch.tensor([0.0, 90.0])).round()
    tensor([-0., 1., 0.])
    """
    latitude, longitude = torch.deg2rad(lat_lon).unbind(dim=-1)
    flat = torch.cos(latitude)
    return torch.stack([flat * torch.cos(longitude), flat * torch.sin(longitude), torch.sin(latitude)], dim=-1)


def to_degrees(vectors: Tensor) -> Tensor:
    """Turn `(..., 3)` vectors of any length into `(..., 2)` latitude, longitude in degrees.

    >>> to_degrees(torch.tensor([0.0, 0.0, -3.0]))
    tensor([-90.,   0.])
    """
    x, y, z = vectors.unbind(dim=-1)
    return torch.rad2deg(torch.stack([torch.atan2(z, torch.hypot(x, y)), torch.atan2(y, x)], dim=-1))


def _pick(positions: Tensor, choice: Tensor) -> Tensor:
    """Take each row's choice among `(K, D)` or `(B, K, D)` positions: `(B, D)`."""
    if positions.ndim == 2:
        return positions[choice]
    return positions[torch.arange(len(choice), device=choice.device), choice]


def _distance_m(place: Tensor, positions: Tensor) -> Tensor:
    """Compute the `(B, K)` distances of `(B, 2)` places to the positions in the plane."""
    distance: Tensor = torch.linalg.vector_norm(positions - place[:, None], dim=2)
    return distance
