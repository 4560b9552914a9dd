import numpy as np
import pytest
import torch

from waymark.metrics import MeanGeoscore, MeanHaversine, geoscore, haversine_km

NAN = float("nan")
METRICS = [(MeanHaversine, haversine_km), (MeanGeoscore, lambda *points: geoscore(haversine_km(*points)))]


def answers(number=101, dtype=torch.float64):
    generator = np.random.default_rng(11)
    truth = generator.uniform((42, 13), (47, 20), (number, 2))
    # The last records are by far the worst, so that a mean of batch means is far off.
    error = generator.normal(0, 0.1, (number, 2)) + np.where(np.arange(number) < number - 3, 0, 20)[:, None]
    return torch.tensor(truth + error, dtype=dtype), torch.tensor(truth, dtype=dtype)


def feed(metric, predicted, target, sizes):
    for batch in zip(predicted.split(sizes), target.split(sizes), strict=True):
        metric.update(*batch)
    return metric


@pytest.mark.parametrize(("metric", "function"), METRICS)
@pytest.mark.parametrize("sizes", [[101], [50, 50, 1], [98, 3], [1] * 101])
def test_any_batches_give_the_mean_over_all_records(metric, function, sizes):
    predicted, target = answers()
    found = feed(metric(), predicted, target, sizes).compute()
    assert found.item() == pytest.approx(function(predicted, target).mean().item(), rel=1e-12)


def test_a_mean_of_batch_means_would_be_noticed():
    predicted, target = answers()
    whole = haversine_km(predicted, target).mean()
    means = [haversine_km(*batch).mean() for batch in zip(predicted.split(98), target.split(98), strict=True)]
    assert abs(torch.stack(means).mean() - whole) > 100


@pytest.mark.parametrize(("metric", "function"), METRICS)
def test_records_without_truth_do_not_count(metric, function):
    predicted, target = answers()
    holes = target.clone()
    holes[::3] = NAN
    holes[1, 1] = NAN
    known = ~holes.isnan().any(dim=1)
    found = feed(metric(), predicted, holes, [60, 41]).compute()
    assert found.item() == pytest.approx(function(predicted[known], target[known]).mean().item(), rel=1e-12)


def test_nothing_counted_gives_nan_and_a_reset_forgets():
    metric = MeanHaversine()
    metric.update(torch.tensor([[45.0, 16.0]]), torch.tensor([[NAN, NAN]]))
    assert metric.count == 0
    assert (metric.total / metric.count).isnan()
    feed(metric, *answers(), [101])
    metric.reset()
    metric.update(torch.tensor([[45.0, 16.0]]), torch.tensor([[45.0, 16.0]]))
    assert metric.compute() == 0


@pytest.mark.parametrize(("metric", "function"), METRICS)
def test_two_processes_sum_to_one(metric, function):
    """What torchmetrics does between processes: gather each state, and reduce it as the metric says."""
    predicted, target = answers()
    one = feed(metric(), predicted[:98], target[:98], [40, 58])
    other = feed(metric(), predicted[98:], target[98:], [3])
    states = {name: [getattr(process, name) for process in (one, other)] for name in ("total", "count")}
    gathered = iter([states["total"], states["count"]])
    one.dist_sync_fn = lambda state, group: next(gathered)
    one.distributed_available_fn = lambda: True
    assert one.compute().item() == pytest.approx(function(predicted, target).mean().item(), rel=1e-12)


def test_float32_records_are_summed_in_float64():
    predicted, target = answers(dtype=torch.float32)
    metric = feed(MeanHaversine(), predicted, target, [101])
    assert metric.total.dtype == torch.float64
    assert metric.compute().item() == pytest.approx(haversine_km(predicted, target).double().mean().item(), rel=1e-12)
