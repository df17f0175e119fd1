"""Photographs, videos, a detector and a classifier for tests of predictions, without any real face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.data.facts import FaceCrop
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.detector import Detection
from fergen_bench.prediction.predictor import Classifier

GROUND = (90, 110, 130)
SKINS = {"happiness": (250, 40, 40), "anger": (40, 250, 40), "neutral": (40, 40, 250)}
"""The colour of a face of each of three expressions."""


def scene(*faces: tuple[str, int, int, int], size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return a picture with squares for faces: expression, left, top and side of each."""
    image = Image.new("RGB", size, GROUND)
    for expression, left, top, side in faces:
        image.paste(SKINS[expression], (left, top, left + side, top + side))
    return image


class Squares:
    """A detector of the squares of `scene`."""

    name = "squares 1"

    def __call__(self, image: Image.Image) -> list[Detection]:
        pixels, found = np.asarray(image).astype(int), []
        for colour in SKINS.values():
            rows, columns = np.nonzero(np.abs(pixels - colour).sum(2) < 150)
            if len(rows) > 20:
                left, top = float(columns.min()), float(rows.min())
                found.append(Detection((left, top, columns.max() - left + 1.0, rows.max() - top + 1.0), 0.9))
        return sorted(found, key=lambda one: -one.box[2] * one.box[3])


def by_colour(faces: np.ndarray) -> np.ndarray:
    """Return probabilities of 0.7 for the expression of the colour in the middle of each face."""
    middle = faces[:, faces.shape[1] // 2, faces.shape[2] // 2].astype(int)
    distance = np.stack([np.abs(middle - colour).sum(1) for colour in SKINS.values()], 1)
    names = [list(SKINS)[row] for row in distance.argmin(1)]
    probabilities = np.full((len(faces), len(EXPRESSIONS)), 0.05)
    probabilities[np.arange(len(faces)), [EXPRESSIONS.index(name) for name in names]] = 0.7
    return probabilities


def classifier(size: tuple[int, int] | None = (24, 24)) -> Classifier:
    return Classifier("by colour", by_colour, FaceCrop(size))


def write_video(
    path: Path, pictures: list[Image.Image], rate: int = 10, codec: str = "mpeg4", options: dict[str, str] | None = None
) -> Path:
    """Write pictures as a video."""
    import av

    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_image(picture)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
