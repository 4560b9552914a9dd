from collections import Counter

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from waymark.errors import ModelError
from waymark.images.batches import Draw, EvenBatches, Examples, RecordDataset, RecordLoaders
from waymark.images.datamodule import RecordDataModule
from waymark.images.decode import square_pixels
from waymark.images.shards import INDEX_SCHEMA, Shards, shard_name, write_shard
from waymark.images.transforms import Augmentation, shrink

SIZE_PX = 16
ROWS = 23
SLOTS = [0.0, 90.0, None]
HEADINGS = [90.0, None]  # view 0 belongs into slot 1, view 1 into the first free one
STRONG = Augmentation(crop=0.4, light=0.5, flip=True, drop_view=0.5)
EACH = [
    {"flip": True}, {"rotation_deg": 20.0}, {"translate": 0.3}, {"crop": 0.4}, {"auto": "imagenet"},
    {"auto": "trivial"}, {"auto": "rand"}, {"light": 0.5}, {"saturation": 0.9}, {"hue": 0.5}, {"grey": 0.9},
    {"noise": 20.0}, {"drop_view": 0.5},
]  # fmt: skip


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (ROWS, 2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, pixels):
    """Two views of each record, but the second of r05 has no pixels."""
    folder = tmp_path_factory.mktemp("shards")
    write_shard(list(pixels.reshape(-1, SIZE_PX, SIZE_PX, 3)), SIZE_PX, folder / shard_name(0))
    rows = [
        {"record_id": f"r{row:02}", "view": view, "shard": 0, "row": 2 * row + view, "status": "ok"}
        for row in range(ROWS)
        for view in range(2)
    ]
    rows[2 * 5 + 1] |= {"shard": None, "row": None, "status": "truncated"}
    index = pa.Table.from_pylist(rows, INDEX_SCHEMA).replace_schema_metadata({"size_px": str(SIZE_PX)})
    pq.write_table(index, folder / "index.parquet")
    return Shards(folder)


@pytest.fixture(scope="module")
def examples():
    lat_lon = np.column_stack([np.arange(ROWS) / 3 + 40, np.arange(ROWS) / 7 + 10])
    lat_lon[3] = np.nan
    label = np.arange(ROWS) % 4
    label[7] = -1
    return Examples(
        [f"r{row:02}" for row in range(ROWS)],
        [HEADINGS] * ROWS,
        lat_lon,
        lat_lon * 1000 + 0.125,
        label.astype(np.int64),
        np.arange(ROWS, dtype=np.int64) % 3 - 1,
    )


def loaders(shards, **options):
    return RecordLoaders(shards, SLOTS, **{"batch_size": 6, "augmentation": STRONG, "seed": 3, **options})


def epoch_of(loader, epoch):
    """One epoch's batches joined, in the order of the latitude (NaN last)."""
    loader.batch_sampler.set_epoch(epoch)
    columns = [torch.cat(column) for column in zip(*loader, strict=True)]
    order = torch.argsort(columns[2][:, 0])
    return [column[order] for column in columns]


def drawn(sampler):
    return [draw.row for batch in sampler for draw in batch]


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 64])
def test_batches_hold_every_row_once_and_none_is_left_alone(batch_size, seed):
    for rows in range(1, 80):
        sampler = EvenBatches(rows, batch_size, seed)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert Counter(draw.row for batch in batches for draw in batch) == Counter(range(rows))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size + (batch_size == 2)
        if rows >= 2 and batch_size >= 2:
            assert min(sizes) >= 2


def test_no_rows_are_no_batches():
    sampler = EvenBatches(0, 8, None)
    assert len(sampler) == 0
    assert list(sampler) == []


def test_no_last_batch_is_dropped(shards, examples):
    """A wart of the original project, whose data loaders dropped what did not fill a batch."""
    for loader in (
        loaders(shards, batch_size=5).training(examples),
        loaders(shards, batch_size=5).evaluation(examples),
    ):
        assert sum(len(batch.label) for batch in loader) == ROWS
        assert len(list(loader)) == len(loader) == 5


