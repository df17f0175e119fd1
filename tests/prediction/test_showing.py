"""Each file has its own picture or video, whatever the names."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import Squares, classifier, scene, write_video

from fergen_bench.prediction.predictor import Predictor
from fergen_bench.prediction.showing import answered, places


def test_files_with_one_name_are_shown_apart() -> None:
    files = [Path(name) for name in ("a/x.jpg", "b/x.jpg", "b/X.png", "c/y.mp4")]
    assert [place.name for place in places(Path("to"), files)] == ["x", "x-2", "X-3", "y"]


def test_a_photograph_and_a_video_are_answered_and_shown(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `faces` is not installed")
    scene(("anger", 10, 20, 40)).save(tmp_path / "a.png")
    write_video(tmp_path / "b.mp4", [scene(("anger", 10 + at, 20, 60)) for at in range(10)])
    (tmp_path / "c.mp4").write_bytes(b"no video")
    predictor = Predictor(classifier(), Squares())
    found = {
        name: answered(predictor, tmp_path / name, 5, 0.5, tmp_path / "to" / name[0])
        for name in ("a.png", "b.mp4", "c.mp4")
    }
    assert [len(one.answers) for one in found.values()] == [1, 5, 0]
    assert {path.name for one in found.values() for path in one.shown} == {"a.jpg", "b.mp4", "b-time.png"}
    assert {path.name for path in (tmp_path / "to").iterdir()} == {"a.jpg", "b.mp4", "b-time.png"}
    quiet = answered(predictor, tmp_path / "b.mp4", 5, 0.5)
    assert (len(quiet.answers), quiet.shown) == (5, ())
