"""Find photographs and videos, and read their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fergen_bench.datasets.kinds import IMAGES
from fergen_bench.datasets.pixels import MOST_PIXELS, Unreadable, open_face
from fergen_bench.datasets.reader import Face
from fergen_bench.error import BenchError, reason

if TYPE_CHECKING:
    from PIL import Image

VIDEOS = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2"),
        *(".mkv", ".webm", ".avi", ".ogv", ".flv", ".wmv", ".asf"),
        *(".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts"),
    }
)
"""Endings of videos."""
_CONTAINERS = "mov,matroska,avi,ogg,flv,asf,mpeg,mpegts,mpegvideo"
"""Formats of videos that are read. Others of FFmpeg are lists of further files and addresses."""
LACKING_SECONDS = 0.5
"""A video that ends so much earlier than its header states is cut short."""
INSTALL = "pip install 'fergen-bench[faces]'"


def media_files(paths: Iterable[Path], show: Path | None = None) -> list[Path]:
    """Return the photographs and videos that paths name, those of folders sorted by name.

    Files in folders count by their endings, hidden ones do not, and a file that is named itself always does.

    Args:
        paths: Photographs, videos and folders.
        show: The folder for pictures of the answers; earlier ones in it do not count.

    Raises:
        BenchError: A path does not exist, a folder has neither photographs nor videos, or `show` is the folder of a
            file, which a picture of its answers could replace.
    """
    found: dict[Path, None] = {}
    shown = None if show is None else show.resolve()
    for path in paths:
        if path.is_dir():
            below = shown is not None and path.resolve() in shown.parents
            files = (file for file in sorted(path.rglob("*")) if not (below and shown in file.resolve().parents))
            inside = [file for file in files if _is_medium(file, path)]
            if not inside:
                raise BenchError(f"{path}: this folder has neither photographs nor videos; name another, or a file")
            found |= dict.fromkeys(inside)
        elif path.is_file():
            found[path] = None
        else:
            raise BenchError(f"{path}: does not exist; name a photograph, a video or a folder")
    for file in found:
        if shown == file.resolve().parent:
            raise BenchError(
                f"--show: {show} is the folder of {file.name}, which would be replaced; name another folder"
            )
    return list(found)


def _is_medium(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.suffix.lower() in IMAGES | VIDEOS and file.is_file()


def is_video(path: Path) -> bool:
    """Return True for the name of a video."""
    return path.suffix.lower() in VIDEOS


def open_photograph(path: Path) -> Image.Image:
    """Return a photograph in RGB, upright as its camera recorded it.

    Raises:
        Unreadable: The file cannot be decoded.
    """
    return open_face(Face(str(path), "test", "neutral", "", file=path))[0]


class Picture(NamedTuple):
    """One picture of a video."""

    seconds: float
    image: Image.Image


class Video:
    """The pictures of a video, a few of each second.

    Attributes:
        path: The file.
        fault: Why the last pictures are missing; None where they are not, and until the pictures were read.
    """

    def __init__(self, path: Path, per_second: float) -> None:
        """Describe a video, without opening it.

        Args:
            path: The file.
            per_second: Most pictures of each second.
        """
        self.path, self._step, self._last = path, 1 / per_second, 0.0
        self.fault: str | None = None

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures in order, upright, and set `fault` at the end.

        Raises:
            Unreadable: The file is not a video.
            BenchError: The package that reads videos is missing.
        """
        try:
            import av
        except ImportError:
            raise BenchError(f"{self.path}: videos need the package av; install it with: {INSTALL}") from None

        # Through an open file and a list of formats, so that no content of a file opens another file or an address.
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from None
        with file:
            try:
                container = av.open(file, container_options=options)
            except (av.FFmpegError, OSError, ValueError) as error:
                raise Unreadable(f"not a video that can be read ({reason(error)})") from None
            with container:
                if not container.streams.video:
                    raise Unreadable("a file without pictures")
                stream = container.streams.video[0]
                if stream.width * stream.height > MOST_PIXELS:
                    raise Unreadable(f"more than {MOST_PIXELS:,} pixels in a picture")
                try:
                    for seconds, image in self._due(container.decode(stream)):
                        yield Picture(seconds, image)
                except (av.FFmpegError, OSError, ValueError) as error:
                    self.fault = f"cannot be read after {self._last:.1f} s ({reason(error)})"
                    return
                stated = (container.duration or 0) / av.time_base
                if stated - self._last > LACKING_SECONDS:
                    self.fault = f"ends after {self._last:.1f} s, and its header states {stated:.1f} s"

    def _due(self, frames: Iterable[Any]) -> Iterator[tuple[float, Image.Image]]:
        """Yield the first picture of each step of time."""
        due = 0.0
        for frame in frames:
            self._last = self._last if frame.time is None else float(frame.time)
            if self._last >= due - 1e-6:
                due = self._step * (math.floor(self._last / self._step + 1e-6) + 1)
                yield self._last, frame.to_image().rotate(frame.rotation, expand=True)
