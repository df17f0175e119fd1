"""Photographs and videos are found and read, and nothing else is opened."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from pictures import scene, write_video
from PIL import Image

from fergen_bench.datasets.pixels import Unreadable
from fergen_bench.error import BenchError
from fergen_bench.prediction.media import Video, media_files, open_photograph

av = pytest.importorskip("av", reason="the extra `faces` is not installed")


def film(path: Path, count: int = 20, **options: object) -> Path:
    """Write two seconds in which a face moves to the right."""
    moving = [scene(("happiness", 10 + 10 * at, 60, 60)) for at in range(count)]
    return write_video(path, moving, **options)  # type: ignore[arg-type]


def test_files_of_folders_count_by_their_endings_and_named_files_always(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.mov", "notes.txt", ".hidden.png", ".cache/x.png", "odd.face"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    inside = [tmp_path / name for name in ("a.mov", "b/1.png", "b/2.JPG")]
    assert media_files([tmp_path]) == inside
    assert media_files([tmp_path / "odd.face", tmp_path, tmp_path / "a.mov"]) == [tmp_path / "odd.face", *inside]
    with pytest.raises(BenchError, match="gone: does not exist"):
        media_files([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="neither photographs nor videos"):
        media_files([tmp_path / "empty"])


def test_pictures_of_answers_neither_count_nor_replace_a_photograph(tmp_path: Path) -> None:
    for name in ("a.jpg", "seen/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert media_files([tmp_path], tmp_path / "seen") == [tmp_path / "a.jpg"]
    assert media_files([tmp_path], tmp_path / "new") == [tmp_path / "a.jpg", tmp_path / "seen" / "a.jpg"]
    for paths in ([tmp_path], [tmp_path / "a.jpg"]):
        with pytest.raises(BenchError, match=r"--show: .* is the folder of a\.jpg, which would be replaced"):
            media_files(paths, tmp_path)


def test_a_photograph_is_upright(tmp_path: Path) -> None:
    image = scene(("anger", 10, 10, 40))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.rotate(180).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = np.asarray(open_photograph(tmp_path / "a.jpg")).astype(int)
    assert np.abs(upright - np.asarray(image)).mean() < 3


def test_some_pictures_of_each_second_are_read(tmp_path: Path) -> None:
    video = Video(film(tmp_path / "a.mp4"), per_second=5)
    found = list(video.pictures())
    assert [round(picture.seconds, 3) for picture in found] == [0.2 * at for at in range(10)] or np.allclose(
        [picture.seconds for picture in found], 0.2 * np.arange(10)
    )
    assert {picture.image.size for picture in found} == {(320, 240)}
    assert video.fault is None
    assert len(list(Video(tmp_path / "a.mp4", per_second=1000).pictures())) == 20


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", count=5)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the matrix of the track, of which nine numbers turn by 90 degrees clockwise
    content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 240 << 16, 0, 1 << 30)
    path.write_bytes(content)
    picture = next(iter(Video(path, 5).pictures())).image
    assert picture.size == (240, 320)
    expected = np.asarray(scene(("happiness", 10, 60, 60)).rotate(-90, expand=True)).astype(int)
    assert np.abs(np.asarray(picture) - expected).mean() < 12


def test_a_video_that_is_cut_is_read_to_its_last_picture(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", count=60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    video = Video(path, per_second=10)
    found = list(video.pictures())
    assert 10 < len(found) < 50
    assert video.fault is not None
    assert f"ends after {found[-1].seconds:.1f} s, and its header states 6.0 s" in video.fault


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_what_is_not_a_video_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (b"", b"no video", film(tmp_path / "b.mp4").read_bytes()[:2000]):
        path.write_bytes(content)
        with pytest.raises(Unreadable, match=r"not a video that can be read|without pictures"):
            list(Video(path, 5).pictures())


def test_lists_of_other_files_are_not_followed(tmp_path: Path) -> None:
    film(tmp_path / "real.mp4")
    lists = {
        "a.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.mp4\n#EXT-X-ENDLIST\n",
        "b.mp4": f"ffconcat version 1.0\nfile '{tmp_path}/real.mp4'\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(Unreadable, match="not a video that can be read"):
            list(Video(tmp_path / name, 5).pictures())
