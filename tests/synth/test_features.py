"""Each feature of a rendered face changes the pixels around it, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.synth.render import render
from fergen_bench.synth.scene import Scene
from fergen_bench.synth.worlds import compose

STILL = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "shift_x": 0.0, "shift_y": 0.0, "jpeg": 0.0, "noise": 0.0, "blur": 0.0}


def changed(**columns: float) -> np.ndarray:
    """Return which pixels, (64, 64), change when columns of four frontal faces get other values."""
    before = compose("web", "test", np.arange(4), STILL)
    values = {name: np.full(len(before), value) for name, value in columns.items()}
    after = Scene({**before.columns, **values}, before.draws)
    faces = [render(scene, 64).astype(int) for scene in (before, after)]
    return (np.abs(faces[1] - faces[0]) > 2).any((0, 3))


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"au25": 1.5, "au26": 1.5}, slice(32, 64)),  # an open mouth
        ({"beard": 0.9, "moustache": 0.0}, slice(32, 61)),
        ({"au1": 1.5, "au2": 1.5, "au5": 1.5}, slice(12, 36)),  # brows and eyes
        ({"glasses": 1.0}, slice(23, 37)),
    ],
)
def test_a_feature_changes_its_part_of_the_face_alone(columns: dict[str, float], rows: slice) -> None:
    pixels = changed(**columns)
    assert pixels[rows].any()
    pixels[rows] = False
    assert not pixels.any()
