"""Statistics of pixels: their values, their oddities, and the reports of prepare, check and describe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from portraits import SIDE, folder, portrait, prepared, save8, warned
from test_pixels import png16

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import dataset
from fergen_bench.datasets.check import check_copy
from fergen_bench.datasets.pixels import Source
from fergen_bench.datasets.reader import Face
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.statistics import look, oddities, stored, white_levels
from fergen_bench.error import BenchError


def save_bits(bits: int) -> Callable[[Path, np.ndarray], None]:
    """Writes grey levels of so many bits into PNGs of 16."""

    def save(path: Path, pixels: np.ndarray) -> None:
        path.write_bytes(png16(np.rint(pixels[..., 1] / 255 * (2**bits - 1))))

    return save


def save_float(white: float) -> Callable[[Path, np.ndarray], None]:
    return lambda path, pixels: Image.fromarray((pixels[..., 1] / 255 * white).astype(np.float32)).save(path)


# -------------------------------------------------------------------------------------------------------------- numbers


def test_the_numbers_of_a_face_are_those_of_its_pixels() -> None:
    pixels = np.stack(
        [portrait(1), np.repeat(portrait(2)[..., 1:2], 3, -1), np.full((SIDE, SIDE, 3), (9, 7, 8), np.uint8)]
    )
    for faces in (pixels, pixels.repeat(5, 1).repeat(5, 2)):  # small ones are looked at whole, large ones on a grid
        table = look(faces, [Source(SIDE, SIDE)] * 3)
        darkest, brightest, mean, deviation, constant, grey, red, cheeks = table.T[:8]
        np.testing.assert_array_equal(darkest, pixels.min((1, 2, 3)))
        np.testing.assert_array_equal(brightest, pixels.max((1, 2, 3)))
        np.testing.assert_allclose(mean, pixels.mean((1, 2, 3)), rtol=0.03)
        np.testing.assert_allclose(deviation, pixels.std((1, 2)).mean(1), rtol=0.1)
        assert constant.tolist() == [0, 0, 1]
        assert grey.tolist() == [0, 1, 0]
        np.testing.assert_allclose(red, [50, 0, 1], atol=3)
        assert cheeks[:2].min() > 20
        np.testing.assert_allclose(look(faces, [Source(SIDE, SIDE)] * 3, bgr=True)[:, 6], -red)


def test_one_pixel_of_another_colour_is_found_beside_the_grid() -> None:
    faces = np.full((1, 240, 240, 3), 90, np.uint8)
    assert look(faces, [Source(240, 240)])[0, 4] == 1
    faces[0, 1, 1] = 91
    assert look(faces, [Source(240, 240)])[0, 4] == 0


def test_good_faces_are_described_and_nothing_is_odd(tmp_path: Path) -> None:
    root = folder(tmp_path / "lab")
    assert warned(root, tmp_path / "prepared") == []
    domain = Domain(tmp_path / "prepared")
    pixels = domain.about["pixels"]
    assert pixels["images"] == 56
    assert pixels["brightest"] == domain.faces.max()
    assert pixels["mean"] == pytest.approx(domain.faces.mean(), rel=0.03)
    assert pixels["deviation"] == pytest.approx(domain.faces.std(), rel=0.25)  # without the colours' differences
    assert pixels["per_expression"]["fear"]["images"] == 8
    of_fear = domain.faces[domain.labels == EXPRESSIONS.index("fear")]
    assert pixels["per_expression"]["fear"]["mean"] == pytest.approx(of_fear.mean(), rel=0.03)
    assert pixels["sizes"] == {"images": 56, "width": SIDE, "height": SIDE, "photographs": 0}


def test_damaged_statistics_are_ignored() -> None:
    for pixels in (None, [], {}, {"images": 3}, {"images": "many", "mean": {}}):
        assert stored({"pixels": pixels}) is None


# ------------------------------------------------------------------------------------------------------------- oddities


def test_images_of_one_colour_are_counted_and_named(tmp_path: Path) -> None:
    flat = {3: (200, 30, 40), 9: (0, 0, 0), 20: (128, 128, 128), 30: (1, 2, 3)}

    def change(number: int, pixels: np.ndarray) -> np.ndarray:
        if number == 40:
            return np.clip(pixels // 40 + 90, 0, 255).astype(np.uint8)
        return np.full_like(pixels, flat[number]) if number in flat else pixels

    constant, nearly = warned(folder(tmp_path / "lab", change=change), tmp_path / "prepared")
    assert constant.startswith("4 images of 56 have one colour each, such as test/")
    assert constant.count(".png") == 3
    assert nearly.startswith("1 image of 56 is nearly of one colour, such as test/")


def test_dark_datasets_and_dark_images_are_warned_of(tmp_path: Path) -> None:
    (dark,) = warned(folder(tmp_path / "a", change=lambda _, pixels: pixels // 16), tmp_path / "one")
    assert dark.startswith("the mean level of all images is 8.9 and the brightest 15 of 255, which")
    assert "very dark" in dark
    (black,) = warned(
        folder(tmp_path / "b", change=lambda number, pixels: pixels // 16 if number == 5 else pixels), tmp_path / "two"
    )
    assert black.startswith("1 image of 56 is nearly of one colour, such as train/fear/fear_1.png")


def test_negatives_and_bgr_are_distinguished(tmp_path: Path) -> None:
    (negative,) = warned(folder(tmp_path / "a", change=lambda _, pixels: 255 - pixels), tmp_path / "one")
    assert "100% of 56 colour images are bluer than red" in negative
    assert "inverted (negatives); convert" in negative
    bgr = folder(tmp_path / "b", change=lambda _, pixels: pixels[..., ::-1])
    (reversed_,) = warned(bgr, tmp_path / "two")
    assert "in BGR order, or inverted" in reversed_
    assert len(oddities(prepared(bgr, tmp_path / "three", emulate_bgr=True).about["pixels"])) == 1
    assert oddities(prepared(folder(tmp_path / "c"), tmp_path / "four", emulate_bgr=True).about["pixels"]) == []
    (grey,) = warned(folder(tmp_path / "d", change=lambda _, pixels: 255 - pixels[..., [1, 1, 1]]), tmp_path / "five")
    assert "eyes are brighter than cheeks" in grey


def test_an_expression_of_another_brightness_is_warned_of(tmp_path: Path) -> None:
    fear = EXPRESSIONS.index("fear")

    def change(number: int, pixels: np.ndarray) -> np.ndarray:
        return (pixels // 2) if number // 4 % 7 == fear else pixels

    (unlike,) = warned(folder(tmp_path / "a", change=change), tmp_path / "one")
    assert unlike.startswith("the mean level of fear is ")
    assert "a method could recognise fear by brightness alone" in unlike


# ------------------------------------------------------------------------------------------------------------ more bits


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383)])
def test_all_files_together_determine_the_bits(tmp_path: Path, bits: int, white: int) -> None:
    """Some files are so dark that alone they would be taken for files of fewer bits."""

    def change(number: int, pixels: np.ndarray) -> np.ndarray:
        return pixels // 3 if number % 5 == 0 else pixels

    plain = prepared(folder(tmp_path / "a", lambda p, x: save8(p, x[..., [1, 1, 1]]), change), tmp_path / "one")
    deep = prepared(folder(tmp_path / "b", save_bits(bits), change), tmp_path / "two")
    assert np.abs(plain.faces.astype(int) - deep.faces).max() <= 1
    (note,) = deep.about["notes"]
    assert note.startswith(f"56 16-bit images are read with {white} as white ({bits} bits), because no level of any")
    assert deep.about["pixels"]["mean"] == pytest.approx(plain.about["pixels"]["mean"], abs=1)
    assert oddities(deep.about["pixels"]) == []
    check = check_copy("lab", dataset("folder", "test"), DomainSettings(path=tmp_path / "b"), 1, lambda *_: None)
    assert check.pixels["mean"] == pytest.approx(plain.about["pixels"]["mean"], abs=1)
    assert note in [finding.what for finding in check.findings]


def test_sixteen_bits_that_are_used_need_no_word(tmp_path: Path) -> None:
    assert prepared(folder(tmp_path / "a", save_bits(16)), tmp_path / "one").about["notes"] == []


@pytest.mark.parametrize(("white", "said"), [(1, "1"), (255, "255")])
def test_the_range_of_floats_is_that_of_all_files(tmp_path: Path, white: float, said: str) -> None:
    plain = prepared(folder(tmp_path / "a", lambda p, x: save8(p, x[..., [1, 1, 1]])), tmp_path / "one")
    deep = prepared(folder(tmp_path / "b", save_float(white), ending="tif"), tmp_path / "two")
    assert np.abs(plain.faces.astype(int) - deep.faces).max() <= 1
    (note,) = deep.about["notes"]
    assert note.startswith(f"56 floating-point images are read with {said} as white, because no level of any")


@pytest.mark.parametrize(
    ("one", "other", "ending"), [(save_bits(8), save_bits(16), "png"), (save_float(1), save_float(255), "tif")]
)
def test_files_that_do_not_agree_are_refused_until_the_level_is_given(
    tmp_path: Path, one: Callable[[Path, np.ndarray], None], other: Callable[[Path, np.ndarray], None], ending: str
) -> None:
    root = folder(tmp_path / "a", one, ending=ending)
    for path in root.glob("test/*/*"):
        other(path, portrait(len(path.name)))
    with pytest.raises(
        BenchError, match=r"lab: 28 of 56 .* images have no level above .* such as train/\S+, train/"
    ) as no:
        prepared(root, tmp_path / "one")
    white = int(str(no.value).split("--white ")[1].split()[0])
    check = check_copy("lab", dataset("folder", "test"), DomainSettings(path=root), 1, lambda *_: None)
    assert check.failed
    assert any("28 of 56" in finding.what for finding in check.findings)
    assert (
        "28 images of 56 are nearly of one colour"
        in oddities(prepared(root, tmp_path / "one", white=white).about["pixels"])[0]
    )
    with pytest.raises(BenchError, match=r"above the 0\.5 that is given as white"):
        prepared(root, tmp_path / "two", white=0.5)


def test_a_dark_file_of_one_colour_does_not_count_as_another_range() -> None:
    faces = [Face(name, "train", "fear", "") for name in "abc"]
    sources = [Source(9, 9, "16-bit", 0, 60000), Source(9, 9, "16-bit", 0, 0), Source(9, 9)]
    table = look(np.zeros((3, 9, 9, 3), np.uint8), sources)
    assert white_levels(faces, table, None, "lab") == {"16-bit": 65535}


def test_a_preparation_that_goes_on_knows_what_it_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fergen_bench.datasets import draft as module

    monkeypatch.setattr(module, "BLOCK_BYTES", SIDE * SIDE * 3 * 5)
    root = folder(tmp_path / "a", save_bits(12), lambda number, pixels: pixels // 3 if number % 5 == 0 else pixels)
    whole = prepared(root, tmp_path / "one")
    broken = root / "test/neutral/neutral_3.png"
    content = broken.read_bytes()
    broken.write_bytes(b"no image")
    with pytest.raises(BenchError, match="1 file is missing or cannot be read"):
        prepared(root, tmp_path / "two")
    broken.write_bytes(content)
    again = prepared(root, tmp_path / "two")
    assert again.fingerprint == whole.fingerprint
    assert again.about["pixels"] == whole.about["pixels"]
