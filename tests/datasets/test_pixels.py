"""Pixels of one face, from every kind of file that people have."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.datasets import pixels
from fergen_bench.datasets.pixels import LARGEST_NATIVE, Unreadable, decode_face, face_pixels, own_side
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


def test_bgr_is_emulated_on_request(tmp_path: Path) -> None:
    face = stored(tmp_path / "a.png", Image.fromarray(COLOURS))
    np.testing.assert_array_equal(face_pixels(face, SIZE, emulate_bgr=True), COLOURS[..., ::-1])
    np.testing.assert_array_equal(face_pixels(face, SIZE), COLOURS)


def test_a_table_of_grey_levels_becomes_a_square() -> None:
    face = Face("a", "train", "fear", "1", pixels=RAMP.tobytes())
    np.testing.assert_array_equal(face_pixels(face, SIZE), np.repeat(RAMP[..., None], 3, -1))
    assert own_side(face) == SIZE
    for levels in (b"", b"12345"):
        with pytest.raises(Unreadable, match="which do not form a square"):
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


def png16(levels: np.ndarray) -> bytes:
    """A PNG of 16 bits, in grey (height, width) or in colour (height, width, 3 or 4), which PIL cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, *channels = levels.shape
    kind = {1: 0, 3: 2, 4: 6}[channels[0] if channels else 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383), (16, 65535)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_levels_of_fewer_bits_in_sixteen_are_scaled_to_their_range(
    tmp_path: Path, bits: int, white: int, channels: int
) -> None:
    expected = np.repeat(RAMP[..., None], 3, -1).astype(np.float64) * np.linspace(1, 0.5, 3) / 255
    if channels == 1:
        expected = np.repeat(RAMP[..., None], 3, -1) / 255
    levels = np.rint(expected * white)
    levels.flat[:3] = white
    stored_levels = {1: levels[..., 0], 3: levels, 4: np.concatenate([levels, levels[..., :1]], -1)}[channels]
    face = raw(tmp_path / "a.png", png16(stored_levels))
    shown, source = decode_face(face, SIZE)
    assert (source.depth, source.white) == ("16-bit", white)
    assert np.abs(shown - levels / white * 255).max() <= 1  # PIL cuts the lower byte of 16-bit colours
    dark, _ = decode_face(face, SIZE, white=65535)
    assert np.abs(dark - levels / 65535 * 255).max() <= 1


def test_colours_of_twelve_bits_in_a_tiff_are_scaled(tmp_path: Path) -> None:
    levels = (RAMP.astype(np.uint16) * 16)[..., None] * np.array([1, 1, 1], np.uint16)
    tags = {256: (4, SIZE), 257: (4, SIZE), 258: (3, 16, 16, 16), 259: (3, 1), 262: (3, 2), 277: (3, 3), 284: (3, 1)}
    half = SIZE // 2 * SIZE * 6
    tags |= {278: (4, SIZE // 2), 279: (4, half, half), 273: (4, 512, 512 + half)}
    entries, extra = b"", b""
    at = 8 + 2 + 12 * len(tags) + 4
    for tag, (kind, *values) in sorted(tags.items()):
        data = b"".join(struct.pack("<H" if kind == 3 else "<I", value) for value in values)
        if len(data) > 4:
            entries += struct.pack("<HHII", tag, kind, len(values), at + len(extra))
            extra += data
        else:
            entries += struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + extra
    face = raw(tmp_path / "a.tif", header.ljust(512, b"\0") + levels.astype("<u2").tobytes())
    shown, source = decode_face(face, SIZE)
    assert source.white == 4095
    assert np.abs(shown[..., 1] - RAMP.astype(int)).max() <= 1


def test_a_tiff_of_sixteen_bits_in_which_zero_is_white_is_turned_round(tmp_path: Path) -> None:
    levels = Image.fromarray((255 - RAMP).astype(np.uint16) * 257)
    face = stored(tmp_path / "a.tif", levels, tiffinfo={262: 0})
    np.testing.assert_array_equal(face_pixels(face, SIZE)[..., 0], RAMP)


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_floating_point_levels_are_scaled_from_the_range_they_have(tmp_path: Path, white: int) -> None:
    levels = RAMP.astype(np.float32) / 255 * white
    levels[0, 0] = 1.03 * white  # as filters overshoot
    levels[0, 1] = -0.02 * white
    shown, source = decode_face(stored(tmp_path / "a.tif", Image.fromarray(levels)), SIZE)
    assert (source.depth, source.white) == ("float", white)
    assert np.abs(shown[1:, :, 0].astype(int) - RAMP[1:]).max() <= 1
    assert shown[0, :2, 0].tolist() == [255, 0]


def test_levels_outside_of_every_range_are_unreadable(tmp_path: Path) -> None:
    for place, levels in enumerate((RAMP.astype(np.int32) * 1000, RAMP * np.float32("nan"), RAMP * np.float32(1e6))):
        with pytest.raises(Unreadable, match="outside of 0 to 65,535"):
            face_pixels(stored(tmp_path / f"{place}.tif", Image.fromarray(levels)), SIZE)
    with pytest.raises(Unreadable, match=r"levels from -1 to 0.623529; save it with black as 0"):
        face_pixels(stored(tmp_path / "c.tif", Image.fromarray(RAMP.astype(np.float32) / 127.5 - 1)), SIZE)
    with pytest.raises(Unreadable, match=r"a level of 414, above the 255 that is given as white"):
        decode_face(stored(tmp_path / "d.tif", Image.fromarray(RAMP.astype(np.uint16) * 2)), SIZE, white=255)


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
        (lambda: b"<html>no such image</html>", "not an image of a known kind"),
        (lambda: encoded(COLOUR, "PNG")[:20], "Truncated File Read"),
        (lambda: encoded(COLOUR, "JPEG")[:-40], "truncated"),
        (lambda: encoded(COLOUR, "PNG")[:-40], "truncated"),
        (lambda: encoded(COLOUR, "BMP")[:-40], "truncated"),
        (lambda: encoded(COLOUR, "TIFF")[:400], "."),
        (lambda: encoded(COLOUR, "WEBP")[:-40], "."),
        (lambda: spoilt(encoded(COLOUR, "PNG")), "."),
        (lambda: encoded(COLOUR, "EPS"), "not an image of a known kind"),  # would start another program
        (lambda: encoded(COLOUR, "PDF"), "not an image of a known kind"),
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
