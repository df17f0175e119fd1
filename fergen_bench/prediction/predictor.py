"""Answer photographs and videos with a classifier of faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fergen_bench.datasets.detector import intersection_over_union, square
from fergen_bench.datasets.pixels import Unreadable, cut
from fergen_bench.prediction.answer import Answer
from fergen_bench.prediction.media import Video, open_photograph
from fergen_bench.wording import many

if TYPE_CHECKING:
    from PIL import Image

    from fergen_bench.data.facts import FaceCrop
    from fergen_bench.datasets.detector import Detector
    from fergen_bench.datasets.reader import Box

SIZE = (224, 224)
"""Height and width in pixels of faces for a classifier that states no size."""
SAME_FACE = 0.2
"""Intersection over union from which boxes in consecutive pictures of a video are one face."""


@dataclass(frozen=True)
class Classifier:
    """A model that classifies faces.

    Attributes:
        name: Its name in messages.
        probabilities: Returns float (B, 7) for faces uint8 (B, height, width, 3), RGB.
        crop: The form of the faces that it was trained on.
        notes: Sentences for the user.
    """

    name: str
    probabilities: Callable[[np.ndarray], np.ndarray]
    crop: FaceCrop
    notes: tuple[str, ...] = ()


@dataclass
class Predictor:
    """Answers files.

    Attributes:
        classifier: The model.
        detector: Finds the faces; None where every picture is a face.
        margin: Share of the side of a face's crop that is added on each side.
        remarks: A sentence about each file that needs one.
        unread: The files that cannot be read, or not to their end.
    """

    classifier: Classifier
    detector: Detector | None
    margin: float = 0.0
    remarks: list[str] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)

    def photograph(self, path: Path) -> tuple[Image.Image | None, list[Answer]]:
        """Return a photograph, and an answer for each face in it, the largest first.

        The photograph is None, and a remark is added, where the file cannot be read.
        """
        try:
            image = open_photograph(path)
        except Unreadable as fault:
            self._fault(path, f"cannot be read: {fault}")
            return None, []
        answers = self._answers(path, image)
        if not answers:
            self.remarks.append(f"{path}: no face was found")
        elif len(answers) > 1:
            self.remarks.append(f"{path}: {many(len(answers), 'face', 'were')} found; face 0 is the largest")
        return image, answers

    def video(self, path: Path, per_second: float) -> Iterator[tuple[Image.Image, list[Answer]]]:
        """Yield the pictures of a video, and an answer for each face in each of them.

        A remark is added where the file cannot be read, or ends early; the pictures before that are answered.

        Args:
            path: The file.
            per_second: Most pictures of each second.
        """
        video, tracks, faces = Video(path, per_second), Tracks(), 0
        try:
            for seconds, image in video.pictures():
                answers = self._answers(path, image, seconds, tracks)
                faces += len(answers)
                yield image, answers
        except Unreadable as fault:
            self._fault(path, f"cannot be read: {fault}")
            return
        if video.fault is not None:
            self._fault(path, video.fault)
        if not faces:
            self.remarks.append(f"{path}: no face was found")

    def _fault(self, path: Path, what: str) -> None:
        self.unread.append(path)
        self.remarks.append(f"{path}: {what}")

    def _answers(
        self, path: Path, image: Image.Image, seconds: float | None = None, tracks: Tracks | None = None
    ) -> list[Answer]:
        """Return an answer for each face in a picture."""
        size = self.classifier.crop.size or SIZE
        if self.detector is None:
            boxes: list[Box] = [(0.0, 0.0, float(image.width), float(image.height))]
            scores: list[float | None] = [None]
            faces = [cut(image, None, size)]
        else:
            found = self.detector(image)
            boxes, scores = [one.box for one in found], [one.score for one in found]
            faces = [cut(image, square(one), size, self.margin) for one in found]
        if not faces:
            return []
        probabilities = self.classifier.probabilities(np.stack(faces))
        numbers = range(len(faces)) if tracks is None else tracks.numbers(boxes)
        whole = [_whole_pixels(box) for box in boxes]
        return [Answer(str(path), *parts, seconds) for parts in zip(numbers, whole, probabilities, scores, strict=True)]


class Tracks:
    """The numbers of the faces of a video."""

    def __init__(self) -> None:
        self._last: dict[int, Box] = {}
        self._count = 0

    def numbers(self, boxes: Sequence[Box]) -> list[int]:
        """Return the number of each face in the next picture: that of the face in the last one that overlaps most."""
        pairs = [
            (intersection_over_union(box, last), row, number)
            for row, box in enumerate(boxes)
            for number, last in self._last.items()
        ]
        known: dict[int, int] = {}
        for overlap, row, number in sorted(pairs, reverse=True):
            if overlap >= SAME_FACE and row not in known and number not in known.values():
                known[row] = number
        for row in range(len(boxes)):
            if row not in known:
                known[row], self._count = self._count, self._count + 1
        # A face that the detector misses in some pictures keeps its place, unless another is there now.
        self._last |= {known[row]: box for row, box in enumerate(boxes)}
        return [known[row] for row in range(len(boxes))]


def _whole_pixels(box: Box) -> tuple[int, int, int, int]:
    left, top, width, height = box
    return round(left), round(top), round(width), round(height)
