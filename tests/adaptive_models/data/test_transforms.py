from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptive_models.data.transforms import displayable, prepare_frame


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_channels_are_blue_green_red_less_their_means() -> None:
    image = prepare_frame(np.full((240, 320, 3), (200, 150, 50), np.uint8))
    assert image.shape == (3, 224, 224)
    assert image.dtype == torch.float32
    assert torch.equal(image.amax((1, 2)), torch.tensor([50.0 - 104, 150 - 117, 200 - 128]))
    assert torch.equal(image.amin((1, 2)), image.amax((1, 2)))


def test_a_frame_of_the_right_size_is_only_cropped() -> None:
    rgb = noise(256, 456)
    assert np.array_equal(displayable(prepare_frame(rgb)), rgb[16:240, 116:340])


@pytest.mark.parametrize("shape", [(1080, 1920), (240, 320), (640, 360), (300, 300), (100, 90)])
def test_resize_is_that_of_an_image_library(shape: tuple[int, int]) -> None:
    image_library = pytest.importorskip("PIL.Image")
    rgb = noise(*shape)
    height, width = (int(256 * side / min(shape)) for side in shape)
    resized = image_library.fromarray(rgb).resize((width, height), image_library.Resampling.BILINEAR)
    top, left = round((height - 224) / 2), round((width - 224) / 2)
    expected = np.asarray(resized)[top : top + 224, left : left + 224].astype(int)
    difference = np.abs(displayable(prepare_frame(rgb)).astype(int) - expected)
    assert difference.max() <= 1


def test_other_sizes() -> None:
    assert prepare_frame(noise(50, 70), size=32, short_side=40).shape == (3, 32, 32)


def test_displayable_clips_what_no_picture_can_hold() -> None:
    shown = displayable(torch.full((3, 2, 2), 1000.0))
    assert shown.dtype == np.uint8
    assert (shown == 255).all()
    assert (displayable(torch.full((3, 2, 2), -1000.0)) == 0).all()


def test_what_is_not_a_frame_is_named() -> None:
    with pytest.raises(ValueError, match="float32"):
        prepare_frame(np.zeros((240, 320, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(240, 320\)"):
        prepare_frame(np.zeros((240, 320), np.uint8))
    with pytest.raises(ValueError, match="size is 300"):
        prepare_frame(noise(240, 320), size=300)