def test_order_changes_by_epoch_and_seed_and_repeats():
    orders = {}
    for seed in (1, 2):
        for epoch in range(3):
            sampler = EvenBatches(50, 8, seed)
            sampler.set_epoch(epoch)
            orders[seed, epoch] = tuple(drawn(sampler))
            assert orders[seed, epoch] == tuple(drawn(sampler))
            assert {draw.epoch for batch in sampler for draw in batch} == {epoch}
    assert len(set(orders.values())) == 6
    assert tuple(range(50)) not in orders.values()


def test_outside_training_rows_are_in_order_and_marked():
    sampler = EvenBatches(20, 8, None)
    sampler.set_epoch(4)
    assert drawn(sampler) == list(range(20))
    assert {draw.epoch for batch in sampler for draw in batch} == {None}


class Watcher(L.LightningModule):
    """Notes what comes by in each epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_batches, self.val_batches = {}, {}

    def training_step(self, batch):
        self.train_batches.setdefault(self.current_epoch, []).append(batch)
        return self.weight.sum()

    def validation_step(self, batch):
        self.val_batches.setdefault(self.current_epoch, []).append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def watch(data, folder, epochs, resume=None):
    watcher = Watcher()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    trainer.fit(watcher, datamodule=data, ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return watcher


@pytest.mark.filterwarnings("ignore")
def test_lightning_sets_the_epoch_also_after_a_restart(shards, examples, tmp_path):
    """Else every epoch would see the same order and the same augmentation."""

    def data():
        return RecordDataModule(examples, examples, loaders(shards))

    whole = watch(data(), tmp_path, 3).train_batches
    first, second = (torch.cat([batch.label for batch in whole[epoch]]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    watch(data(), tmp_path, 1)
    resumed = watch(data(), tmp_path, 3, resume=tmp_path / "last.ckpt").train_batches
    assert resumed.keys() == {1, 2}
    for epoch in (1, 2):
        for one, other in zip(whole[epoch], resumed[epoch], strict=True):
            for before, after in zip(one, other, strict=True):
                assert torch.equal(before.nan_to_num(-9), after.nan_to_num(-9))


@pytest.mark.filterwarnings("ignore")
def test_no_augmentation_ever_reaches_validation(shards, examples, pixels, tmp_path):
    """A wart of the original project, which changed its validation pictures; ours are the shard's to the bit."""
    watcher = watch(RecordDataModule(examples, examples, loaders(shards)), tmp_path, 2)
    for epoch in (0, 1):
        views = torch.cat([batch.views for batch in watcher.val_batches[epoch]])
        present = torch.cat([batch.present for batch in watcher.val_batches[epoch]])
        assert_untouched(views, present, pixels)


def test_evaluation_is_in_order_and_untouched(shards, examples, pixels):
    batches = list(loaders(shards).evaluation(examples))
    views, present, lat_lon, xy_m, label, landmark = (torch.cat(column) for column in zip(*batches, strict=True))
    assert_untouched(views, present, pixels)
    np.testing.assert_array_equal(lat_lon, examples.lat_lon)
    np.testing.assert_array_equal(xy_m, examples.xy_m)
    np.testing.assert_array_equal(label, examples.label)
    np.testing.assert_array_equal(landmark, examples.landmark)
    assert (views.dtype, present.dtype, lat_lon.dtype, label.dtype) == (
        torch.uint8,
        torch.bool,
        torch.float64,
        torch.int64,
    )


def assert_untouched(views, present, pixels):
    expected = np.zeros((ROWS, 3, 3, SIZE_PX, SIZE_PX), dtype=np.uint8)
    expected[:, 1] = pixels[:, 0].transpose(0, 3, 1, 2)
    expected[:, 0] = pixels[:, 1].transpose(0, 3, 1, 2)
    expected[5, 0] = 0
    np.testing.assert_array_equal(views, expected)
    there = np.tile([True, True, False], (ROWS, 1))
    there[5, 0] = False
    np.testing.assert_array_equal(present, there)


