"""Test the augmentation of batches."""

from __future__ import annotations

import pytest
import torch

from fergen_bench.training.augment import (
    SampleDraws,
    add_noise,
    crop,
    erase,
    random_boxes,
    random_crop,
    random_crop_boxes,
    random_erase,
    random_flip,
    random_flip_or_noise,
    random_noise,
    random_turn_and_shift,
)


def faces(count: int = 8, size: int = 32) -> torch.Tensor:
    """Return random uint8 images, (count, 3, size, size)."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def augmented(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return images with noise, mirrored and erased."""
    draws = SampleDraws(index, "run", 0)
    return random_erase(random_flip(random_noise(images, draws), draws), draws, 0.5, torch.zeros(3, 1, 1))


def test_the_augmentation_of_an_image_does_not_depend_on_its_batch() -> None:
    images, index = faces(), torch.arange(8) + 100
    whole = augmented(images, index)
    order = torch.tensor([5, 0, 7])
    assert torch.equal(whole[order], augmented(images[order], index[order]))


def test_equal_images_in_a_batch_are_augmented_differently() -> None:
    images = faces(1).expand(64, -1, -1, -1)
    different = torch.unique(augmented(images, torch.arange(64)).flatten(1), dim=0)
    assert len(different) > 45  # a quarter is neither noisy nor erased


def test_noise_has_the_requested_variance_and_share() -> None:
    images = torch.full((400, 3, 16, 16), 128, dtype=torch.uint8)
    noisy = random_noise(images, SampleDraws(torch.arange(400), "n"), probability=0.25, variance=30.0)
    touched = (noisy != images).flatten(1).any(1)
    assert touched.float().mean().item() == pytest.approx(0.25, abs=0.07)
    values = noisy[touched].double() - 128
    assert values.mean().item() == pytest.approx(-0.5, abs=0.1)  # truncated, not rounded
    assert values.var().item() == pytest.approx(30.0 + 1 / 12, rel=0.05)


def test_noise_is_clipped() -> None:
    bright = torch.full((1, 3, 4, 4), 250, dtype=torch.uint8)
    assert (add_noise(bright, torch.full((1, 3, 4, 4), 99.0)) == 255).all()
    assert (add_noise(bright, torch.full((1, 3, 4, 4), -999.0)) == 0).all()


def test_boxes_lie_inside_and_have_the_requested_area_and_aspect() -> None:
    shape = torch.Size((5000, 3, 64, 48))
    boxes = random_boxes(shape, SampleDraws(torch.arange(5000), "b"), probability=0.5)
    top, left, height, width = boxes.T
    erased = height > 0
    assert erased.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert ((top + height <= 64) & (left + width <= 48))[erased].all()
    area = (height * width)[erased] / (64 * 48)
    assert area.min() > 0.015
    assert area.max() < 0.27
    assert area.mean().item() == pytest.approx(0.135, abs=0.02)
    aspect = (height / width)[erased]
    assert aspect.min() > 0.25
    assert aspect.max() < 4.0


def test_random_erase_converts_and_fills_a_share_of_the_images() -> None:
    images, value = faces(400, 16), torch.tensor([2.0, 3.0, 4.0])[:, None, None]
    erased = random_erase(images, SampleDraws(torch.arange(400), "e"), 0.25, value)
    assert erased.dtype == torch.float32
    filled = (erased == value).all(1)
    assert filled.flatten(1).any(1).float().mean().item() == pytest.approx(0.25, abs=0.07)
    plain = (images.float() / 255).permute(0, 2, 3, 1)
    assert torch.equal(erased.permute(0, 2, 3, 1)[~filled], plain[~filled])
    unchanged = random_erase(images, SampleDraws(torch.arange(400), "e"), 0.0, value)
    assert torch.equal(unchanged, images.float() / 255)


def test_erase_fills_each_channel_with_its_value() -> None:
    images = torch.ones(2, 3, 8, 8)
    boxes = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]])
    out = erase(images, boxes, torch.tensor([0.1, 0.2, 0.3])[:, None, None])
    assert torch.equal(out[1], images[1])
    assert out[0, :, 1:4, 2:6].flatten(1).mean(1).tolist() == pytest.approx([0.1, 0.2, 0.3])
    out[0, :, 1:4, 2:6] = 1.0
    assert torch.equal(out, images)


def test_flip_mirrors_the_width() -> None:
    images = faces()
    flipped = random_flip(images, SampleDraws(torch.arange(8), "f"), probability=1.0)
    assert torch.equal(flipped, images.flip(3))


