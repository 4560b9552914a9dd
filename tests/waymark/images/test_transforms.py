import numpy as np
import pytest
import torch

from waymark.images.transforms import Augmentation, normalise


@pytest.fixture
def views():
    """Four views of a gradient that is neither symmetric nor grey."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    one = torch.stack([40 + 4 * x, 60 + 3 * y, 30 + 2 * x + 2 * y])
    return torch.stack([one, one.flip(1), one // 2, 255 - one]).to(torch.uint8)


def changed(augmentation, views, seed=1):
    torch.manual_seed(seed)
    return augmentation.pixels(views.clone())


def test_nothing_on_changes_nothing(views):
    assert all(torch.equal(changed(Augmentation(), views, seed), views) for seed in range(10))
    assert torch.equal(Augmentation().hide(torch.tensor([True, False, True])), torch.tensor([True, False, True]))


@pytest.mark.parametrize("options", [{"crop": 0.5}, {"light": 0.4}, {"flip": True}])
def test_each_option_changes_pixels_of_the_same_shape(views, options):
    results = [changed(Augmentation(**options), views, seed) for seed in range(12)]
    assert all(result.shape == views.shape and result.dtype == torch.uint8 for result in results)
    assert sum(not torch.equal(result, views) for result in results) >= 3
    assert torch.equal(results[0], changed(Augmentation(**options), views, 0))


def test_all_views_of_a_record_change_alike(views):
    same = views[:1].expand(4, -1, -1, -1)
    for seed in range(5):
        result = changed(Augmentation(crop=0.5, light=0.4, flip=True), same, seed)
        assert (result == result[:1]).all()


def test_a_flip_mirrors_half_of_the_pictures(views):
    results = [changed(Augmentation(flip=True), views, seed) for seed in range(200)]
    mirrored = [torch.equal(result, views.flip(-1)) for result in results]
    assert all(torch.equal(result, views) for result, its in zip(results, mirrored, strict=True) if not its)
    assert 70 <= sum(mirrored) <= 130


def test_light_changes_brightness_within_its_limit(views):
    flat = torch.full_like(views, 100)
    levels = [changed(Augmentation(light=0.2), flat, seed).float().mean().item() for seed in range(100)]
    assert min(levels) >= 79
    assert max(levels) <= 121
    assert max(levels) - min(levels) > 20


def test_a_crop_keeps_at_least_its_share(views):
    """A steep enough gradient tells how much of the width and height is left."""
    for seed in range(50):
        result = changed(Augmentation(crop=0.6), views, seed).float()
        width = (result[0, 0].max() - result[0, 0].min()) / (views[0, 0].max() - views[0, 0].min())
        height = (result[0, 1].max() - result[0, 1].min()) / (views[0, 1].max() - views[0, 1].min())
        assert 0.5 < width * height <= 1.001


def test_hiding_never_hides_all_and_never_shows_what_is_missing():
    torch.manual_seed(0)
    present = torch.tensor([True, False, True, True])
    kept = torch.stack([Augmentation(drop_view=0.9).hide(present) for _ in range(500)])
    assert kept.any(dim=1).all()
    assert kept.sum(dim=1).float().mean() < 1.4  # and the one that stays is not all of them
    assert kept[:, [0, 2, 3]].any(dim=0).all()
    assert not kept[:, 1].any()
    only = torch.tensor([False, True])
    assert all(torch.equal(Augmentation(drop_view=1.0).hide(only), only) for _ in range(20))


def test_hiding_takes_its_share():
    torch.manual_seed(0)
    kept = torch.stack([Augmentation(drop_view=0.25).hide(torch.ones(8, dtype=torch.bool)) for _ in range(500)])
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_pixels_have_mean_zero_and_deviation_one_by_their_own_statistics():
    pixels = np.random.default_rng(1).integers(0, 256, (6, 3, 20, 20), dtype=np.uint8)
    pixels[:, 1] //= 9
    mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    result = normalise(torch.from_numpy(pixels), torch.from_numpy(mean), torch.from_numpy(std))
    np.testing.assert_allclose(result, (pixels - mean[:, None, None]) / std[:, None, None], rtol=1e-12)
    np.testing.assert_allclose(result.mean(dim=(0, 2, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(result.std(dim=(0, 2, 3), correction=0), 1, rtol=1e-9)


def test_a_flat_channel_is_zero_not_nan():
    pixels = torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)
    result = normalise(pixels, torch.tensor([200.0, 100.0, 200.0]), torch.tensor([0.0, 0.0, 2.0]))
    assert result.dtype == torch.float32
    assert (result == 0).all()
