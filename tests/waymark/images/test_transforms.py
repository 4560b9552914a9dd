from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from waymark.errors import ModelError
from waymark.images.transforms import Augmentation, normalise, shrink

PIXEL_OPTIONS = [
    {"flip": True},
    {"rotation_deg": 20.0},
    {"translate": 0.3},
    {"crop": 0.5},
    {"crop": 0.5, "crop_px": 32},
    {"auto": "imagenet"},
    {"auto": "trivial"},
    {"auto": "rand"},
    {"light": 0.4},
    {"saturation": 0.9},
    {"hue": 0.3},
    {"grey": 0.5},
    {"noise": 6.0},
]
ALL = {
    "flip": True, "rotation_deg": 20.0, "translate": 0.1, "crop": 0.7, "auto": "rand", "light": 0.3,
    "saturation": 0.3, "hue": 0.1, "grey": 0.2,
}  # fmt: skip


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


def test_every_option_is_among_the_tested():
    assert {name for options in PIXEL_OPTIONS for name in options} | {"drop_view"} == {
        field.name for field in fields(Augmentation)
    }


@pytest.mark.parametrize("options", PIXEL_OPTIONS, ids=str)
def test_each_option_changes_pixels_of_the_same_shape(views, options):
    results = [changed(Augmentation(**options), views, seed) for seed in range(12)]
    assert all(result.shape == views.shape and result.dtype == torch.uint8 for result in results)
    assert sum(not torch.equal(result, views) for result in results) >= 3
    assert torch.equal(results[0], changed(Augmentation(**options), views, 0))
    assert Augmentation(**options).pixels(views[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("options", [*PIXEL_OPTIONS, ALL | {"noise": 6.0}], ids=str)
def test_views_stay_in_their_slots(views, options):
    """What stands in a slot comes of the view that stood there, and of no other."""
    for seed in range(8):
        result = changed(Augmentation(**options), views, seed)
        for slot, view in enumerate(views):
            assert torch.equal(result[slot], changed(Augmentation(**options), view.expand_as(views), seed)[slot])


def test_all_views_of_a_record_change_alike(views):
    same = views[:1].expand(4, -1, -1, -1)
    for seed in range(12):
        result = changed(Augmentation(**ALL), same, seed)
        assert (result == result[:1]).all()


def test_noise_is_each_pixels_own_and_as_strong_as_said(views):
    flat = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    found = changed(Augmentation(noise=9.0), flat).double() - 128
    assert found.std().item() == pytest.approx(9, abs=0.15)
    assert abs(found.mean().item()) < 0.15
    correlation = np.corrcoef(found.reshape(12, -1).numpy())  # between all views and colours
    assert np.abs(correlation - np.eye(12)).max() < 0.08
    assert (changed(Augmentation(noise=60.0), torch.full_like(flat, 250)) >= 100).float().mean() > 0.97  # no overflow


def test_noise_comes_last(views):
    """A picture made grey before has colours again, which it would not the other way round."""
    result = changed(Augmentation(grey=1.0, noise=5.0), views)
    assert (result[:, 0] != result[:, 1]).float().mean() > 0.7


def shown(size_px=64, background=60, left=28, top=12, side=8):
    """A bright square on a dark ground."""
    picture = torch.full((1, 3, size_px, size_px), background, dtype=torch.uint8)
    picture[..., top : top + side, left : left + side] = 250
    return picture


def centre_of(picture):
    bright = (picture[0].float().mean(dim=0) - 60).clamp(min=0)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    return np.array([(bright * axis).sum().item() / bright.sum().item() for axis in (x, y)])


def test_a_rotation_turns_about_the_middle_within_its_limit_both_ways():
    angles = []
    for seed in range(60):
        x, y = centre_of(changed(Augmentation(rotation_deg=30.0), shown(), seed)) - 32
        assert np.hypot(x, y) == pytest.approx(16, abs=0.7)
        angles.append(np.degrees(np.arctan2(x, -y)))
    assert -30.5 < min(angles) < -22
    assert 22 < max(angles) < 30.5


def test_a_translation_moves_within_its_limit_along_both_axes():
    moves = np.array([centre_of(changed(Augmentation(translate=0.15), shown(), seed)) - [32, 16] for seed in range(60)])
    moves = moves[np.abs(moves).max(axis=1) < 9]  # further, the mirrored edge shows the square twice
    assert len(moves) > 30
    assert (np.abs(moves - moves.round()) < 0.01).all()  # whole pixels, so that nothing blurs
    assert moves.min(axis=0).max() < -4
    assert moves.max(axis=0).min() > 4
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.4


@pytest.mark.parametrize(
    "options", [{"rotation_deg": 180.0}, {"translate": 0.5}, {"rotation_deg": 45.0, "translate": 0.5}]
)
def test_no_black_edges_come_in(options):
    flat = torch.full((2, 3, 32, 32), 200, dtype=torch.uint8)
    for seed in range(40):
        assert (changed(Augmentation(**options), flat, seed) == 200).all()


def test_saturation_and_hue_leave_grey_as_it_is_and_light_does_not(views):
    grey = views[:, :1].expand(-1, 3, -1, -1)
    for seed in range(10):
        for options in ({"saturation": 0.9}, {"hue": 0.5}):
            assert (changed(Augmentation(**options), grey, seed).int() - grey.int()).abs().max() <= 1
    assert any((changed(Augmentation(light=0.5), grey, seed).int() - grey.int()).abs().max() > 20 for seed in range(10))


def test_saturation_keeps_to_its_limit(views):
    """The distance of red from green grows or shrinks with it."""
    before = (views[:, 0].float() - views[:, 1].float()).abs().mean()
    shares = []
    for seed in range(60):
        result = changed(Augmentation(saturation=0.3), views // 2 + 60, seed).float()
        shares.append(((result[:, 0] - result[:, 1]).abs().mean() / (before / 2)).item())
    assert 0.65 < min(shares) < 0.8
    assert 1.2 < max(shares) < 1.35


def test_a_turn_of_the_hue_by_a_third_makes_red_green_or_blue():
    red = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 200
    seen = {tuple(changed(Augmentation(hue=0.5), red, seed)[0, :, 0, 0].argsort().tolist()) for seed in range(60)}
    assert {order[-1] for order in seen} == {0, 1, 2}
    little = [changed(Augmentation(hue=0.05), red, seed)[0, :, 0, 0] for seed in range(60)]
    assert all(colour.argmax() == 0 and colour.max() >= 198 for colour in little)
    assert max(int(colour[1:].max()) for colour in little) == pytest.approx(0.05 * 6 * 200, abs=8)


def test_grey_takes_its_share_of_the_records_whole(views):
    results = [changed(Augmentation(grey=0.3), views, seed) for seed in range(200)]
    colourless = [(result == result[:, :1]).all().item() for result in results]
    assert all(torch.equal(result, views) for result, its in zip(results, colourless, strict=True) if not its)
    assert 40 <= sum(colourless) <= 80
    luma = (views.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)  # ITU-R BT.601
    assert (results[colourless.index(True)][:, 0].float() - luma).abs().max() <= 1.1


def test_policies_differ_and_none_is_a_mirror(views):
    kinds = {}
    for auto in ("imagenet", "trivial", "rand"):
        results = [changed(Augmentation(auto=auto), views, seed) for seed in range(60)]
        assert not any(torch.equal(result, views.flip(-1)) for result in results)
        kinds[auto] = torch.stack(results)
    assert not torch.equal(kinds["imagenet"], kinds["trivial"])
    assert not torch.equal(kinds["trivial"], kinds["rand"])


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


def test_crops_are_scaled_to_a_side_of_their_own(views):
    small = changed(Augmentation(crop=0.5, crop_px=20, flip=True, light=0.2), views)
    assert small.shape == (4, 3, 20, 20)
    whole = changed(Augmentation(crop_px=16), views).float()  # no crop, but the side
    assert torch.allclose(whole, torch.nn.functional.avg_pool2d(views.float(), 2), atol=6)


def test_hiding_never_hides_all_and_never_shows_what_is_missing():
    torch.manual_seed(0)
    present = torch.tensor([True, False, True, True])
    kept = torch.stack([Augmentation(drop_view=0.9).hide(present) for _ in range(500)])
    assert kept.any(dim=1).all()
    assert kept.sum(dim=1).float().mean() < 1.4  # and the one that stays is not all of them
    assert kept[:, [0, 2, 3]].any(dim=0).all()
    assert not kept[:, 1].any()
    only = torch.tensor([False, True])
    assert all(torch.equal(Augmentation(drop_view=0.999).hide(only), only) for _ in range(20))


def test_hiding_takes_its_share():
    torch.manual_seed(0)
    kept = torch.stack([Augmentation(drop_view=0.25).hide(torch.ones(8, dtype=torch.bool)) for _ in range(500)])
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("size_px", [112, 56, 75, 1])
def test_pictures_are_shrunk_by_the_filter_that_made_the_shards(size_px):
    """Against Pillow's own, of the picture as PNG and back."""
    pixels = np.random.default_rng(2).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.LANCZOS)
    found = shrink(pixels, size_px)
    assert (found.shape, found.dtype) == ((size_px, size_px, 3), np.uint8)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_shrinking_keeps_what_is_where():
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([x * 3, y * 3, x + y], axis=2).astype(np.uint8)
    blocks = pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrink(pixels, 16) - blocks)[1:-1, 1:-1].max() <= 1


def test_the_size_of_the_shards_gives_their_very_pixels():
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert shrink(pixels, 32) is pixels


def test_pixels_are_not_made_up():
    with pytest.raises(
        ModelError, match=r"size_px of the model is 112, and the shards have 64 px; set resize.size_px to 112"
    ):
        shrink(np.zeros((64, 64, 3), dtype=np.uint8), 112)


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