def test_a_crop_is_the_enlarged_box() -> None:
    images = faces(2, 32)
    whole = torch.tensor([[0, 0, 32, 32]] * 2)
    torch.testing.assert_close(crop(images, whole), images.float() / 255, atol=1e-5, rtol=0)
    smooth = torch.nn.functional.interpolate(faces(1, 4).float() / 255, (32, 32), mode="bicubic").clamp(0, 1)
    box = torch.tensor([[4, 8, 16, 16]])
    expected = torch.nn.functional.interpolate(smooth[:, :, 4:20, 8:24], (32, 32), mode="bicubic").clamp(0, 1)
    inside = (..., slice(4, -4), slice(4, -4))  # the edge of a crop depends on the pixels beyond it
    torch.testing.assert_close(crop(smooth, box)[inside], expected[inside], atol=1e-5, rtol=0)


def test_random_crops_have_the_requested_area_and_do_not_depend_on_the_batch() -> None:
    images, index = faces(64, 32), torch.arange(64) + 7
    boxes = random_crop_boxes(images.shape, SampleDraws(index, "c"), (0.5, 0.9))
    shares = boxes[:, 2] * boxes[:, 3] / 32**2
    assert shares.min() > 0.45
    assert shares.max() < 0.95
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 32
    assert (boxes[:, 1] + boxes[:, 3]).max() <= 32
    order = torch.tensor([5, 0, 63])
    whole = random_crop(images, SampleDraws(index, "c"))
    torch.testing.assert_close(whole[order], random_crop(images[order], SampleDraws(index[order], "c")))


def test_an_image_is_mirrored_or_noisy_but_never_both() -> None:
    images = faces(600, 8)
    changed = random_flip_or_noise(images, SampleDraws(torch.arange(600), "f"), probability=0.5)
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    noisy = ((changed.float() - images.float()).abs() < 40).flatten(1).all(1) & (changed != images).flatten(1).any(1)
    same = (changed == images).flatten(1).all(1)
    assert (mirrored | noisy | same).all()
    for share, expected in ((mirrored, 0.25), (noisy, 0.25), (same, 0.5)):
        assert share.float().mean().item() == pytest.approx(expected, abs=0.07)


def test_a_rotation_of_0_degrees_shifts_by_whole_pixels_and_fills_with_black() -> None:
    images = faces(200, 14).clamp(min=1)
    moved = random_turn_and_shift(images, SampleDraws(torch.arange(200), "t"), 1.0, degrees=0.0, shift=1 / 7)
    offsets = set()
    for image, result in zip(images, moved, strict=True):
        matches = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
                if torch.equal(padded[:, 2 + down : 16 + down, 2 + right : 16 + right], result):
                    matches.append((down, right))
        assert len(matches) == 1
        offsets.add(matches[0])
    assert len(offsets) > 20  # of 25


def test_rotations_are_about_the_centre_and_within_the_requested_range() -> None:
    side = 65
    images = torch.zeros(300, 1, side, side, dtype=torch.uint8)
    images[:, :, 32, 32], images[:, :, 30:35, 52:57] = 255, 200  # the centre, and a block 22 pixels to the right of it
    draws = SampleDraws(torch.arange(300), "t")
    turned = random_turn_and_shift(images, draws, 1.0, degrees=20.0, shift=0.0)
    assert (turned[:, 0, 32, 32] == 255).all()
    rows, columns = torch.meshgrid(torch.arange(side) - 32.0, torch.arange(side) - 32.0, indexing="ij")
    block = (turned[:, 0] == 200).float()
    angles = torch.rad2deg(torch.atan2((block * rows).sum((1, 2)), (block * columns).sum((1, 2))))
    assert angles.abs().max() < 21
    assert angles.min() < -17
    assert angles.max() > 17
    untouched = random_turn_and_shift(images, draws, 0.0)
    assert torch.equal(untouched, images)


def test_a_second_view_gets_another_box() -> None:
    draws = SampleDraws(torch.arange(50), "b")
    shape = torch.Size((50, 3, 32, 32))
    assert not torch.equal(random_boxes(shape, draws, 1.0), random_boxes(shape, draws, 1.0, name="second"))


def test_shared_draws_equal_separate_draws() -> None:
    index, sizes = torch.randperm(500), [32, 1, 67, 400]
    shape = torch.Size((1, 3, 48, 64))
    parts = SampleDraws(index, "t", 1).split(sizes)
    for some, part in zip(index.split(sizes), parts, strict=True):
        alone = SampleDraws(some, "t", 1)
        assert torch.equal(part.uniform("x"), alone.uniform("x"))
        assert torch.equal(random_boxes(shape, part, 0.7), random_boxes(shape, alone, 0.7))
        assert torch.equal(random_boxes(shape, part, name="b"), random_boxes(shape, alone, name="b"))
        assert torch.equal(random_crop_boxes(shape, part), random_crop_boxes(shape, alone))