@pytest.mark.parametrize("options", EACH, ids=str)
def test_each_option_changes_training_and_never_evaluation(shards, examples, pixels, options):
    its = loaders(shards, augmentation=Augmentation(**options))
    views, present = (torch.cat(column) for column in list(zip(*its.evaluation(examples), strict=True))[:2])
    assert_untouched(views, present, pixels)
    changed = epoch_of(its.training(examples), 0)
    plain = epoch_of(loaders(shards, augmentation=Augmentation()).training(examples), 0)
    assert not torch.equal(changed[0], plain[0]) or not torch.equal(changed[1], plain[1])
    assert all(torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in zip(changed[2:], plain[2:], strict=True))
    missing = ~plain[1]
    assert (changed[0][missing] == 0).all()  # where no view is, not even noise


def test_no_augmentation_moves_a_view_into_another_slot(shards, examples):
    """Each record's views come out in slots 1 and 0, as they do untouched, only noisier."""
    noisy = epoch_of(loaders(shards, augmentation=Augmentation(noise=10.0, light=0.1)).training(examples), 3)
    plain = epoch_of(loaders(shards, augmentation=Augmentation()).training(examples), 3)
    for row in range(ROWS):
        for slot in (0, 1):
            if plain[1][row, slot] and plain[1][row, 1 - slot]:
                own, other = (
                    np.corrcoef(noisy[0][row, slot].flatten(), plain[0][row, its].flatten())[0, 1]
                    for its in (slot, 1 - slot)
                )
                assert own > 0.9
                assert abs(other) < 0.3


