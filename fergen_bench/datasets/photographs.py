"""Recognise datasets of whole photographs instead of cropped faces.

The signs are the sizes of the images and, where the extra `faces` is installed, a detector that looks at some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fergen_bench.datasets.detector import has_detector, open_detector
from fergen_bench.datasets.pixels import Unreadable, open_face
from fergen_bench.datasets.reader import Face

ALIGNED: Mapping[str, tuple[int, int]] = {
    "rafdb": (100, 100),
    "ferplus": (48, 48),
    "fer2013": (48, 48),
    "mma": (48, 48),
    "sfew": (143, 181),
}
"""Dataset → width and height of the cropped faces that its owner distributes."""

LARGE = 500
"""Shorter side in pixels from which an image that is not square counts as a photograph."""
LANDSCAPE = 240
"""Shorter side in pixels from which an image that is wider than high counts as a photograph; faces are not wider."""
ASPECT = 1.25
"""Ratio of the sides from which an image is not square."""
ENOUGH = 0.3
"""Share of images that look like photographs from which a dataset consists of photographs."""
SAMPLE = 40
"""Number of images that the detector looks at."""
DETECTABLE = 160
"""Median shorter side in pixels from which the detector is used: smaller images are seldom whole photographs."""
SMALL = 0.2
"""Smallest share of a picture that the largest face covers in a cropped face."""
FEWEST = 5
"""Smallest number of images with a detected face for the detector to decide."""


def sizes(width: np.ndarray, height: np.ndarray, dataset: str) -> dict[str, int]:
    """Return a summary of the sizes of image files without boxes, for domain.json.

    Args:
        width: In pixels, of each file.
        height: In pixels, of each file.
        dataset: Name of the dataset.
    """
    shorter, aspect = np.minimum(width, height), width / height
    photographs = (shorter >= LARGE) & (np.maximum(aspect, 1 / aspect) >= ASPECT)
    photographs |= (shorter >= LANDSCAPE) & (aspect >= ASPECT)
    low, high = np.percentile(aspect, [10, 90])
    if np.median(shorter) >= LARGE and high >= 1.1 * low:
        photographs |= shorter >= LARGE  # crops would share one shape
    if (known := ALIGNED.get(dataset)) is not None:
        other = np.abs(np.log(aspect * known[1] / known[0])) > np.log(1.1)
        photographs |= other & (shorter > 1.5 * min(known))
    return {
        "images": len(width),
        "width": int(np.median(width)),
        "height": int(np.median(height)),
        "photographs": int(photographs.sum()),
    }


def detected(faces: Sequence[Face], shorter: np.ndarray) -> dict[str, int] | None:
    """Return the number of images of a sample in which a detector finds a face, and in which that face is small.

    Args:
        faces: Image files without boxes.
        shorter: The shorter side of each in pixels.

    Returns:
        The counts, or None where the images are too small for the detector or the extra `faces` is not installed.
    """
    if np.median(shorter) < DETECTABLE or not has_detector():
        return None
    sample = np.linspace(0, len(faces) - 1, min(SAMPLE, len(faces))).astype(int).tolist()
    shares = [share for row in sample if (share := largest_face(faces[row])) is not None]
    return {"looked_at": len(sample), "found": len(shares), "small": sum(share < SMALL for share in shares)}


def largest_face(face: Face) -> float | None:
    """Return the share of an image that its largest face covers, or None where the detector finds none."""
    try:
        image, _ = open_face(face)
    except Unreadable:
        return None
    return max((one.box[2] * one.box[3] / (image.width * image.height) for one in open_detector()(image)), default=None)


def warning(found: Mapping[str, int], seen: Mapping[str, int] | None) -> str | None:
    """Return a sentence about a dataset of photographs, or None. Where the detector finds faces, it decides.

    Args:
        found: The result of `sizes`.
        seen: The result of `detected`.
    """
    detector = seen is not None and seen["found"] >= max(FEWEST, 0.25 * seen["looked_at"])
    if seen is not None and detector:
        if seen["small"] < ENOUGH * seen["found"]:
            return None
        why = (
            f"a detector found a face in {seen['found']} of {seen['looked_at']} of them, and in "
            f"{seen['small'] / seen['found']:.0%} of these it covers less than {SMALL:.0%} of the picture"
        )
    elif found["photographs"] >= ENOUGH * found["images"]:
        why = f"{found['photographs']:,} of {found['images']:,} have the size and shape of photographs"
        if seen is None:
            why += " (pip install 'fergen-bench[faces]' lets a detector look at some)"
    else:
        return None
    return (
        f"the images look like whole photographs and not like cropped faces: they have {found['width']:,} × "
        f"{found['height']:,} pixels in the median, and {why}. Crop the faces with data prepare --crop faces, or give "
        f"their boxes in the columns left, top, width and height of a csv (data prepare csv)"
    )
