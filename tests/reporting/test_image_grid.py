"""Many small images as one picture."""

import numpy as np
import pytest
from PIL import Image

from diffusion_ode.reporting.image_grid import image_grid, write_picture


def test_levels_become_brightness_and_gaps_are_white():
    images = np.array([0, 8, 16], np.uint8).reshape(3, 1, 1, 1)
    grid = image_grid(images, levels=17, columns=2)
    side, gap = 64, 32
    assert grid.shape == (gap + 2 * (side + gap), gap + 2 * (side + gap), 1)
    assert (grid[:gap] == 255).all()
    assert (grid[:, -gap:] == 255).all()
    corners = [grid[gap, gap, 0], grid[gap, 2 * gap + side, 0], grid[2 * gap + side, gap, 0]]
    assert corners == [0, 128, 255]
    assert (grid[gap + side : 2 * gap + side] == 255).all()


def test_pixels_stay_where_they_are():
    images = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    grid = image_grid(images, levels=256, columns=2)
    factor = 21
    first = grid[10 : 10 + 2 * factor : factor, 10 : 10 + 3 * factor : factor]
    np.testing.assert_array_equal(first, images[0])
    left = 10 + 3 * factor + 10
    second = grid[10 : 10 + 2 * factor : factor, left : left + 3 * factor : factor]
    np.testing.assert_array_equal(second, images[1])


def test_large_images_are_not_enlarged():
    assert image_grid(np.zeros((4, 64, 64, 3), np.uint8), levels=256).shape == (131, 131, 3)


@pytest.mark.parametrize(("channels", "shown"), [(2, 1), (4, 3), (7, 3)])
def test_of_other_channels_the_first_are_shown(channels, shown):
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8, channels), dtype=np.uint8)
    expected = image_grid(images[..., :shown], levels=17)
    np.testing.assert_array_equal(image_grid(images, levels=17), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_written(tmp_path, channels):
    images = np.full((5, 8, 8, channels), 16, np.uint8)
    write_picture(tmp_path / "samples" / "grid.png", image_grid(images, levels=17))
    with Image.open(tmp_path / "samples" / "grid.png") as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")
        assert picture.size == (4 + 5 * 68, 4 + 68)
        assert np.asarray(picture).min() == 255


def test_what_is_no_batch_of_images_is_refused():
    for shape in ((3, 8, 8), (0, 8, 8, 1), (1, 8, 8, 0)):
        with pytest.raises(ValueError, match="shape"):
            image_grid(np.zeros(shape, np.uint8), levels=17)
    with pytest.raises(ValueError, match="17"):
        image_grid(np.full((1, 8, 8, 1), 17, np.uint8), levels=17)


@pytest.mark.parametrize(
    ("n", "rows", "columns"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 3), (5, 1, 5), (7, 2, 3), (10, 2, 5), (13, 3, 4), (64, 8, 8)],
)
def test_rows_are_whole(n, rows, columns):
    grid = image_grid(np.zeros((n, 8, 8, 1), np.uint8), levels=17)
    assert grid.shape == (4 + rows * 68, 4 + columns * 68, 1)
    cells = grid[4:, 4:, 0].reshape(rows, 68, columns, 68)
    assert (cells[:, :64, :, :64] == 0).all()
    assert (cells[:, 64:] == 255).all() and (cells[..., 64:] == 255).all()
