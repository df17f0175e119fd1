"""Every face is answered, and every file that cannot be answered has a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import Squares, classifier, scene, write_video
from PIL import Image

from fergen_bench.data.facts import FaceCrop
from fergen_bench.prediction.predictor import Classifier, Predictor, Tracks


def predictor(**options: object) -> Predictor:
    return Predictor(classifier(), Squares(), **options)  # type: ignore[arg-type]


def test_every_face_of_a_photograph_is_answered_the_largest_first(tmp_path: Path) -> None:
    scene(("anger", 10, 20, 40), ("happiness", 150, 60, 90)).save(tmp_path / "a.png")
    of = predictor()
    image, answers = of.photograph(tmp_path / "a.png")
    assert image is not None
    assert [(one.face, one.expression(0), one.box) for one in answers] == [
        (0, "happiness", (150, 60, 90, 90)),
        (1, "anger", (10, 20, 40, 40)),
    ]
    assert {one.score for one in answers} == {0.9}
    assert of.remarks == [f"{tmp_path / 'a.png'}: 2 faces were found; face 0 is the largest"]
    assert answers[0].expression(0.8) == "uncertain"
    assert not of.unread


def test_faces_are_cut_out_as_squares_with_the_margin_and_size_of_the_training(tmp_path: Path) -> None:
    scene(("anger", 100, 80, 40)).save(tmp_path / "a.png")
    seen: list[np.ndarray] = []

    def look(faces: np.ndarray) -> np.ndarray:
        seen.append(faces)
        return np.eye(7)[:1]

    model = Classifier("m", look, FaceCrop((50, 40)))
    for margin, share in ((0.0, 1 / 1.06), (0.5, 1 / 1.06 / 2)):
        Predictor(model, Squares(), margin).photograph(tmp_path / "a.png")
        face = seen[-1][0]
        assert face.shape == (50, 40, 3)
        inside = (np.abs(face.astype(int) - (40, 250, 40)).sum(2) < 150).mean()
        assert inside == pytest.approx(share**2, rel=0.08)
    Predictor(model, None).photograph(tmp_path / "a.png")
    np.testing.assert_array_equal(seen[-1][0], np.asarray(scene(("anger", 100, 80, 40)).resize((40, 50), 3)))


def test_a_photograph_without_a_face_and_files_that_cannot_be_read_have_a_sentence(tmp_path: Path) -> None:
    scene().save(tmp_path / "empty.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.new("1", (60_000, 60_000)).save(tmp_path / "huge.png")
    of = predictor()
    assert of.photograph(tmp_path / "empty.png")[1] == []
    assert of.photograph(tmp_path / "broken.jpg") == (None, [])
    assert of.photograph(tmp_path / "huge.png") == (None, [])
    first, second, third = of.remarks
    assert first == f"{tmp_path / 'empty.png'}: no face was found"
    assert second.startswith(f"{tmp_path / 'broken.jpg'}: cannot be read: ")
    assert third.startswith(f"{tmp_path / 'huge.png'}: cannot be read: more than 89,478,485 pixels")
    assert [path.name for path in of.unread] == ["broken.jpg", "huge.png"]


def test_faces_keep_their_numbers_through_a_video(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `faces` is not installed")
    pictures = [scene(("anger", 5 + 6 * at, 20, 50), ("happiness", 200, 60 + 4 * at, 70)) for at in range(12)]
    path = write_video(tmp_path / "a.mp4", pictures)
    answers = [one for _, found in predictor().video(path, 10) for one in found]
    assert len(answers) == 24
    assert {(one.face, one.expression(0)) for one in answers} == {(0, "happiness"), (1, "anger")}
    assert sorted({round(one.seconds or 0.0, 2) for one in answers}) == pytest.approx(np.arange(12) / 10)


def test_a_cut_video_is_answered_up_to_its_end_and_a_broken_one_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `faces` is not installed")
    path = write_video(tmp_path / "a.mkv", [scene(("anger", 5 + at, 20, 50)) for at in range(60)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "b.mp4").write_bytes(b"no video")
    of = predictor()
    answers = [one for _, found in of.video(path, 10) for one in found]
    assert {one.expression(0) for one in answers} == {"anger"}
    assert 10 < len(answers) < 50
    assert not list(of.video(tmp_path / "b.mp4", 10))
    assert [path.name for path in of.unread] == ["a.mkv", "b.mp4"]
    assert "ends after" in of.remarks[0]
    assert f"{tmp_path / 'b.mp4'}: cannot be read: not a video" in of.remarks[1]


def test_a_face_that_was_missed_for_a_moment_keeps_its_number() -> None:
    tracks = Tracks()
    one, two = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 10.0, 10.0)
    assert tracks.numbers([one, two]) == [0, 1]
    assert tracks.numbers([two]) == [1]
    assert tracks.numbers([(51.0, 1.0, 10.0, 10.0), (1.0, 1.0, 10.0, 10.0), (90.0, 0.0, 9.0, 9.0)]) == [1, 0, 2]
    assert tracks.numbers([]) == []
