"""Answers are drawn where they belong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from pictures import scene
from PIL import Image, ImageColor

from fergen_bench.prediction.answer import Answer
from fergen_bench.prediction.drawing import COLOURS, MOST_SIDE, Film, annotated, save_picture, save_timeline, smoothed

SURE = np.array([0, 0, 0, 0.9, 0.1, 0, 0])


def drawn_colours(image: Image.Image, box: tuple[int, int, int, int]) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(image.crop(box)).reshape(-1, 3)}


def test_a_box_has_the_colour_of_its_expression_and_a_label() -> None:
    image = scene(("anger", 100, 80, 60))
    before = np.asarray(image).copy()
    for at_least, name in ((0.5, "happiness"), (0.95, "uncertain")):
        shown = annotated(image, [Answer("a", 0, (100, 80, 60, 60), SURE)], at_least)
        colour = ImageColor.getrgb(COLOURS[name])
        assert shown.getpixel((100, 110)) == colour
        assert {colour, (0, 0, 0)} <= drawn_colours(shown, (100, 60, 160, 80))
        assert shown.getpixel((130, 110)) == (40, 250, 40)
    np.testing.assert_array_equal(np.asarray(image), before)


def test_labels_stay_inside_and_large_pictures_become_smaller() -> None:
    image = scene(size=(4000, 300))
    shown = annotated(image, [Answer("a", 0, (3990, 0, 10, 300), SURE), Answer("a", 1, (0, 0, 10, 10), SURE)], 0)
    assert shown.size == (MOST_SIDE, 144)
    assert (0, 0, 0) in drawn_colours(shown, (MOST_SIDE - 200, 0, MOST_SIDE, 144))


def test_a_line_is_a_mean_over_its_neighbours_in_time() -> None:
    values = np.array([[0.0], [1.0], [0.0], [1.0]])
    np.testing.assert_allclose(smoothed(np.array([0, 10, 20, 30.0]), values), values)
    close = smoothed(np.array([0, 0.5, 1.0, 9.0]), values)
    np.testing.assert_allclose(close[:, 0], [0.5 / 1.5, 1 / 2, 0.5 / 1.5, 1.0])


def test_a_film_and_a_timeline_appear_when_they_are_complete(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `faces` is not installed")
    with Film(tmp_path / "a.mp4", 5) as film:
        for at in range(10):
            film.add(scene(("anger", 10 * at, 80, 60), size=(321, 241)))
        assert not (tmp_path / "a.mp4").exists()
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (10, 320, 240)
    assert float(frames[-1].time) == pytest.approx(1.8)
    with Film(tmp_path / "none.mp4", 5) as film:
        pass
    half = Film(tmp_path / "half.mp4", 5)
    with contextlib.suppress(RuntimeError), half:
        half.add(scene())
        raise RuntimeError("stopped")
    answers = [Answer("clip $1.mp4", face, (0, 0, 9, 9), SURE, None, at / 5) for at in range(9) for face in (0, 1)][:-1]
    save_timeline(answers, tmp_path / "a-time.png")
    save_picture(scene(), tmp_path / "a.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-time.png", "a.jpg", "a.mp4"]
    assert Image.open(tmp_path / "a-time.png").size[0] > 600
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
