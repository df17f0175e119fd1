"""Pixels of one face, from every kind of file that people have."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.datasets import pixels
from fergen_bench.datasets.pixels import LARGEST_NATIVE, Unreadable, face_pixels, own_side
from fergen_bench.datasets.reader import Face

SIZE = 24
RAMP = np.add.outer(np.arange(SIZE) * 7, np.arange(SIZE) * 2).astype(np.uint8)
"""Grey levels that differ in every place and direction, so that a turned or shifted face shows."""
COLOURS = np.stack([RAMP, 255 - RAMP, RAMP.T], axis=-1)


def stored(path: Path, image: Image.Image, **options: object) -> Face:
    image.save(path, **options)  # type: ignore[arg-type]
    return Face("a", "train", "fear", "1", file=path)


def raw(path: Path, content: bytes) -> Face:
    path.write_bytes(content)
    return Face("a", "train", "fear", "1", file=path)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "gif", "webp"])
def test_a_face_of_its_own_size_keeps_every_bit(tmp_path: Path, ending: str) -> None:
    grey = Image.fromarray(RAMP)
    face = stored(tmp_path / f"a.{ending}", grey.convert("RGB") if ending == "webp" else grey, lossless=True)
    np.testing.assert_array_equal(face_pixels(face, SIZE), np.repeat(RAMP[..., None], 3, -1))


def test_resizing_is_pils_bicubic_and_squashes(tmp_path: Path) -> None:
    wide = Image.fromarray(COLOURS).resize((40, 24))
    expected = np.asarray(wide.resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(face_pixels(stored(tmp_path / "a.png", wide), 16), expected)


def test_bgr_is_emulated_when_asked(tmp_path: Path) -> None:
    face = stored(tmp_path / "a.png", Image.fromarray(COLOURS))
    np.testing.assert_array_equal(face_pixels(face, SIZE, emulate_bgr=True), COLOURS[..., ::-1])
    np.testing.assert_array_equal(face_pixels(face, SIZE), COLOURS)


def test_a_table_of_grey_levels_becomes_a_square() -> None:
    face = Face("a", "train", "fear", "1", pixels=RAMP.tobytes())
    np.testing.assert_array_equal(face_pixels(face, SIZE), np.repeat(RAMP[..., None], 3, -1))
    assert own_side(face) == SIZE
    for levels in (b"", b"12345"):
        with pytest.raises(Unreadable, match="which make no square"):
            face_pixels(Face("a", "train", "fear", "1", pixels=levels), SIZE)


# -------------------------------------------------------------------------------------------------------------- boxes


def scene(path: Path) -> Path:
    """60 wide, 40 high: rows 10 to 19, columns 30 to 39 are white, one row and column more is grey, the rest black."""
    picture = np.zeros((40, 60), np.uint8)
    picture[9:21, 29:41] = 128
    picture[10:20, 30:40] = 255
    Image.fromarray(picture).save(path)
    return path


def boxed(path: Path, *box: float) -> Face:
    return Face("a", "train", "fear", "1", file=path, box=box)  # type: ignore[arg-type]


def test_a_box_is_left_top_width_height(tmp_path: Path) -> None:
    path = scene(tmp_path / "a.png")
    assert (face_pixels(boxed(path, 30, 10, 10, 10), 10) == 255).all()
    assert (face_pixels(boxed(path, 10, 30, 10, 10), 10) == 0).all()  # top and left exchanged miss the face


@pytest.mark.parametrize("box", [(29.5, 9.5, 10, 10), (30.4, 10.4, 10, 9.6), (29.6, 9.9, 10.2, 10.5)])
def test_edges_of_a_box_are_rounded_to_the_nearest(tmp_path: Path, box: tuple[float, ...]) -> None:
    assert (face_pixels(boxed(scene(tmp_path / "a.png"), *box), 10) == 255).all()


def test_a_margin_is_a_share_of_the_side_on_each_side(tmp_path: Path) -> None:
    face = face_pixels(boxed(scene(tmp_path / "a.png"), 30, 10, 10, 10), 12, margin=0.1)
    assert (face[1:-1, 1:-1] == 255).all()
    assert (face[[0, -1]] == 128).all()
    assert (face[:, [0, -1]] == 128).all()


def test_boxes_are_clipped_to_the_image(tmp_path: Path) -> None:
    face = stored(tmp_path / "a.png", Image.fromarray(RAMP))
    assert face.file is not None
    corner = np.repeat(RAMP[:8, :8, None], 3, -1)
    np.testing.assert_array_equal(face_pixels(boxed(face.file, -4, -4, 12, 12), 8), corner)
    whole = face_pixels(boxed(face.file, 0, 0, SIZE, SIZE), SIZE, margin=1.0)
    np.testing.assert_array_equal(whole, face_pixels(face, SIZE))


@pytest.mark.parametrize(
    "box", [(60, 0, 5, 5), (0, 40, 5, 5), (-9, 0, 9, 9), (5, 5, 0, 5), (5, 5, 5, -2), (float("nan"), 0, 5, 5)]
)
def test_a_box_that_misses_the_image_is_unreadable(tmp_path: Path, box: tuple[float, ...]) -> None:
    with pytest.raises(Unreadable, match=r"the box .* misses the image of 60 × 40 pixels"):
        face_pixels(boxed(scene(tmp_path / "a.png"), *box), 8)


# -------------------------------------------------------------------------------------------------------- odd formats


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_in_exif_is_applied(tmp_path: Path, kind: str) -> None:
    corner = np.zeros((16, 32), np.uint8)
    corner[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    face = raw(tmp_path / "a.jpg", encoded(Image.fromarray(corner).convert("RGB"), kind, exif=exif.tobytes()))
    upright = face_pixels(face, 32).astype(int)[..., 0]
    assert upright[1:7, 18:].min() > 220  # top right after the turn
    assert max(upright[:, :14].max(), upright[10:].max()) < 30
    assert face.file is not None
    assert face_pixels(boxed(face.file, 8, 0, 8, 8), 8).min() > 200  # boxes are meant in the upright image


def test_cmyk(tmp_path: Path) -> None:
    red = Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        colour = face_pixels(raw(tmp_path / kind, encoded(red, kind)), SIZE).reshape(-1, 3).mean(0)
        np.testing.assert_allclose(colour, [255, 0, 0], atol=3)


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    flat = Image.fromarray(np.repeat([[[200, 30, 60]]], SIZE, 0).repeat(SIZE, 1).astype(np.uint8))
    palette = flat.quantize(4)
    for number, options in enumerate(({}, {"transparency": 0}, {"transparency": bytes([0, 128, 255, 255])})):
        for kind in ("PNG", "GIF"):
            if kind == "GIF" and isinstance(options.get("transparency"), bytes):
                continue
            face = raw(tmp_path / f"{number}.{kind}", encoded(palette, kind, **options))
            np.testing.assert_array_equal(face_pixels(face, SIZE), np.asarray(flat))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "1", "YCbCr"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.where(RAMP > 99, 255, 0).astype(np.uint8))
    image = grey.convert("RGB").convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(RAMP))  # it changes nothing
    face = stored(tmp_path / ("a.tif" if mode == "YCbCr" else "a.png"), image)
    np.testing.assert_array_equal(face_pixels(face, SIZE), np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize(("ending", "order"), [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, ending: str, order: str) -> None:
    levels = RAMP.astype(np.uint16) * 257
    face = stored(tmp_path / f"a.{ending}", Image.fromarray(levels.astype(order)))
    np.testing.assert_array_equal(face_pixels(face, SIZE), np.repeat(RAMP[..., None], 3, -1))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = stored(tmp_path / "b.png", Image.fromarray(levels), exif=exif.tobytes())
    np.testing.assert_array_equal(face_pixels(turned, SIZE)[..., 0], RAMP[::-1, ::-1])


def test_levels_without_a_known_range_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="floating-point levels"):
        face_pixels(stored(tmp_path / "a.tif", Image.fromarray(RAMP.astype(np.float32))), SIZE)
    with pytest.raises(Unreadable, match="outside of 0 to 65,535"):
        face_pixels(stored(tmp_path / "b.tif", Image.fromarray(RAMP.astype(np.int32) * 1000)), SIZE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), (level,) * 3) for level in (200, 10, 90)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(io.BytesIO(content)).n_frames == 3  # type: ignore[attr-defined]
    assert (face_pixels(raw(tmp_path / "a", content), SIZE) == 200).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a", "a.txt"])
def test_content_counts_not_the_ending(tmp_path: Path, name: str) -> None:
    face = raw(tmp_path / name, encoded(Image.fromarray(COLOURS), "PNG"))
    np.testing.assert_array_equal(face_pixels(face, SIZE), COLOURS)


# --------------------------------------------------------------------------------------------------------- unreadable


def spoilt(content: bytes) -> bytes:
    """A PNG whose pixels do not fit its checksum."""
    place = content.index(b"IDAT") + 10
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


COLOUR = Image.fromarray(COLOURS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda: b"", "an empty file"),
        (lambda: b"<html>no such image</html>", "no image of a known kind"),
        (lambda: encoded(COLOUR, "PNG")[:20], "Truncated File Read"),
        (lambda: encoded(COLOUR, "JPEG")[:-40], "truncated"),
        (lambda: encoded(COLOUR, "PNG")[:-40], "truncated"),
        (lambda: encoded(COLOUR, "BMP")[:-40], "truncated"),
        (lambda: encoded(COLOUR, "TIFF")[:400], "."),
        (lambda: encoded(COLOUR, "WEBP")[:-40], "."),
        (lambda: spoilt(encoded(COLOUR, "PNG")), "."),
        (lambda: encoded(COLOUR, "EPS"), "no image of a known kind"),  # would start another program
        (lambda: encoded(COLOUR, "PDF"), "no image of a known kind"),
    ],
)
def test_what_is_no_whole_image_is_unreadable(tmp_path: Path, content: Callable[[], bytes], why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        face_pixels(raw(tmp_path / "a.png", content()), SIZE)


def test_files_that_cannot_be_opened_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        face_pixels(Face("a", "train", "fear", "1", file=tmp_path / "none.png"), SIZE)
    with pytest.raises(Unreadable, match="Is a directory"):
        face_pixels(Face("a", "train", "fear", "1", file=tmp_path), SIZE)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_decompression_bomb_is_never_unpacked(tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    header = encoded(Image.new("1", (1, 1)), "PNG")
    bomb = header[:16] + side.to_bytes(4, "big") * 2 + header[24:]
    bomb = bomb[:29] + zlib.crc32(bomb[12:29]).to_bytes(4, "big") + bomb[33:]
    face = raw(tmp_path / "a.png", bomb)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("was unpacked"))
    with pytest.raises(Unreadable, match="more than 89,478,485 pixels"):
        face_pixels(face, SIZE)
    assert own_side(face) is None


def test_a_face_without_file_or_pixels_is_a_fault_of_the_reader() -> None:
    with pytest.raises(ValueError, match="either a file or pixels"):
        face_pixels(Face("a", "train", "fear", "1"), SIZE)


def test_own_sides(tmp_path: Path) -> None:
    def side(width: int, height: int) -> int | None:
        return own_side(stored(tmp_path / "a.png", Image.new("L", (width, height))))

    assert [side(48, 48), side(224, 224), side(225, 225), side(48, 50)] == [48, 224, LARGEST_NATIVE, LARGEST_NATIVE]
    assert own_side(boxed(tmp_path / "a.png", 0, 0, 5, 5)) == LARGEST_NATIVE
    assert own_side(raw(tmp_path / "b.png", b"text")) is None
    assert pixels.RESIZER == "PIL bicubic"
