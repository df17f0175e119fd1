"""Draw answers: boxes and expressions on pictures, and the expressions of a face over the time of a video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.files.atomic import atomically
from fergen_bench.prediction.answer import UNCERTAIN

if TYPE_CHECKING:
    from PIL import Image

    from fergen_bench.prediction.answer import Answer

COLOURS = dict(
    zip(
        (*EXPRESSIONS, UNCERTAIN),
        ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#a0a0a0"),
        strict=True,
    )
)
"""A colour for each expression (Okabe and Ito), which people with colour blindness can distinguish."""
SMOOTHED = 1.0
"""Seconds over which a line is smoothed."""
MOST_SIDE = 1920
"""Longest side in pixels of an annotated picture."""


def annotated(image: Image.Image, answers: Sequence[Answer], at_least: float) -> Image.Image:
    """Return a picture with the box and the expression of every face, reduced where it is large.

    Args:
        image: The picture, in RGB.
        answers: The faces in it.
        at_least: The lowest probability of an expression that is not shown as uncertain.
    """
    from PIL import ImageDraw, ImageFont

    factor = min(1.0, MOST_SIDE / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    drawn = image.resize(size) if factor < 1 else image.copy()
    canvas = ImageDraw.Draw(drawn)
    points = max(11, round(0.02 * max(size)))
    font, line = ImageFont.load_default(points), max(1, points // 8)
    for answer in answers:
        left, top, width, height = (factor * value for value in answer.box)
        expression = answer.expression(at_least)
        colour = COLOURS[expression]
        right, bottom = min(left + width, size[0] - 1), min(top + height, size[1] - 1)
        canvas.rectangle((left, top, right, bottom), outline=colour, width=line)
        label = f"{expression} {100 * answer.confidence:.0f} %"
        wide, high = canvas.textbbox((0, 0), label, font)[2:]
        x = max(0.0, min(left, size[0] - wide - 2 * line))
        y = top - high - 2 * line if top >= high + 2 * line else min(bottom, size[1] - high - 2 * line)
        canvas.rectangle((x, y, x + wide + 2 * line, y + high + 2 * line), fill=colour)
        canvas.text((x + line, y + line), label, "black", font)
    return drawn


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture as JPEG or PNG, atomically; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as draft:
        image.save(draft, "PNG" if path.suffix == ".png" else "JPEG", quality=90)


class Film:
    """A video that is written picture by picture, and appears when it is complete.

    Attributes:
        pictures: The number of pictures; a file without any is not written.
    """

    def __init__(self, path: Path, per_second: float) -> None:
        """Describe a video, without creating it.

        Args:
            path: The file, ending in .mp4; its folder is created.
            per_second: Pictures of each second.
        """
        self.pictures = 0
        self._path, self._rate = path, Fraction(per_second).limit_denominator(1000)
        self._open = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, image: Image.Image) -> None:
        """Append a picture; all pictures have the size of the first."""
        import av

        if not self.pictures:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._open.enter_context(atomically(self._path))
            self._container = self._open.enter_context(av.open(str(draft), "w", format="mp4"))
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            # These codecs take even sides only.
            self._stream.width, self._stream.height = (max(2, side - side % 2) for side in image.size)
            self._stream.pix_fmt = "yuv420p"
            self._open.callback(self._mux, None)  # writes what the codec still has
        self.pictures += 1
        self._mux(av.VideoFrame.from_image(image.resize((self._stream.width, self._stream.height))))

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


def smoothed(seconds: np.ndarray, values: np.ndarray, span: float = SMOOTHED) -> np.ndarray:
    """Return values over time, each averaged with its neighbours by a triangle that spans `span` to either side.

    Args:
        seconds: Times, (N,), in any distance from each other.
        values: (N, K).
        span: Seconds after which a neighbour does not count.

    Returns:
        (N, K).
    """
    weights = np.maximum(1.0 - np.abs(seconds[:, None] - seconds[None]) / span, 0.0)
    averaged: np.ndarray = weights @ values / weights.sum(1, keepdims=True)
    return averaged


def save_timeline(answers: Sequence[Answer], path: Path) -> None:
    """Draw the probabilities of the face that is in most pictures of a video over time, smoothed, as PNG.

    Args:
        answers: The answers for one video, at least one, in order of time.
        path: The file.
    """
    from fergen_bench.report.canvas import blank, styled

    numbers = [one.face for one in answers]
    face = max(dict.fromkeys(numbers), key=numbers.count)
    chosen = [one for one in answers if one.face == face]
    seconds = np.array([one.seconds or 0.0 for one in chosen])
    lines = smoothed(seconds, np.stack([one.probabilities for one in chosen]))
    with styled(), atomically(path) as draft:
        figure = blank(8, 3.2, "constrained")
        axes = figure.add_subplot()
        for expression, line in zip(EXPRESSIONS, lines.T, strict=True):
            axes.plot(seconds, line, color=COLOURS[expression], label=expression, marker="" if len(line) > 1 else "o")
        name = Path(answers[0].file).name
        axes.set(xlabel="seconds", ylabel="probability", ylim=(0, 1), title=f"{name}, face {face}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(draft, format="png", dpi=120)
