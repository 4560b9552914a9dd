import numpy as np
from tiny_world import HIGH, LOW, SIZE_PX, make_data, make_world


def test_the_tiny_worlds_pictures_tell_the_place(tmp_path):
    world = make_world(tmp_path)
    red_green = np.stack(
        [world.shards[record_id, 1][..., :2].mean(axis=(0, 1)) for record_id in world.train.record_ids]
    )
    guess = LOW + (red_green - 9.5) / 230 * (HIGH - LOW)
    np.testing.assert_allclose(guess, world.train.lat_lon, atol=0.03)
    assert set(world.train.label) == {0, 1, 2, 3}
    batch = next(iter(make_data(world).val_dataloader()))
    assert batch.views.shape == (7, 2, 3, SIZE_PX, SIZE_PX)
    assert batch.present.all()