def test_a_model_may_see_less_than_the_shards_hold(shards, examples, pixels):
    views, present = next(iter(loaders(shards, size_px=8, batch_size=ROWS).evaluation(examples)))[:2]
    assert views.shape == (ROWS, 3, 3, 8, 8)
    for row in range(ROWS):
        expected = np.asarray(Image.fromarray(pixels[row, 0]).resize((8, 8), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(views[row, 1].permute(1, 2, 0), expected)
    assert present[:, 1].all()
    assert not views[5, 0].any()


@pytest.mark.parametrize("size_px", [56, 112, 224])
def test_a_model_sees_what_serving_makes_of_the_file(tmp_path, size_px):
    """First the square of the shards, then its own size: the square of its own size at once differs."""
    coarse = np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg")
    data = (tmp_path / "photo.jpg").read_bytes()
    write_shard([square_pixels(data, 224, max_pixels=10**6)], 224, tmp_path / shard_name(0))
    row = {"record_id": "one", "view": 0, "shard": 0, "row": 0, "status": "ok"}
    index = pa.Table.from_pylist([row], INDEX_SCHEMA).replace_schema_metadata({"size_px": "224"})
    pq.write_table(index, tmp_path / "index.parquet")
    one = Examples(["one"], [[None]], np.zeros((1, 2)), np.zeros((1, 2)), *[np.zeros(1, dtype=np.int64)] * 2)
    for draw in (Draw(0, None), Draw(0, 3)):
        found = RecordDataset(one, Shards(tmp_path), [None], Augmentation(), 1, size_px)[draw].views[0]
        served = shrink(square_pixels(data, 224, max_pixels=10**6), size_px)
        np.testing.assert_array_equal(found.permute(1, 2, 0), served)
    at_once = square_pixels(data, size_px, max_pixels=10**6)
    assert np.array_equal(at_once, served) == (size_px == 224)


def test_crops_of_a_shorter_side_keep_their_slots_in_training_alone(shards, examples):
    its = loaders(shards, augmentation=Augmentation(crop=0.5, crop_px=8))
    for batch in its.training(examples):
        assert batch.views.shape[1:] == (len(SLOTS), 3, 8, 8)
        assert torch.equal(batch.views.flatten(2).amax(dim=2) > 0, batch.present)
    assert next(iter(its.evaluation(examples))).views.shape[-2:] == (SIZE_PX, SIZE_PX)


def test_augmentation_sees_the_size_of_the_model(shards, examples):
    """Noise that came before the shrinking would be smoothed away by it."""
    its = {"size_px": 4, "seed": 1, "batch_size": ROWS}
    noisy = epoch_of(loaders(shards, augmentation=Augmentation(noise=10.0), **its).training(examples), 0)[0]
    plain = epoch_of(loaders(shards, augmentation=Augmentation(), **its).training(examples), 0)[0]
    assert noisy.shape[-2:] == (4, 4)
    found = (noisy.float() - plain.float())[:, 1]
    assert found.std().item() == pytest.approx(10, abs=0.8)


def test_without_a_size_it_is_the_shards_own(shards, examples):
    for size_px in (None, SIZE_PX):
        batch = next(iter(loaders(shards, size_px=size_px).evaluation(examples)))
        assert batch.views.shape[-2:] == (SIZE_PX, SIZE_PX)


def test_a_size_above_the_shards_is_refused_before_anything_is_read(shards, examples):
    its = loaders(shards, size_px=SIZE_PX + 1)
    for load in (its.training, its.evaluation):
        with pytest.raises(ModelError, match=r"shards have 16 px; set resize\.size_px to 17 or more"):
            load(examples)


def test_training_pictures_are_augmented_anew_each_epoch(shards, examples, pixels):
    loader = loaders(shards).training(examples)
    epochs = [epoch_of(loader, epoch) for epoch in (0, 1, 0)]
    assert all(torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in zip(epochs[0], epochs[2], strict=True))
    same = (epochs[0][0] == epochs[1][0]).flatten(1).all(dim=1)
    assert same.sum() <= 2
    untouched = torch.from_numpy(pixels[:, 0].transpose(0, 3, 1, 2))[[*range(3), *range(4, ROWS), 3]]
    assert (epochs[0][0][:, 1] == untouched).flatten(1).all(dim=1).sum() <= 2
    np.testing.assert_array_equal(epochs[0][2][:-1], np.delete(examples.lat_lon, 3, axis=0))  # truths stay


@pytest.mark.parametrize("training", [True, False])
def test_workers_change_nothing(shards, examples, training):
    found = []
    for workers in (0, 2):
        torch.manual_seed(workers)  # the caller's own state has no say either
        its = loaders(shards, workers=workers)
        loader = its.training(examples) if training else its.evaluation(examples)
        found.append([epoch_of(loader, epoch) for epoch in (0, 1)])
        del loader
    for one, two in zip(*found, strict=True):
        for before, after in zip(one, two, strict=True):
            assert torch.equal(before.nan_to_num(-9), after.nan_to_num(-9))


def test_augmentation_depends_on_seed_epoch_and_row_alone(shards, examples):
    def look(seed, epoch, row):
        return RecordDataset(examples, shards, SLOTS, STRONG, seed)[Draw(row, epoch)].views

    torch.manual_seed(99)
    state = torch.get_rng_state()
    expected = look(1, 2, 4)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    torch.manual_seed(100)
    assert torch.equal(look(1, 2, 4), expected)
    assert not torch.equal(look(2, 2, 4), expected)
    assert not torch.equal(look(1, 3, 4), expected)
    flat = Examples(
        ["r04", "r04"], [HEADINGS] * 2, np.zeros((2, 2)), np.zeros((2, 2)), *[np.zeros(2, dtype=np.int64)] * 2
    )
    one, other = (RecordDataset(flat, shards, SLOTS, STRONG, 1)[Draw(row, 0)].views for row in (0, 1))
    assert not torch.equal(one, other)


def test_dropped_views_never_leave_a_record_without_one(shards, examples):
    loader = loaders(shards, augmentation=Augmentation(drop_view=0.9)).training(examples)
    hidden = 0
    for epoch in range(5):
        present = epoch_of(loader, epoch)[1]
        assert present.any(dim=1).all()
        assert not present[:, 2].any()
        hidden += (present.sum(dim=1) == 1).sum().item()
    assert hidden > 4 * ROWS


def test_chances_draw_rows_with_replacement_and_change_the_pictures_each_time():
    chances = np.array([0.7, 0.1, 0.1, 0.1])
    batches = EvenBatches(400, 50, 1, np.repeat(chances, 100) / 100)
    draws = [draw for batch in batches for draw in batch]
    assert len(draws) == 400
    rows = np.array([draw.row for draw in draws])
    assert np.bincount(rows // 100) == pytest.approx(400 * chances, abs=40)
    turns = [draw.turn for draw in draws if draw.row == np.bincount(rows).argmax()]
    assert turns == list(range(len(turns)))
    assert len(turns) > 1
    assert sorted(draw.row for batch in EvenBatches(400, 50, 1) for draw in batch) == list(range(400))
